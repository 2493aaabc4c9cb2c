"""docs/peers.md, made from what was measured. Pure."""

from __future__ import annotations

from typing import Any

ODD = ("nan", "inf", "minus_inf", "smallest", "last_digit")
_SHOWN = {"nan": "NaN", "inf": "inf", "minus_inf": "-inf", "smallest": "5e-324", "last_digit": "0.1 + 0.2"}

_HEAD = """# Side by side

Made by `make peers` from `benchmarks/peers/results.json`; do not edit. The same logging work through clients that run without a server or an account, each as it comes,
with its defaults, in a process of its own.

**They do different things.** Each of the others is a store of its own, which its own viewer reads; Runstream's figure here is the log call and the journal alone, from
which an agent ships to Kafka and sinks write to ClickHouse
later, in other processes. What the whole pipeline takes is in [benchmarks.md](benchmarks.md). W&B hands each call to a helper process, Trackio to a thread, and
tensorboardX to a queue: their calls return before anything
is written, ours once the row is in memory that belongs to the kernel. Nobody here was asked to flush to disk after each call, so none of these figures is about a machine
that loses power.
"""

_FOOT = """
- *call*: median and 99th percentile of one call in a tight loop, after 100 calls that do not count: a dict of 1 or of 20 floats under names that stay the same.
  tensorboardX takes one call for each value; its 20 are 20. MLflow writes its files within the call.
- *points a second*: 20 floats a call as fast as it goes, from the first call to the return of the one that ends the run; *read back* says how many of those points the
  store then held.
- *left after SIGKILL*: points that the store holds of those whose call had returned when the process killed itself right behind the last of 500 calls, looked at three
  seconds later, so that helper processes could write. The calls came as fast as they go, within milliseconds for some and half a second for others, so a client that
  writes now and then may not have begun; a training that logs once a second loses less.
- *odd numbers back*: which of NaN, inf, -inf, 5e-324 and 0.1 + 0.2 came back as the same double. Event files of TensorBoard hold 32-bit floats.
- MLflow is `mlflow-skinny`, the client without the server's packages; TensorBoard's files are written by tensorboardX, without torch or tensorflow. Aim is not here: it was
  not tried.
"""


def _us(value: float) -> str:
    return f"{value:,.2f}" if value < 10 else f"{value:,.0f}"


def page(results: dict[str, Any]) -> str:
    """The page."""
    machine = results["machine"]
    lines = [
        _HEAD,
        f"Measured on {machine['cpu']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}.",
        "",
        "| client | version | call, 1 value (µs, p99) | call, 20 values (µs, p99) | points a second | read back | left after SIGKILL | odd numbers back |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in results["clients"]:
        odd = "all" if set(one["odd_same"]) == set(ODD) else ", ".join(_SHOWN[name] for name in ODD if name in one["odd_same"]) or "none"
        cells = (
            one["client"],
            one["version"],
            f"{_us(one['call_us_1'])} ({_us(one['call_p99_us_1'])})",
            f"{_us(one['call_us_20'])} ({_us(one['call_p99_us_20'])})",
            f"{one['durable_points'] / one['durable_s']:,.0f}",
            f"{one['durable_left']:,} of {one['durable_points']:,}",
            f"{one['killed_left']:,} of {one['killed_logged']:,}",
            odd,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n" + _FOOT
