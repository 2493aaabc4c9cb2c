"""What is known of a data set: its library, how many samples and batches it has, how it is loaded, and its columns. Nothing of it is read."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

from runstream.models._facts import type_name
from runstream_producers.journal import values as val

TAKEN = "a DataLoader, Subset or Dataset of torch, an array, a table of pandas, a data set of Hugging Face or tensorflow, or a list"
_DEPTH_MAX = 8
_SHUFFLED = ("RandomSampler", "SubsetRandomSampler", "WeightedRandomSampler")


def facts(data: Any) -> dict[str, Any] | None:
    """What is known, without what is not; None for what is no data set. Raises what the data set's own methods raise."""
    found = _facts(data, 0)
    return None if found is None else {"class": type_name(data)} | {key: one for key, one in found.items() if one is not None}


def _facts(data: Any, depth: int) -> dict[str, Any] | None:
    torch: Any = sys.modules.get("torch.utils.data")
    if torch is not None and isinstance(data, torch.DataLoader):
        return _loader(data, depth)
    if torch is not None and isinstance(data, torch.Subset):
        inner = _facts(data.dataset, depth + 1) if depth < _DEPTH_MAX else None
        return {
            "framework": "torch",
            "samples": len(data.indices),
            "of": _length(data.dataset),
            "columns": (inner or {}).get("columns"),
            "dataset": type_name(data.dataset),
        }
    library = _library(data)
    if library == "pandas" and hasattr(data, "shape"):
        return _pandas(data)
    if library == "datasets":
        return _hugging_face(data)
    if torch is not None and isinstance(data, torch.Dataset):
        return {"framework": "torch", "samples": _length(data)}
    if hasattr(data, "cardinality") and hasattr(data, "element_spec"):
        size = int(data.cardinality())
        return {"framework": "tensorflow", "samples": size if size >= 0 else None, "elements": str(data.element_spec)}
    if hasattr(data, "shape") and hasattr(data, "dtype"):
        return _array(data, library)
    if isinstance(data, Mapping):
        return _columns(cast("Mapping[Any, Any]", data))
    return {"framework": "", "samples": len(cast("Sequence[Any]", data))} if isinstance(data, (list, tuple)) else None


def _loader(loader: Any, depth: int) -> dict[str, Any]:
    inner = (_facts(loader.dataset, depth + 1) if depth < _DEPTH_MAX else None) or {}
    batch_size = loader.batch_size
    if batch_size is None and loader.batch_sampler is not None:
        batch_size = getattr(loader.batch_sampler, "batch_size", None)
    return {
        "framework": "torch",
        "samples": inner.get("samples"),
        "batches": _length(loader),
        "batch_size": batch_size,
        "workers": loader.num_workers,
        "shuffled": _shuffled(loader),
        "drop_last": bool(loader.drop_last),
        "columns": inner.get("columns"),
        "dataset": type_name(loader.dataset),
    }


def _shuffled(loader: Any) -> bool | None:
    """Whether its order changes with each pass; None where its sampler does not say."""
    sampler = getattr(loader.batch_sampler, "sampler", None) or loader.sampler
    if hasattr(sampler, "shuffle"):
        return bool(sampler.shuffle)
    names = [one.__name__ for one in type(sampler).__mro__]
    if any(one in _SHUFFLED for one in names):
        return True
    return False if "SequentialSampler" in names else None


def _pandas(data: Any) -> dict[str, Any]:
    usage = data.memory_usage(index=True)
    columns: list[Any] = list(data.columns) if hasattr(data, "columns") else [data.name]
    types = list(data.dtypes) if hasattr(data, "columns") else [data.dtype]
    return {
        "framework": "pandas",
        "samples": len(data),
        "columns": [val.text_of(one) for one in columns],
        "dtypes": [str(one) for one in types],
        "shape": [int(one) for one in data.shape],
        "bytes": int(usage.sum()) if hasattr(usage, "sum") else int(usage),
    }


def _hugging_face(data: Any) -> dict[str, Any]:
    if isinstance(data, Mapping):
        splits = cast("Mapping[Any, Any]", data)
        counts = {val.text_of(name): _rows(one) for name, one in splits.items()}
        known = [one for one in counts.values() if one is not None]
        first = next(iter(splits.values()), None)
        return {
            "framework": "datasets",
            "samples": sum(known) if len(known) == len(counts) else None,
            "splits": counts,
            "columns": _names(getattr(first, "column_names", None)),
        }
    features = getattr(data, "features", None)
    return {
        "framework": "datasets",
        "samples": _rows(data),
        "columns": _names(getattr(data, "column_names", None)),
        "features": _described(features),
        "split": None if getattr(data, "split", None) is None else str(data.split),
        "fingerprint": getattr(data, "_fingerprint", None),
        "bytes": getattr(data, "dataset_size", None),
    }


def _described(features: Any) -> dict[str, str] | None:
    return {val.text_of(name): str(one) for name, one in cast("Mapping[Any, Any]", features).items()} if isinstance(features, Mapping) else None


def _rows(data: Any) -> int | None:
    found = getattr(data, "num_rows", None)
    return found if isinstance(found, int) else _length(data)


def _names(columns: Any) -> list[str] | None:
    return [val.text_of(one) for one in cast("Sequence[Any]", columns)] if isinstance(columns, (list, tuple)) else None


def _array(data: Any, library: str) -> dict[str, Any]:
    shape = [int(one) for one in data.shape]
    fields = getattr(data.dtype, "names", None)
    width = getattr(data.dtype, "itemsize", None)
    return {
        "framework": {"jaxlib": "jax"}.get(library, library),
        "samples": shape[0] if shape else 1,
        "columns": list(fields) if fields else None,
        "shape": shape,
        "dtype": str(data.dtype),
        "bytes": math.prod(shape) * width if isinstance(width, int) else None,
    }


def _columns(data: Mapping[Any, Any]) -> dict[str, Any]:
    lengths = {_length(one) for one in data.values()}
    return {"framework": "", "samples": lengths.pop() if len(lengths) == 1 else None, "columns": [val.text_of(one) for one in data]}


def _library(data: Any) -> str:
    """The library of the first class above its own that is not the user's: a table of a class of their own is one of pandas."""
    roots = [one.__module__.partition(".")[0] for one in type(data).__mro__]
    return next((one for one in roots if one in ("pandas", "datasets")), roots[0])


def _length(data: Any) -> int | None:
    try:
        return len(data)
    except Exception as error:  # Iterable ones have none, and say so in their own ways.
        if val.from_signal(error):
            raise
        return None
