"""Values of torch, in every way that training loops have them: `python -m tests.frameworks.torch_cases OUT`."""

from __future__ import annotations

import collections
import gc
import importlib
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

import runstream
from tests.frameworks.cases import Cases

torch: Any = importlib.import_module("torch")

FLOATS = ("float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def tensors(cases: Cases) -> None:
    """Tensors that are numbers."""
    with cases("dtypes") as (run, _):
        run.log({name: torch.tensor(1.5).to(getattr(torch, name)) for name in FLOATS} | {name: torch.ones((), dtype=getattr(torch, name)) for name in INTEGERS})
        run.log({"bool": torch.tensor(True), "big": torch.tensor(2**53 - 1), "nan": torch.tensor(float("nan")), "inf": torch.tensor(-float("inf"))})
        run.log({"last-of-uint64": torch.tensor(2**64 - 1, dtype=torch.uint64), "e8m0": torch.tensor(4.0).to(torch.float8_e8m0fnu)})
    with cases("shapes") as (run, _):
        one: Any = type("One", (torch.Tensor,), {})
        run.log({f"axes-{axes}": torch.full((1,) * axes, 2.5) for axes in range(4)})
        run.log(
            {"parameter": torch.nn.Parameter(torch.tensor([2.5])), "subclass": torch.tensor(2.5).as_subclass(one), "sparse": torch.tensor([2.5]).to_sparse()}
        )
        run.log({"negative": torch.tensor(0 - 2.5j).conj().imag, "strided": torch.arange(10.0)[5:6] / 2, "expanded": torch.tensor(2.5).expand(1, 1)})
    with cases("modes") as (run, _):
        weight = torch.tensor(1.25, requires_grad=True)
        run.log({"grad": weight * 2, "leaf": weight})
        with torch.inference_mode():
            run.log({"inference": torch.tensor(1.25) * 2})
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            run.log({"autocast": torch.ones(1, 2) @ torch.ones(2, 1)})

        def square(x: Any) -> Any:
            run.log({"inside-grad": x})
            return x * x

        run.log({"gradient": torch.func.grad(square)(torch.tensor(1.25))})
    with cases("in-place") as (run, _):
        loss = torch.ones(())
        for step in range(3):
            run.log({"loss": loss, "twice": loss * 2}, step=step)
            loss.add_(1)
        loss.fill_(99.0)


def calls(cases: Cases) -> None:
    """Rows, steps and times that are made of tensors, and what a call keeps of them."""
    with cases("nested") as (run, _):
        layers: Any = collections.defaultdict(dict[str, Any], {0: {"norm": torch.tensor(1.5)}, 1: {"norm": np.float32(2.5)}})
        row = collections.OrderedDict[str, Any](loss=torch.tensor(0.5), layers=layers)
        run.log({"train": row, "lr": 0.1}, step=torch.tensor(7), time=torch.tensor(1.5e9, dtype=torch.float64), context="training")
        run.log({"lr": 0.2}, step=torch.tensor([8]))
    with cases("threads") as (run, notes):
        for step in range(20):
            run.log({"loss": torch.tensor(float(step))}, step=step)
        notes["threads"] = [thread.name for thread in threading.enumerate()]
    with cases("kept") as (run, notes):
        loss = torch.ones(4, requires_grad=True).sum()
        seen = weakref.ref(loss)
        run.log({"loss": loss})
        run.log({"loss": loss, "bad": torch.ones(4)})
        del loss
        gc.collect()
        notes["gone"] = seen() is None
    with cases("params") as (run, _):
        run.log_params({"lr": torch.tensor(0.5, dtype=torch.float64), "layers": torch.tensor(3), "flag": torch.tensor([True]), "betas": [torch.tensor(0.5)]})


def refused(cases: Cases) -> None:
    """What is no number, or has no value; the rest of each row is kept."""
    fake: Any = importlib.import_module("torch._subclasses.fake_tensor")

    def alone(name: str, value: Any) -> None:
        with cases(f"refused-{name}") as (run, _):
            run.log({"good": 1.0, "bad": value})
            run.log({"good": 2.0, "bad": value})

    alone("complex", torch.tensor(1 + 2j))
    alone("two", torch.ones(2))
    alone("none", torch.ones(0))
    alone("meta", torch.ones((), device="meta"))
    alone("uninitialized", torch.nn.parameter.UninitializedParameter())
    alone("jagged", torch.nested.nested_tensor([torch.ones(1)], layout=torch.jagged))
    with fake.FakeTensorMode():
        alone("fake", torch.ones(()) * 2)

    def mapped(x: Any) -> Any:
        alone("vmap", x)
        return x * 2

    with cases("vmap-goes-on") as (_, notes):
        notes["out"] = torch.func.vmap(mapped)(torch.ones(3)).tolist()


def compiled(cases: Cases) -> None:
    """Loops under torch.compile: what dynamo makes of a log call is counted."""
    warnings.simplefilter("default")  # Dynamo's own, about gradients of what it traces.
    dynamo: Any = importlib.import_module("torch._dynamo")
    counters: Any = importlib.import_module("torch._dynamo.utils").counters
    model = torch.nn.Linear(4, 1)

    def watch(name: str, log: Callable[[runstream.Run, Any, int], None], steps: int = 4) -> None:
        with cases(name) as (run, notes):
            dynamo.reset()
            counters.clear()

            def step(x: Any, number: int) -> Any:
                loss = model(x).sum()
                log(run, loss, number)
                return loss * 3

            fast = torch.compile(step, backend="eager", dynamic=True)
            notes["out"] = [float(fast(torch.ones(2, 4), number).detach()) for number in range(steps)]
            notes["expected"] = float(model(torch.ones(2, 4)).sum().detach())
            notes["reasons"] = [reason[:300] for reason in counters["graph_break"]]
            notes["frames"] = counters["frames"]["total"]

    def on_run(run: runstream.Run, loss: Any, number: int) -> None:
        run.log({"loss": loss, "twice": loss * 2}, step=number)

    def on_module(_: runstream.Run, loss: Any, number: int) -> None:
        runstream.log({"loss": loss, "twice": loss * 2}, step=number)

    def records(run: runstream.Run, loss: Any, number: int) -> None:
        run.log_params({"number": number})
        run.log_event("step")
        run.log({"loss": loss}, step=number)

    watch("compiled", on_run)
    watch("compiled-module", on_module)
    watch("compiled-records", records)
    with cases("compiled-fullgraph") as (run, _):

        def whole(x: Any) -> Any:
            run.log({"loss": x.sum()})
            return x * 2

        torch.compile(whole, backend="eager", fullgraph=True)(torch.ones(2))


def cuda(cases: Cases) -> None:
    """Tensors on a GPU, where there is one: they are read by another thread, with the value that they had in the call."""
    with cases("cuda") as (run, notes):
        notes["available"] = torch.cuda.is_available()
        if notes["available"]:
            loss = torch.ones((), device="cuda", requires_grad=True) * 0.5
            with torch.no_grad():
                for step in range(100):
                    run.log({"loss": loss, "host": float(step)}, step=step)
                    loss.add_(1)
            run.log({"two": torch.ones(2, device="cuda"), "good": 1.0}, step=100)
            notes["threads"] = [thread.name for thread in threading.enumerate()]


def main() -> None:
    """Goes through all cases."""
    cases = Cases()
    for part in (tensors, calls, refused, compiled, cuda):
        part(cases)
    cases.write(sys.argv[1])


if __name__ == "__main__":
    main()
