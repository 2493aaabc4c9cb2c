"""Values of jax, computed, being computed, traced and donated: `python -m tests.frameworks.jax_cases OUT`. Its CPU is made to look like two devices."""

from __future__ import annotations

import importlib
import os
import sys
import threading
import warnings
from typing import Any

from tests.frameworks.cases import Cases

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
jax: Any = importlib.import_module("jax")
np: Any = importlib.import_module("jax.numpy")

FLOATS = ("float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "float8_e5m2", "float8_e4m3b11fnuz", "float4_e2m1fn")
INTEGERS = ("int2", "uint2", "int4", "uint4", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def arrays(cases: Cases) -> None:
    """Arrays that are numbers."""
    with cases("dtypes") as (run, _):
        run.log({name: np.asarray(1.5, dtype=name) for name in FLOATS} | {name: np.ones((), dtype=name) for name in INTEGERS})
        run.log({"bool": np.asarray(True), "nan": np.asarray(float("nan")), "inf": np.asarray(-float("inf")), "e8m0": np.asarray(4.0, dtype="float8_e8m0fnu")})
    with cases("shapes") as (run, _):
        run.log({f"axes-{axes}": np.full((1,) * axes, 2.5) for axes in range(4)})
        run.log({"weak": np.asarray(2.5), "scalar": np.float32(2.5), "slice": np.arange(10.0)[5] / 2, "reduced": np.ones(5).sum() / 2})
    with cases("sharded") as (run, notes):
        sharding: Any = importlib.import_module("jax.sharding")
        mesh = jax.make_mesh((2,), ("d",), axis_types=(sharding.AxisType.Auto,))
        notes["devices"] = len(jax.devices())
        put = sharding.NamedSharding(mesh, sharding.PartitionSpec())
        split = sharding.NamedSharding(mesh, sharding.PartitionSpec("d"))
        run.log({"replicated": jax.device_put(2.5, put), "mean": np.mean(jax.device_put(np.full(4, 2.5), split))}, step=np.asarray(7))
    with cases("params") as (run, _):
        run.log_params({"lr": np.asarray(0.5), "layers": np.asarray(3), "flag": np.asarray([True])})


def work(x: Any) -> Any:
    """Keeps a CPU busy for some tenths of a second, and gives the number that it was given and a quarter."""

    def once(_: Any, matrix: Any) -> Any:
        return matrix @ matrix / 500.0

    return jax.lax.fori_loop(0, 20, once, np.ones((500, 500), "float32")).sum() * 0.0 + x + 0.25


def waiting(cases: Cases) -> None:
    """Arrays that are not computed yet, which a call does not wait for; a donated one, and one that is deleted before it was read."""
    slow = jax.jit(work)
    slow(np.float32(0)).block_until_ready()
    with cases("waiting") as (run, notes):
        made = [slow(np.float32(number)) for number in range(4)]
        for step, value in enumerate(made):
            run.log({"loss": value, "host": float(step)}, step=step)
        notes["ready"] = [bool(value.is_ready()) for value in made]
        notes["threads"] = [thread.name for thread in threading.enumerate()]
    with cases("donated") as (run, notes):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given = np.ones(()).block_until_ready()
            kept = jax.jit(np.negative, donate_argnums=0)(given)
        notes["deleted"] = given.is_deleted()
        run.log({"given": given, "kept": kept.block_until_ready()})
    with cases("deleted") as (run, _):
        made = [slow(np.float32(number)) for number in range(4)]
        for value in made[:3]:
            run.log({"first": value})  # The thread waits for these meanwhile.
        run.log({"last": made[3], "good": 1.0})
        made[3].delete()


def traced(cases: Cases) -> None:
    """Calls within functions that jax transforms: what has no value is refused, and the function is what it was."""

    def within(name: str, transform: Any, *arguments: Any) -> None:
        with cases(f"traced-{name}") as (run, notes):

            def function(x: Any) -> Any:
                run.log({"bad": x, "good": 1.0})
                return x * x

            out = transform(function)(*arguments)
            notes["out"] = [float(one) for one in np.ravel(out)]

    def jitted_gradient(function: Any) -> Any:
        return jax.jit(jax.grad(function))

    within("jit", jax.jit, 3.0)
    within("grad-of-jit", jitted_gradient, 3.0)
    within("vmap", jax.vmap, np.ones(3))
    within("grad", jax.grad, 3.0)
    with cases("traced-scan") as (run, notes):

        def body(carry: Any, x: Any) -> Any:
            run.log({"bad": carry, "good": 1.0})
            return carry + x, x

        notes["out"] = [float(jax.lax.scan(body, 0.0, np.arange(3.0))[0])]
    with cases("traced-step") as (run, notes):

        def stepped(step: Any) -> Any:
            run.log({"good": 1.0}, step=step)
            return step

        notes["out"] = [float(jax.jit(stepped)(3))]
    with cases("callback") as (run, notes):

        def log(loss: Any, step: Any) -> None:
            run.log({"loss": loss}, step=step)

        def train(x: Any) -> Any:
            jax.debug.callback(log, x * 2, 5)
            return x * 3

        notes["out"] = [float(jax.jit(train)(4.0))]
        jax.effects_barrier()
    with cases("key") as (run, _):
        run.log({"bad": jax.random.key(0), "good": 1.0})
    with cases("complex") as (run, _):
        run.log({"bad": np.asarray(1 + 2j), "good": 1.0})
    with cases("two") as (run, _):
        run.log({"bad": np.ones(2), "good": 1.0})


def main() -> None:
    """Goes through all cases."""
    jax.config.update("jax_enable_x64", True)
    cases = Cases()
    for part in (arrays, waiting, traced):
        part(cases)
    cases.write(sys.argv[1])


if __name__ == "__main__":
    main()
