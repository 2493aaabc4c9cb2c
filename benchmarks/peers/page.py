"""docs/peers.md, made from what was measured. Pure."""

from __future__ import annotations

from typing import Any

ODD = ("nan", "inf", "minus_inf", "smallest", "last_digit")
_SHOWN = {"nan": "NaN", "inf": "inf", "minus_inf": "-inf", "smallest": "5e-324", "last_digit": "0.1 + 0.2"}

_HEAD = """# Side by side

Made by `make peers` from `benchmarks/peers/results.json`; do not edit. The same logging work through clients that run without a server or an account: each in a process
of its own and with its own defaults, save that none of them captures what is printed.

**They do different things.** Each of the others is a store of its own, which its own viewer reads. {ours}

A call of W&B, Trackio or tensorboardX hands the values to a helper process, a thread or a queue and returns before anything is written. A call of MLflow or Aim returns
once they are written to files, one of ours once they are in memory that belongs to the kernel; all three survive the death of the process. Nobody was asked to flush the
disk after each call, so no figure here is about a machine that loses power.
"""

_JOURNAL = """Runstream's row is the log call and the journal alone, from which an
agent ships to Kafka and sinks write to ClickHouse later, in other processes; what the whole pipeline takes is in [benchmarks.md](benchmarks.md)."""

_BOTH = """Runstream
has two rows. *Runstream's journal* is the log call and the journal alone. *Runstream, whole pipeline* is the same calls while all that is behind them runs on the same
cores: the agent that ships the journal, Kafka, a processor, a sink and ClickHouse. Its points a second end when the last of them is in an answer of ClickHouse's view
`metrics`, where they are read back, too, after SIGKILL once nothing more has come for five seconds: the agent goes on without the process. Each step there waits for
what comes next, to make larger batches of it, so that so few points take about as long as one; at which rate points pass when there is no end to them is in
[benchmarks.md](benchmarks.md) (`e2e`)."""

_FOOT = """
- *call*: median, and in brackets the 99th percentile, of one call in {loop}, after 100 calls that do not count. A
  call logs a dict of 1 or of 20 floats, under names that stay the same; tensorboardX takes a call for each value, so that its 20 are 20 calls. µs is a millionth of a
  second.
- *points a second*: a point is one value at one step. 5,000 calls of 20 floats as fast as they go, or as many as fit into 15 seconds, from the first call to the return
  of the one that ends the run; *read back* says how many of those points the store then held.
- *left after SIGKILL*: how many points the store holds of those whose call had returned when the process killed itself right behind the last of 500 calls, looked at
  three seconds later, so that helper processes could write. The calls came as fast as they go, within milliseconds for some and several seconds for others, so a client
  that writes now and then may not have begun: a training that logs once a second loses less.
- *odd numbers back*: which of NaN, inf, -inf, 5e-324 (the smallest double) and 0.1 + 0.2 (which needs every bit of one) came back as the same double. Event files of
  TensorBoard hold 32-bit floats.
- MLflow is `mlflow-skinny`, the client without the server's packages; TensorBoard's files are written by tensorboardX, without torch or tensorflow. Runstream's call is
  the compiled one, which `make setup` builds where it finds a C compiler. `requirements-peers.txt` pins all of them; the code is `benchmarks/peers/work.py`.
"""

_LOOP = "a tight loop of 3 seconds or 5,000 calls, whichever ends first"
_LOOP_BY_TURNS = "a tight loop of 6 seconds or 5,000 calls of each kind, whichever ends first, by turns of 50 calls with 1 and 50 with 20 values"


def _us(value: float) -> str:
    return f"{value:,.2f}" if value < 10 else f"{value:,.0f}"


def _load(load: float, cores: int) -> str:
    """What else the machine did: figures beside other work are no better than that."""
    beside = f"In the minute before, {load:g} processes on average wanted a core"
    return (
        f"{beside}."
        if load < cores
        else f"{beside}: others were at work here, which makes calls that hand over to a process or a thread, and all tails, look worse than they are."
    )


def page(results: dict[str, Any]) -> str:
    """The page."""
    machine = results["machine"]
    # Results from before the pipeline had its row were measured one kind of call after the other.
    whole = any(one["package"] == "pipeline" for one in results["clients"])
    lines = [
        _HEAD.format(ours=_BOTH if whole else _JOURNAL),
        f"Measured {results['measured']} at commit {results['commit']}, on {machine['cpu']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}.",
        _load(machine["load"], machine["cores"]),
        "",
        "| client | version | call, 1 value (µs; p99) | call, 20 values (µs; p99) | points a second | read back | left after SIGKILL | odd numbers back |",
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
    return "\n".join(lines) + "\n" + _FOOT.format(loop=_LOOP_BY_TURNS if whole else _LOOP)
