"""Modules of torch: counts, layers, and their state as a file that is the same from every rank."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false
# (torch is not imported here, and may not be installed.)

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runstream.models._facts import Facts, Layer, size_of, type_name
from runstream_producers.journal import values as val

if TYPE_CHECKING:
    from pathlib import Path

ENDING = ".pt"
# Where layers keep what goes in and what comes out.
_INPUTS = ("in_features", "in_channels", "input_size", "num_embeddings", "embed_dim", "num_features", "normalized_shape", "num_channels")
_OUTPUTS = ("out_features", "out_channels", "hidden_size", "embedding_dim", "embed_dim", "num_features", "normalized_shape", "num_channels")


def is_model(torch: Any, value: Any) -> bool:
    """Whether it is a module, or the state of one."""
    return isinstance(value, torch.nn.Module) or is_state(torch, value)


def is_state(torch: Any, value: Any) -> bool:
    """Whether it is a mapping of names to tensors."""
    return isinstance(value, Mapping) and bool(value) and any(isinstance(one, torch.Tensor) for one in value.values())


def facts(torch: Any, model: Any, *, layers: bool) -> Facts:
    """What is known of it; parameters that are shared count once, those that have no shape yet not at all."""
    if is_state(torch, model):
        tensors = [one for one in model.values() if isinstance(one, torch.Tensor)]
        return Facts("torch", type_name(model), sum(one.numel() for one in tensors), None, _bytes(tensors))
    shaped = [one for one in model.parameters() if not _lacks_shape(one)]
    buffers = [one for one in model.buffers() if not _lacks_shape(one)]
    trainable = sum(one.numel() for one in shaped if one.requires_grad)
    found = [_layer(name, one) for name, one in model.named_modules() if not any(True for _ in one.children())] if layers else ()
    return Facts("torch", type_name(model), sum(one.numel() for one in shaped), trainable, _bytes([*shaped, *buffers]), found)


def _layer(name: str, module: Any) -> Layer:
    own = [one for one in module.parameters() if not _lacks_shape(one)]
    return Layer(
        name=name or type(module).__name__,
        type=type_name(module),
        parameters=sum(one.numel() for one in own),
        trainable=sum(one.numel() for one in own if one.requires_grad),
        input=next((size_of(found) for one in _INPUTS if (found := getattr(module, one, None)) is not None), None),
        output=next((size_of(found) for one in _OUTPUTS if (found := getattr(module, one, None)) is not None), None),
        dtype=str(own[0].dtype).removeprefix("torch.") if own else "",
    )


def _lacks_shape(tensor: Any) -> bool:
    return type(tensor).__name__.startswith("Uninitialized")


def _bytes(tensors: list[Any]) -> int:
    return sum(one.numel() * one.element_size() for one in tensors)


def save(torch: Any, model: Any, path: Path) -> None:
    """Writes its state, with every tensor in the host's memory, so that no rank's device shows in it. Raises ValueError for tensors of which each rank has a part."""
    state: Any = model if isinstance(model, Mapping) else model.state_dict()
    torch.save({name: _on_host(torch, name, one) for name, one in state.items()}, path)


def _on_host(torch: Any, name: str, value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    if val.is_distributed(value):
        try:
            value = val.local_of(value)
        except ValueError as error:
            raise ValueError(f"each rank holds a part of {name!r}: gather the whole state first, and give that") from error
    return value.detach().cpu()
