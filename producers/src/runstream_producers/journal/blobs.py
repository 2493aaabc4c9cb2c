"""Values of metrics that are no numbers: texts, bytes, and arrays of several elements, as the fields of a `Value` record in JSON.

Arrays are known by their interface and no library is imported: numpy's and whatever gives itself as one of numpy's. Those on a device are refused, since reading them would
make training wait.
"""

from __future__ import annotations

import base64
import json
import math
import sys
from typing import Any, cast

from runstream_producers.journal import values as val

_HOST = ("", "cpu", "meta")
# Kinds of numpy's types whose elements are numbers: bool, integers, floats, complex.
_NUMBERS = "biufc"


def blob_of(value: Any) -> dict[str, Any] | None:
    """The fields kind, value, dtype, shape and data of a value; None for what is no text, bytes or array. Raises ValueError, in words for the user, for an array that cannot be taken."""
    if isinstance(value, str):
        return {"kind": "string", "value": json.dumps(val.text_of(value))}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"kind": "bytes", "data": base64.b64encode(bytes(cast("bytes", value))).decode()}
    array = _as_numpy(value) if _is_array(value) else None
    if array is None or getattr(array.dtype, "kind", "") not in _NUMBERS:
        return None
    return {
        "kind": "tensor",
        "dtype": array.dtype.str,
        "shape": [int(size) for size in array.shape],
        "data": base64.b64encode(array.tobytes()).decode(),
    }


def array_of(value: Any) -> Any:
    """A list of numbers, an array or a tensor in the host's memory as an array of numpy. Raises ValueError, in words for the user, for anything else."""
    import numpy as np

    found: Any = None
    if isinstance(value, (list, tuple, range)):
        try:
            found = np.asarray(value)
        except Exception as error:
            if val.from_signal(error):
                raise
    elif hasattr(value, "shape") or hasattr(value, "__array__"):
        found = _as_numpy(value)
    if found is None or getattr(found.dtype, "kind", "") not in _NUMBERS:
        raise ValueError(f"expected numbers, got {val.told(cast('Any', value))}")
    return found


def _is_array(value: Any) -> bool:
    """Whether it says that it has several elements. Does not raise, whatever the value is."""
    try:
        return math.prod(value.shape) > 1 and value.dtype is not None
    except Exception as error:
        if val.from_signal(error):
            raise
        return False


def _as_numpy(value: Any) -> Any:
    """The value as an array of numpy in the host's memory; None for what gives none. Raises ValueError for one on a device."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        return value
    _check_place(value)
    try:
        plain = value.detach() if hasattr(value, "detach") else value
        if hasattr(plain, "numpy"):
            try:
                array = plain.numpy()
            except TypeError:  # Types of torch that numpy lacks, such as bfloat16.
                array = plain.float().numpy()
        else:
            import numpy as np

            array = np.asarray(plain)
        return array.astype("f4") if getattr(array.dtype, "kind", "") == "V" and "float" in str(array.dtype) else array
    except Exception as error:
        if val.from_signal(error):
            raise
        return None


def _check_place(value: Any) -> None:
    device = getattr(value, "device", None)
    kind = getattr(device, "type", None)
    on_device = kind not in _HOST if isinstance(kind, str) else isinstance(device, str) and "GPU" in device.upper()
    if not on_device and callable(getattr(value, "devices", None)):
        on_device = _is_jax_device(value)
    if on_device:
        raise ValueError(f"{val.told(value)} is on a device, and reading it would make training wait: log a copy in the host's memory, such as its .cpu()")


def _is_jax_device(value: Any) -> bool:
    try:
        return {one.platform for one in value.devices()} != {"cpu"}
    except Exception as error:
        if val.from_signal(error):
            raise
        return False
