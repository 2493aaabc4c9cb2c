"""Which library a model is of. A library that is not loaded has made no model, so nothing is imported here."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runstream.models import _jax, _keras, _sklearn, _torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from runstream.models._facts import Facts

TAKEN = "a module or state of torch, a model of keras, an estimator of scikit-learn, a tree of jax arrays"


@dataclass(frozen=True, slots=True)
class Known:
    """What can be done with a model: `facts(layers)` tells of it, `save(path)` writes it, to a file whose name ends so."""

    ending: str
    facts: Callable[[bool], Facts]
    save: Callable[[Path], None]


def known(model: Any) -> Known | None:
    """What a model is; None for what is none. Raises what the model's own methods raise."""
    torch, jax = _loaded("torch", "nn"), _loaded("jax", "tree_util")
    if torch is not None and _torch.is_model(torch, model):
        return Known(_torch.ENDING, lambda layers: _torch.facts(torch, model, layers=layers), lambda path: _torch.save(torch, model, path))
    roots = [(one.__module__.partition(".")[0], one.__name__) for one in type(model).__mro__]
    if ("keras", "Model") in roots or ("tf_keras", "Model") in roots:
        return Known(_keras.ENDING, lambda layers: _keras.facts(model, layers=layers), lambda path: _keras.save(model, path))
    if ("sklearn", "BaseEstimator") in roots:
        return Known(_sklearn.ENDING, lambda layers: _sklearn.facts(model, layers=layers), lambda path: _sklearn.save(model, path))
    if jax is not None and _jax.is_model(jax, model):
        return Known(_jax.ENDING, lambda layers: _jax.facts(jax, model, layers=layers), lambda path: _jax.save(jax, model, path))
    return None


def copy_of(source: Path) -> Known:
    """A file that somebody else has saved."""
    from runstream.models._facts import Facts

    return Known(source.suffix, lambda _: Facts("", "", None, None, None), lambda path: _copy(source, path))


def _copy(source: Path, path: Path) -> None:
    shutil.copyfile(source, path)


def _loaded(name: str, part: str) -> Any:
    module = sys.modules.get(name)
    return module if module is not None and hasattr(module, part) else None
