"""Keeps the compilers of training frameworks out of our code, without importing any of them.

torch.compile and tf.function follow a call into whatever Python it reaches. Of a log call they would make pieces of graphs, with a lock held in between, and take seconds for it; so the
functions that users call are marked, in the ways that those compilers look for. What surrounds the call is compiled as if the call were print.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

F = TypeVar("F", bound="Callable[..., Any]")

_WHY = "runstream logs as plain Python; the graph goes on behind the call"
_codes: list[CodeType] = []


class _Kept:
    """How many of the codes torch has been told of."""

    count = 0


def untraced(function: F) -> F:
    """Marks a function that compilers should call and not follow; costs its calls nothing."""
    marked: Any = function
    marked._torchdynamo_disable = True  # What torch.compiler.disable sets, whose wrapper would cost a microsecond a call.
    marked._torchdynamo_disable_msg = _WHY
    marked.autograph_info__ = {}  # What tf.autograph.experimental.do_not_convert comes to.
    _codes.append(marked.__code__)
    return function


def torch_is_loaded() -> bool:
    """Whether torch was imported in this process, whose compiler may come by."""
    return "torch" in sys.modules


def keep_out() -> None:
    """Tells torch, where it is loaded, not to compile the frames of marked functions nor those below them: the mark alone keeps them out of the caller's graph. Never raises."""
    if _Kept.count == len(_codes):
        return
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return
    _Kept.count = len(_codes)
    # Whatever another version makes of it: then our frames are compiled in pieces, which is slow once and right all the same.
    with contextlib.suppress(Exception):
        dynamo: Any = torch._C._dynamo.eval_frame
        skip = dynamo._FrameExecStrategy(dynamo._FrameAction.SKIP, dynamo._FrameAction.SKIP)
        for code in _codes:
            dynamo.set_code_exec_strategy(code, skip)
