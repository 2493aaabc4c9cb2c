"""Models of keras: counts, layers, and a file that is the same from every rank."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false
# (keras is not imported here, and may not be installed.)

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

from runstream.models._facts import Facts, Layer, numbers_in, size_of, type_name
from runstream_producers.journal import values as val

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ENDING = ".keras"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_COPY_BYTES = 1 << 20


def facts(model: Any, *, layers: bool) -> Facts:
    """What is known of it; a model that has not been built has no numbers yet."""
    built = bool(getattr(model, "built", True)) and bool(model.weights)
    found = [_layer(one) for one in model.layers] if layers else ()
    if not built:
        return Facts("keras", type_name(model), None, None, None, found)
    return Facts("keras", type_name(model), numbers_in(model.weights), numbers_in(model.trainable_weights), _bytes(model.weights), found)


def _layer(layer: Any) -> Layer:
    return Layer(
        name=str(layer.name),
        type=type_name(layer),
        parameters=numbers_in(layer.weights) if layer.built else None,
        trainable=numbers_in(layer.trainable_weights) if layer.built else None,
        input=_shape(layer, "input"),
        output=_shape(layer, "output"),
        dtype=str(getattr(layer, "dtype", "") or ""),
    )


def _shape(layer: Any, which: str) -> Any:
    """The shape of what goes in or comes out; None for a layer that has not been called."""
    try:
        found = getattr(layer, which)
        return size_of(tuple(found.shape)) if hasattr(found, "shape") else [size_of(tuple(one.shape)) for one in found]
    except Exception as error:
        if val.from_signal(error):
            raise
        return None


def _bytes(weights: Iterable[Any]) -> int:
    import numpy as np

    total = 0
    for one in weights:
        try:
            width = np.dtype(str(one.dtype)).itemsize
        except TypeError:  # bfloat16 and the like.
            width = 2 if "16" in str(one.dtype) else 1
        total += numbers_in([one]) * width
    return total


def save(model: Any, path: Path) -> None:
    """Writes it in keras' own format, without the time of day that it notes in it: what is the same is the same file."""
    dated = path.with_name(f"dated{ENDING}")
    model.save(dated)
    with zipfile.ZipFile(dated) as source, zipfile.ZipFile(path, "w") as target:
        for name in sorted(source.namelist()):
            entry = zipfile.ZipInfo(name, _LONG_AGO)
            with source.open(name) as read, target.open(entry, "w", force_zip64=True) as write:
                if name == "metadata.json":
                    write.write(json.dumps(json.load(read) | {"date_saved": ""}, sort_keys=True).encode())
                    continue
                while data := read.read(_COPY_BYTES):
                    write.write(data)
    dated.unlink()
