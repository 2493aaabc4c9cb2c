"""Images as the bytes of a file: those of files and of PIL as they are, arrays as PNG, which needs no library. Raises BadValue."""

from __future__ import annotations

import os
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, cast

from runstream.media import _plain
from runstream.media._types import BadValue, Value
from runstream_producers.journal import values as val
from runstream_producers.journal.blobs import array_of

PNG = "image/png"
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
)
# What PNG calls colour types, by the number of channels.
_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}
# Of PIL, which others become: of its modes PNG has these.
_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
_AXES = "(height, width), or (height, width, channels) or (channels, height, width) with 1, 3 or 4 channels"


def image(data: Any, bytes_max: int) -> Value:
    """A path, the bytes of an image file, an image of PIL, or an array. A file of more bytes than this is not read."""
    if isinstance(data, (str, os.PathLike)):
        return _file(Path(cast("str", data)), bytes_max)
    if isinstance(data, (bytes, bytearray, memoryview)):
        return _encoded(bytes(cast("bytes", data)), "data of image")
    if hasattr(data, "save") and hasattr(data, "mode"):
        return _of_pil(data)
    return _array(data)


def too_large(size: int, bytes_max: int) -> BadValue:
    """What refuses a value for its size."""
    return BadValue(f"a value may have {bytes_max:,} bytes (setting media_bytes_max), got {size:,}: log it with log_artifact, or a smaller one")


def _file(path: Path, bytes_max: int) -> Value:
    try:
        size = path.stat().st_size
        if not path.is_file():  # A pipe would be waited for.
            raise ValueError("it is no file")
        if size > bytes_max:
            raise too_large(size, bytes_max)
        return _encoded(path.read_bytes(), str(path))
    except (OSError, ValueError) as error:
        if isinstance(error, BadValue):
            raise
        raise BadValue(f"data of image must be the path of an image file, got {val.shown(str(path))} ({getattr(error, 'strerror', None) or error})") from error


def _encoded(data: bytes, where: str) -> Value:
    mime_type = type_of(data)
    if not mime_type:
        raise BadValue(f"{where} must be a PNG, JPEG, GIF, WebP, BMP or TIFF, got {len(data)} bytes that begin with {data[:12]!r}")
    return Value(mime_type, data)


def type_of(data: bytes) -> str:
    """The type of an image by its first bytes; empty if it is none."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((mime_type for signature, mime_type in _SIGNATURES if data.startswith(signature)), "")


def _of_pil(data: Any) -> Value:
    out = BytesIO()
    try:
        (data if data.mode in _PNG_MODES else data.convert("I;16" if data.mode == "I" else "RGB")).save(out, format="PNG")
    except Exception as error:
        if val.from_signal(error):
            raise
        raise BadValue(f"data of image must be an image that can be saved, got {val.told(data)} ({val.said(error)})") from error
    return Value(PNG, out.getvalue(), {"width": int(data.width), "height": int(data.height)})


def _array(data: Any) -> Value:
    import numpy as np

    try:
        array = array_of(data)
    except ValueError as error:
        raise BadValue(f"data of image must be a path, bytes, an image of PIL or an array: {error}") from None
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise BadValue(f"data of image must have shape {_AXES}, got {_plain.shape_of(data)}")
    if array.dtype.kind == "b":
        array = array * np.uint8(255)
    elif array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not 0.0 <= low <= high <= 1.0:
            raise BadValue(f"floats of image must be from 0 to 1, got values from {low:g} to {high:g}: scale them, or give integers from 0 to 255")
        array = np.rint(array.astype("f8") * 255.0).astype(np.uint8)
    elif array.dtype.kind in "iu" and array.dtype != np.uint16:
        low, high = int(array.min()), int(array.max())
        if low < 0 or high > 255:
            raise BadValue(f"integers of image must be from 0 to 255, or of dtype uint16, got {array.dtype} from {low} to {high}")
        array = array.astype(np.uint8)
    elif array.dtype.kind == "c":
        raise BadValue(f"data of image must be real numbers, got {array.dtype}")
    return Value(PNG, png(array), {"width": int(array.shape[1]), "height": int(array.shape[0])})


def png(array: Any) -> bytes:
    """An array of uint8 or uint16, height by width by channels, as a PNG."""
    height, width, channels = array.shape
    depth = 16 if array.dtype.itemsize == 2 else 8
    rows = array.astype(">u2" if depth == 16 else "u1").reshape(height, -1)
    # Each line begins with the number of its filter: none.
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", width, height, depth, _COLOURS[channels], 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(lines, 6)), (b"IEND", b""))
    return _SIGNATURES[0][0] + b"".join(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks)
