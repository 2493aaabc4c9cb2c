"""What can stop a processor.

ProcessorsError
├── NotReady      something that must be there at the start (topics, partitions) did not come in time
└── EngineFailed  the stream engine stopped by itself; the process ends and its supervisor starts it again
"""


class ProcessorsError(Exception):
    """Root of this package's errors."""


class NotReady(ProcessorsError):
    """The topics are not what a worker needs; the message names them and says what was expected."""


class EngineFailed(ProcessorsError):
    """The stream engine crashed or stopped although nobody asked it to."""
