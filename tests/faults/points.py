"""Judges the points of a run by the ranks' ledgers: whole rows of `metrics`, bit for bit, and the points that were dropped, which may be where the disk was full and nowhere else."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.answers import Answers
from tests.faults import known
from tests.faults.findings import Findings
from tests.faults.job import Job, Rank
from tests.faults.rank import AFTER, BEFORE, CALLS, OF_CALL

POINTS = """
SELECT rank, writer, name, context, subject, step, value, seq, toUnixTimestamp64Milli(time) AS ms FROM metrics WHERE run_id = {run:UUID}
"""
# What the rows of a writer say of it, and what `writers` says.
_STARTS = """
SELECT writer, rank, attempt, toUnixTimestamp(started) AS began, 'row' AS side FROM metrics WHERE run_id = {run:UUID} GROUP BY ALL
UNION ALL
SELECT writer, rank, attempt, toUnixTimestamp(toDateTime(started)) AS began, 'state' AS side FROM writers WHERE run_id = {run:UUID} AND kind = 'rank'
"""
_DROPS = "SELECT writer, points_dropped AS dropped FROM writers WHERE run_id = {run:UUID} AND kind = 'rank'"
# A writer that had no room looks again half a second later, in the next call; a rank may be stopped meanwhile for 2.5 s, or get no processor.
AFTER_FULL_MS = 4000
# Between a rank's own look at its clock and the product's lies next to nothing; hours are to be found.
_CLOCK_MS = 1000
FULL = "journal_full"

Key = tuple[int, int, str]
# By writer and step: seq and time of the row.
Rows = dict[tuple[int, int], tuple[int, int]]
Windows = Sequence[tuple[int, int]]


def judge_points(found: Findings, job: Job, stored: list[dict[str, Any]], full: Windows = ()) -> Rows:
    """Compares every stored row with what was logged; `full` is when the disk was full. The rows' seqs and times."""
    seen: Counter[Key] = Counter()
    values: dict[Key, float] = {}
    stamps: dict[tuple[int, int], set[tuple[int, int, int]]] = {}
    for row in stored:
        key = _point(row)
        seen[key] += 1
        values[key] = row["value"]
        stamps.setdefault(key[:2], set()).add((row["rank"], row["seq"], row["ms"]))
    expected: set[Key] = set()
    perhaps: set[Key] = set()
    altered = 0
    wrong: list[str] = []
    for one in job.ranks:
        writer, rank, kept, next_step = one.writer, one.rank, one.kept(), one.next_step
        _judge_drops(found, one, full)
        for step in kept:
            for name, value in known.row(rank, step).items():
                expected.add(key := (writer, step, name))
                altered += key in values and _bits(values[key]) != _bits(value)
        if one.broken_off == "whole":
            expected |= {(writer, next_step, name) for name in known.METRICS}
        if one.broken_off in ("whole", "either"):
            here = {(writer, next_step, name) for name in known.METRICS}
            perhaps |= here
            there = here & seen.keys()
            altered += len(there) not in (0, len(known.METRICS))
            altered += sum(_bits(values[key]) != _bits(known.row(rank, key[1])[key[2]]) for key in there)
        wrong += _wrong_stamps(one, kept, stamps)
    found.points_logged = len(expected)
    missing = expected - seen.keys()
    found.lost += found.blame(len(missing), f"{len(missing)} points are lost, such as {sorted(missing)[:3]}") + found.blame(
        altered, f"{altered} values are not what was logged"
    )
    found.wrong += found.blame(len(wrong), f"{len(wrong)} rows are not what was logged, such as {wrong[:3]}")
    extra = seen.keys() - expected - perhaps
    found.invented += found.blame(len(extra), f"{len(extra)} points are there that no ledger knows, such as {sorted(extra)[:3]}")
    twice = [key for key, count in seen.items() if count > 1]
    found.doubled += found.blame(len(twice), f"{len(twice)} points are there twice, such as {sorted(twice)[:3]}")
    return {key: next((seq, ms) for _, seq, ms in rows) for key, rows in stamps.items()}


def judge_writers(found: Findings, answers: Answers, job: Job) -> None:
    """Compares what writers tell of themselves: attempt and start, as their rows have them, and how many points they dropped."""
    rows = answers.rows(_STARTS, run=job.run_id)
    said = {side: Counter((row["writer"], row["rank"], row["attempt"], row["began"]) for row in rows if row["side"] == side) for side in ("row", "state")}
    strange = said["row"] - said["state"]
    found.wrong += found.blame(
        strange.total(), f"rows are of an attempt or a start that their writers do not have: {dict(strange)}, those have {dict(said['state'])}"
    )
    told = {row["writer"]: dict(row["dropped"]) for row in answers.rows(_DROPS, run=job.run_id)}
    wrong = [(one.writer, told.get(one.writer), droppable(one)) for one in job.ranks if not _tells(told.get(one.writer, {}), droppable(one))]
    found.drops_wrong = found.blame(len(wrong), f"writers tell of other drops than their ledgers (writer, told, least and most): {wrong[:3]}")


def droppable(one: Rank) -> tuple[int, int]:
    """How many dropped points a writer must tell of, and may. A killed one had told those before its last row, since a new segment begins with them; of later ones nobody knows."""
    dropped, kept = one.dropped(), one.kept()
    most = len(dropped) + bool(one.broken_off)
    least = len(dropped) if not one.was_killed else sum(step < (kept[-1] if kept else one.first) for step in dropped)
    return least * len(known.METRICS), (most if one.was_killed else least) * len(known.METRICS)


def _tells(told: dict[str, int], bounds: tuple[int, int]) -> bool:
    least, most = bounds
    return told.keys() <= {FULL} and least <= told.get(FULL, 0) <= most


def _judge_drops(found: Findings, one: Rank, full: Windows) -> None:
    """Counts what found no room; where the disk was not full it is lost."""
    dropped = one.dropped()
    lost = [step for step, at_ms in dropped.items() if not any(began <= at_ms <= ended + AFTER_FULL_MS for began, ended in full)]
    found.dropped += (len(dropped) - len(lost)) * len(known.METRICS)
    count = len(lost) * len(known.METRICS)
    found.lost += found.blame(count, f"{count} points of rank {one.rank} were dropped though no disk was full, of the steps {lost[:3]}")


def _wrong_stamps(one: Rank, kept: list[int], stamps: dict[tuple[int, int], set[tuple[int, int, int]]]) -> list[str]:
    """What is wrong with rank, seq and time of a writer's rows: the points of a row share them, seqs grow, times lie between the rank's own looks at its clock."""
    numbers, writer, last, wrong = one.numbers, one.writer, -1, list[str]()
    for step in kept:
        if (rows := stamps.get((writer, step))) is None:
            continue  # It is missing, which is said elsewhere.
        at = CALLS + OF_CALL * (step - one.first)
        clock = sorted((numbers[at + BEFORE], numbers[at + AFTER]))
        if len(rows) > 1:
            wrong.append(f"step {step} of rank {one.rank} has several ranks, seqs or times: {sorted(rows)}")
        for rank, seq, ms in rows:
            if rank != one.rank or seq <= last or not clock[0] - _CLOCK_MS <= ms <= clock[1] + _CLOCK_MS:
                wrong.append(f"step {step} of rank {one.rank}, seq > {last}, time in {clock}: found rank {rank}, seq {seq}, time {ms}")
            last = max(last, seq)
    return wrong


def _point(row: dict[str, Any]) -> Key:
    """Writer, step and name of a stored point. What stands in another context, or speaks of another subject, has a name that no rank logs."""
    own = (row["context"], row["subject"]) == ("training", "")
    return row["writer"], row["step"], row["name"] if own else f"{row['name']} in {row['context']!r} of {row['subject']!r}"


def _bits(value: float) -> bytes:
    return b"nan" if value != value else struct.pack("<d", value)
