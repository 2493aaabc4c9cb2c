"""Values that live on an accelerator: recognised without importing any library, copied there so that later changes do not reach them, and read when somebody has time to wait.

Reading such a value waits for all work that the device has been given before it, which would stall training; so `log` only takes what `reader_of` gives. A copy is one small
operation queued on the device: training loops add to the tensors that they log, and a tensor kept as it is would keep its whole graph.
"""

from __future__ import annotations

import math
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from runstream_producers.journal.compilers import keep_out
from runstream_producers.journal.values import from_signal, is_distributed, local_of

if TYPE_CHECKING:
    from collections.abc import Callable

_HOST = ("", "cpu", "meta")  # What is on no device has no value to wait for.


def reader_of(value: Any) -> Callable[[], Any] | None:
    """A function that waits for a device and returns the value; None for whatever can be read at once, or is no single number."""
    try:
        if getattr(value, "is_cpu", False) is True:  # The usual tensor of torch, told quickly.
            keep_out()
            return None
        device = getattr(value, "device", None)
        if device is None:
            return None
        kind = getattr(device, "type", None)
        if kind is not None:
            keep_out()
            if kind in _HOST or math.prod(value.shape) != 1:
                return None
            return _of_torch(local_of(value) if is_distributed(value) else value, device)
        if math.prod(value.shape) != 1:
            return None
        if callable(getattr(value, "devices", None)):
            return _of_jax(value)
        return _of_tensorflow(value, device) if isinstance(device, str) else None
    except Exception as error:
        if from_signal(error):
            raise
        return None  # Then it is read like any value, and refused if that raises too.


def _of_torch(value: Any, device: Any) -> Callable[[], Any]:
    copy = value.detach().clone()
    torch: Any = sys.modules.get("torch")
    if device.type != "cuda" or torch is None:
        return copy.item
    # The copy is made on the stream of the caller; the one who reads it waits for that alone, not for what is queued behind it.
    made = torch.cuda.Event()
    made.record(torch.cuda.current_stream(device))
    return partial(_read_cuda, torch, copy, made)


_side_streams: dict[Any, Any] = {}


def _read_cuda(torch: Any, copy: Any, made: Any) -> Any:
    made.synchronize()
    stream = _side_streams.get(copy.device)
    if stream is None:
        stream = _side_streams[copy.device] = torch.cuda.Stream(copy.device)
    with torch.cuda.stream(stream):
        return copy.item()


def _of_jax(value: Any) -> Callable[[], Any] | None:
    """Arrays of jax never change; on the CPU, too, they may not be computed yet."""
    if value.is_ready() and {one.platform for one in value.devices()} <= {"cpu"}:
        return None
    return partial(_read_jax, value)


def _read_jax(value: Any) -> Any:
    # Of an array that many processes hold alike, each reads its own.
    return (value if value.is_fully_addressable else value.addressable_data(0)).item()


def _of_tensorflow(value: Any, device: str) -> Callable[[], Any] | None:
    if device.upper().rpartition("/DEVICE:")[2].partition(":")[0] not in ("GPU", "TPU"):
        return None
    still = value.read_value() if hasattr(value, "read_value") else value  # A variable changes in its place.
    return still.numpy
