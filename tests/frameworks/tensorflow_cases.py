"""Values of tensorflow and keras, eager and in graphs: `python -m tests.frameworks.tensorflow_cases OUT`."""

from __future__ import annotations

import importlib
import sys
import traceback
from typing import Any

import numpy as np

import runstream
from tests.frameworks.cases import Cases

tf: Any = importlib.import_module("tensorflow")
keras: Any = importlib.import_module("keras")

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


class Telltale:
    """A number that notes which files called for it."""

    def __init__(self) -> None:
        self.files: list[str] = []

    def __float__(self) -> float:
        self.files += [frame.filename for frame in traceback.extract_stack()]
        return 1.0


def tensors(cases: Cases) -> None:
    """Tensors and variables that are numbers."""
    with cases("dtypes") as (run, _):
        run.log({name: tf.constant(1.5, getattr(tf, name)) for name in FLOATS} | {name: tf.constant(1, getattr(tf, name)) for name in INTEGERS})
        run.log({"bool": tf.constant(True), "nan": tf.constant(float("nan")), "inf": tf.constant(-float("inf"))})
        run.log({name: tf.cast(tf.constant(1.5), getattr(tf.dtypes.experimental, name)) for name in ("float8_e4m3fn", "float8_e5m2")})
    with cases("shapes") as (run, _):
        run.log({f"axes-{axes}": tf.fill((1,) * axes, 2.5) for axes in range(4)})
        run.log({"variable": tf.Variable(2.5), "one": tf.Variable([2.5]), "keras": keras.Variable(2.5), "string-of-one": tf.constant([["x"]])})
    with cases("in-place") as (run, _):
        loss, step = tf.Variable(1.0), tf.Variable(10, dtype=tf.int64)
        for _ in range(3):
            run.log({"loss": loss}, step=step)
            loss.assign_add(1.0)
            step.assign_add(1)
    with cases("params") as (run, _):
        run.log_params({"lr": tf.constant(0.5), "layers": tf.Variable(3), "flag": tf.constant([True])})

    def refused(name: str, value: Any) -> None:
        with cases(f"refused-{name}") as (run, _):
            run.log({"good": 1.0, "bad": value})

    refused("complex", tf.constant(1 + 2j))
    refused("string", tf.constant("1"))
    refused("two", tf.constant([1.0, 2.0]))
    refused("ragged", tf.ragged.constant([[1.0]]))
    refused("sparse", tf.sparse.from_dense([1.0]))
    refused("keras-tensor", keras.KerasTensor((), "float32"))


def graphs(cases: Cases) -> None:
    """Calls within tf.function, which happen once, while it traces."""

    def within(name: str, **options: Any) -> None:
        with cases(f"graph-{name}") as (run, notes):
            telltale = Telltale()

            def function(x: Any) -> Any:
                run.log({"bad": x, "good": telltale})
                if x > 0.0:  # AutoGraph turns this into a part of the graph.
                    x = x * 2.0
                return x

            compiled = tf.function(function, **options)
            notes["out"] = [float(compiled(tf.constant(value))) for value in (3.0, -3.0)]
            notes["generated"] = [one for one in telltale.files if "autograph_generated" in one and "tensorflow_cases" not in one]

    within("plain")
    within("xla", jit_compile=True)
    with cases("graph-module") as (_, notes):

        @tf.function
        def on_module(x: Any) -> Any:
            runstream.log({"bad": x, "good": 1.0})
            return x

        notes["out"] = [float(on_module(tf.constant(1.0)))]
    with cases("graph-variable") as (run, notes):
        variable = tf.Variable(3.0)

        @tf.function
        def on_variable() -> Any:
            run.log({"bad": variable, "good": 1.0})
            return variable + 1.0

        notes["out"] = [float(on_variable())]
    with cases("graph-py-function") as (run, notes):

        def log(x: Any) -> None:
            run.log({"loss": x})

        @tf.function
        def through(x: Any) -> Any:
            tf.py_function(log, [x], [])
            return x

        notes["out"] = [float(through(tf.constant(value))) for value in (1.0, 2.0)]


def trained(cases: Cases) -> None:
    """keras as its users train: a callback that logs, an optimizer's count as step, a metric's result."""
    with cases("fit") as (run, _):

        class Log(keras.callbacks.Callback):
            def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002 - keras gives it
                run.log(logs or {}, step=self.model.optimizer.iterations)

        model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse", metrics=["mae"])
        model.fit(np.ones((8, 4), dtype=np.float32), np.ones(8, dtype=np.float32), batch_size=2, epochs=1, verbose=0, callbacks=[Log()])
        mean = keras.metrics.Mean()
        mean.update_state(4.0)
        run.log({"mean": mean.result()}, step=100)


def main() -> None:
    """Goes through all cases."""
    cases = Cases()
    for part in (tensors, graphs, trained):
        part(cases)
    cases.write(sys.argv[1])


if __name__ == "__main__":
    main()
