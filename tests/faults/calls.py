"""What a seed logs: rows of many key sets, events, params, rules and changes of the run, told once for the process that makes the calls and once for the test that looks for them.

Each call of each thread is a function of the seed, so that nothing has to be kept but how many calls returned.
"""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import runstream

PROJECT = "kills"
SIZES = (1, 2, 3, 5, 8, 20, 1, 40)
WIDE = 300  # Names of a row that comes now and then: with them a small segment lasts for some tens of rows.
CONFIG = {"a": 1, "b": {"c": 0.5}}
# Rows with a `time=` have one of 1970, so that they are known from those that got the clock's.
CLOCK_FROM_MS = 10**12


@dataclass(frozen=True, slots=True)
class Plan:
    """How a seed logs, and how long it lives from its fork on. At first `burst` calls at a time with pauses between; for its last `spurt_s` without any, so that it dies in a call."""

    seed: int
    segment_bytes: int
    threads: int
    life_s: float
    spurt_s: float
    burst: int
    pause_s: float
    switch_s: float


def plan_of(seed: int) -> Plan:
    """The plan of a seed: one in eight dies about where its run begins, the others after milliseconds to a second."""
    draw = random.Random(seed)
    life_s = draw.uniform(0.0, 0.03) if seed % 8 == 0 else 0.03 * 30 ** draw.random()
    return Plan(
        seed=seed,
        segment_bytes=draw.choice((1 << 16, 1 << 16, 1 << 17, 1 << 20)),
        threads=draw.choice((1, 1, 1, 2, 4)),
        life_s=life_s,
        spurt_s=draw.uniform(0.0, 0.02),
        burst=draw.choice((1, 5, 20)),
        pause_s=draw.choice((0.005, 0.02)),
        switch_s=draw.choice((0.005, 0.0001)),
    )


def place_of(thread: int) -> str:
    """The name of a thread, which all of its records carry."""
    return f"thread-{thread}"


def run_name(seed: int) -> str:
    """The id that names the run of a seed."""
    return f"seed-{seed}"


def values_of(seed: int, number: int) -> dict[str, Any]:
    """The dict that a call logs."""
    if number % 53 == 17:
        return {f"wide-{one}": number + 0.25 * one for one in range(WIDE)}
    size = SIZES[(number * 7 + seed) % len(SIZES)]
    offset = number % 3
    values: dict[str, Any] = {f"name-{one + offset}": number + 0.5 * one for one in range(size)}
    if number % 41 == 3:
        values |= {"nan": math.nan, "inf": -math.inf, "count": number}
    return {"outer": values, "flat": 1.0} if number % 23 == 4 else values


def subject_of(number: int) -> str:
    """What a call's row is about."""
    return "model/m/1" if number % 7 == 2 else ""


def call(run: runstream.Run, seed: int, thread: int, number: int) -> None:
    """Makes one call."""
    place = place_of(thread)
    if number % 97 == 5:
        run.log_event("happened", source=place, step=number, metadata={"number": number})
    elif number % 89 == 7:
        run.log_params({f"{place}-{number}": {"first": number, "second": [place, number]}})
    elif number % 131 == 13:
        run.change(notes=f"{place} {number}")
    elif thread == 0 and number % 211 == 11:
        run.alert_on(f"name-{number}", ">", 1.0, name=f"rule {number}")
    else:
        step = None if number % 5 == 0 else number * (-1) ** number
        time = float(number) if number % 11 == 3 else None
        run.log(values_of(seed, number), step, time=time, context=place, subject=subject_of(number))


# A record as it is compared: its thread, its kind and what it says; -1 is the thread of what `init` says.
Item = tuple[int, str, object]


def row_item(context: str, subject: str, step: int, time_ms: int, keys: Sequence[str], values: bytes) -> Item:
    """A metric row; a time of the clock counts as none."""
    return thread_of(context), "row", (subject, step, time_ms if time_ms < CLOCK_FROM_MS else None, tuple(keys), values)


def thread_of(place: str) -> int:
    """The thread by its name."""
    return int(place.removeprefix("thread-"))


def said_by_init() -> list[Item]:
    """What `init` records."""
    return [(-1, "run", None), (-1, "param", ("a", "1")), (-1, "param", ("b.c", "0.5"))]


def said_by_calls(seed: int, thread: int) -> Iterator[list[Item]]:
    """What each call of a thread records, one after the other; rules come apart from the rest, since they carry no seq."""
    counters: dict[str, int] = {}
    place, number = place_of(thread), 0
    while True:
        if number % 97 == 5:
            yield [(thread, "event", ("happened", number, str(number)))]
        elif number % 89 == 7:
            yield [(thread, "param", (f"{place}-{number}.first", f"{number}")), (thread, "param", (f"{place}-{number}.second", f'["{place}", {number}]'))]
        elif number % 131 == 13:
            yield [(thread, "run", f"{place} {number}")]
        elif thread == 0 and number % 211 == 11:
            yield [(thread, "rule", f"rule {number}")]
        else:
            values, subject = values_of(seed, number), subject_of(number)
            if "outer" in values:
                values = {f"outer/{name}": value for name, value in values["outer"].items()} | {"flat": values["flat"]}
            step = number * (-1) ** number
            if number % 5 == 0:
                step = counters.get(subject, 0)
                counters[subject] = step + 1
            time_ms = number * 1000 if number % 11 == 3 else CLOCK_FROM_MS
            yield [row_item(place, subject, step, time_ms, list(values), struct.pack(f"<{len(values)}d", *values.values()))]
        number += 1
