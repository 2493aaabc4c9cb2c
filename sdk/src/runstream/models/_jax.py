"""Parameters of jax, as trees of arrays such as flax, equinox and haiku have them: counts, leaves, and a file of arrays by path."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false
# (jax is not imported here, and may not be installed.)

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runstream.models._facts import Facts, Layer, numbers_in, size_of, type_name

if TYPE_CHECKING:
    from pathlib import Path

ENDING = ".npz"


def is_model(jax: Any, value: Any) -> bool:
    """Whether it is a tree in which there are arrays of jax."""
    return any(isinstance(one, jax.Array) for _, one in _leaves(jax, value))


def facts(jax: Any, model: Any, *, layers: bool) -> Facts:
    """What is known of it. All of it counts as trained, since trees do not say what is."""
    leaves = _arrays(jax, model)
    count = numbers_in(one for _, one in leaves)
    found = [Layer(name, type_name(one), numbers_in([one]), numbers_in([one]), output=size_of(tuple(one.shape)), dtype=str(one.dtype)) for name, one in leaves]
    return Facts("jax", type_name(model), count, count, sum(int(one.nbytes) for _, one in leaves), found if layers else ())


def _leaves(jax: Any, value: Any) -> list[tuple[str, Any]]:
    found, _ = jax.tree_util.tree_flatten_with_path(value)
    return [(jax.tree_util.keystr(path) or "value", leaf) for path, leaf in found]


def _arrays(jax: Any, value: Any) -> list[tuple[str, Any]]:
    return [(name, one) for name, one in _leaves(jax, value) if hasattr(one, "shape") and hasattr(one, "dtype") and hasattr(one, "nbytes")]


def save(jax: Any, model: Any, path: Path) -> None:
    """Writes its arrays by their paths in the tree, as numpy reads them. Raises ValueError for arrays of which each process has a part."""
    import numpy as np

    arrays: dict[str, Any] = {}
    for name, one in _arrays(jax, model):
        if not getattr(one, "is_fully_addressable", True):
            raise ValueError(f"each process holds a part of {name!r}: gather the whole tree first, and give that")
        plain = np.asarray(one)
        # bfloat16 and the like are types that numpy cannot read back by itself.
        arrays[name] = plain.astype("f4") if plain.dtype.kind == "V" else plain
    with path.open("wb") as file:
        np.savez(file, **arrays)
