"""Estimators of scikit-learn: what they learned, their steps, and a file. They have no parameters in the sense of networks; what counts are the numbers in what `fit` left."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false
# (scikit-learn is not imported here, and may not be installed.)

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from runstream.models._facts import Facts, Layer, numbers_in, type_name

if TYPE_CHECKING:
    from pathlib import Path

ENDING = ".pkl"
# What is left of the data and of the search, and not learned from it.
_NO_PARAMETERS = (
    "classes_",
    "feature_names_in_",
    "loss_curve_",
    "validation_scores_",
    "cv_results_",
    "support_",
    "_fit_X",
    "labels_",
    "X_train_",
    "y_train_",
    "singular_",
)
_DEPTH_MAX = 8


def facts(model: Any, *, layers: bool) -> Facts:
    """What is known of it; an estimator that was not fitted has learned nothing."""
    arrays = list(_arrays(model, 0))
    count = numbers_in(arrays) if arrays else None
    found = [_layer(name, one) for name, one in _steps(model)] if layers else ()
    return Facts("sklearn", type_name(model), count, count, sum(int(one.nbytes) for one in arrays) if arrays else None, found)


def _steps(model: Any) -> Iterator[tuple[str, Any]]:
    named = getattr(model, "steps", None) or getattr(model, "transformer_list", None)
    if named:
        yield from ((str(one[0]), one[1]) for one in named)
    else:
        yield type(model).__name__, model


def _layer(name: str, model: Any) -> Layer:
    arrays = list(_arrays(model, 0))
    count = numbers_in(arrays) if arrays else None
    width = getattr(model, "n_features_in_", None)
    outputs = getattr(model, "n_outputs_", None) or (len(model.classes_) if hasattr(model, "classes_") else None)
    return Layer(
        name,
        type_name(model),
        count,
        count,
        input=int(width) if width is not None else None,
        output=int(outputs) if isinstance(outputs, int) else None,
        dtype=str(arrays[0].dtype) if arrays else "",
    )


def _arrays(value: Any, depth: int) -> Iterator[Any]:
    """Arrays of numbers that an estimator learned, those of its parts and trees included."""
    if depth > _DEPTH_MAX or value is None:
        return
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        if getattr(value.dtype, "kind", "") in "biuf" and hasattr(value, "nbytes"):
            yield value
        elif getattr(value.dtype, "kind", "") == "O":
            yield from _each(value.ravel().tolist(), depth)
    elif isinstance(value, (list, tuple)):
        yield from _each(value, depth)
    elif type(value).__name__ == "Tree" and hasattr(value, "threshold"):
        yield from (value.feature, value.threshold, value.value)
    elif hasattr(value, "get_params"):
        for name, one in sorted(vars(value).items()):
            if _is_learned(name, one):
                yield from _arrays(one, depth + 1)


def _is_learned(name: str, value: Any) -> bool:
    """Whether an attribute is a part of the estimator, or something that `fit` left in it; of single numbers intercepts alone are, others say how the fit went."""
    if name in ("steps", "transformers_", "transformer_list"):
        return True
    if not name.endswith("_") or name.startswith(("_", "n_")) or name in _NO_PARAMETERS:
        return False
    return bool(getattr(value, "shape", True)) or name.startswith("intercept")


def _each(values: Any, depth: int) -> Iterator[Any]:
    for one in values:
        yield from _arrays(one, depth + 1)


def save(model: Any, path: Path) -> None:
    """Writes it with pickle, as scikit-learn advises: whoever reads it runs what is in it."""
    with path.open("wb") as file:
        pickle.dump(model, file, protocol=5)
