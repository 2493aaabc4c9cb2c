"""What a process and its children write to stdout and stderr, recorded as events while the terminal sees it as before. docs/decisions has why it is a process of its own.

`capture` is the training process's side, `helper` the process that reads, `lines` what becomes of bytes, `wire` what the two tell each other.
"""

from runstream._console.capture import Console, begin

__all__ = ["Console", "begin"]
