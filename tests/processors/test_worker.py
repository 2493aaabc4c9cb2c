"""The worker as a process on a real broker: known frames in, exact alerts and summaries out, whatever is killed meanwhile."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from runstream_rules import Policy, RuleBook, Series, Summary, WriterState, decide, recompute, summaries_of
from runstream_schemas import wire
from runstream_schemas.records import Alert, MetricFrame, MetricGroup, Record, Rule, SummaryFrame
from tests.processors.stack import Feed, Part, Tail, settings_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

NAMES = ("loss", "accuracy", "grad/norm")
WRITERS = range(1, 9)
ROWS = 400
FRAME_ROWS = 10
RULE = Rule(rule_id="high", version=1, time_ms=0, name="loss is high", kind="threshold", metric="loss", operator=">", threshold=1.5)
# Their windows span several frames, so that a fault comes in the middle of them.
WINDOWS = (
    Rule(rule_id="mean", version=1, time_ms=0, name="mean is high", kind="aggregate", metric="*", aggregate="mean", window=25, operator=">", threshold=0.3),
    Rule(rule_id="jump", version=1, time_ms=0, name="jumps", kind="change", metric="accuracy", window=5, baseline=20, measure="absolute", threshold=0.6),
)
RULES = (RULE, *WINDOWS)


def history(writer: int, rows: int = ROWS) -> list[MetricFrame]:
    """Frames of one writer with a known history: a loss that rises above 1.5 now and then, some NaN in the norm."""
    generator = np.random.default_rng(writer)
    values = generator.normal(size=(rows, len(NAMES)))
    values[generator.random(rows) < 0.05, 2] = np.nan
    seqs = np.arange(rows, dtype=np.int64)
    times = np.full(rows, time.time_ns() // 1_000_000, dtype=np.int64)
    out: list[MetricFrame] = []
    for first in range(0, rows, FRAME_ROWS):
        cut = slice(first, first + FRAME_ROWS)
        group = MetricGroup("training", "", NAMES, seqs[cut], seqs[cut] * 2, times[cut], values[cut])
        out.append(MetricFrame(f"run-{writer % 2}", writer, 1, "attempt", writer, "node", "", first, first + FRAME_ROWS, 0, (group,)))
    return out


def recomputed(frames: Sequence[MetricFrame]) -> dict[tuple[int, Series], Summary]:
    """The summary of every series of some frames, from the points."""
    points: dict[tuple[int, Series], list[tuple[int, int, float]]] = {}
    for frame in frames:
        for group in frame.groups:
            for column, name in enumerate(group.keys):
                rows = zip(group.steps.tolist(), group.times.tolist(), group.values[:, column].tolist(), strict=True)
                points.setdefault((frame.writer, Series(name, group.context, group.subject)), []).extend(rows)
    return {key: recompute(every) for key, every in points.items()}


def last_summaries(records: Sequence[Record]) -> dict[tuple[int, Series], Summary]:
    """The summary of every series in the records with the greatest `next_seq`."""
    newest: dict[tuple[int, int], SummaryFrame] = {}
    for record in cast("Sequence[SummaryFrame]", records):
        key = (record.writer, record.block)
        if key not in newest or newest[key].next_seq <= record.next_seq:
            newest[key] = record
    return {(frame.writer, series): one for frame in newest.values() for series, one in summaries_of(frame).items()}


def episodes(frames: Sequence[MetricFrame]) -> set[tuple[int, int, int, int]]:
    """Writer, opening seq, version and step of every alert that `RULE` must give, in plain Python."""
    out: set[tuple[int, int, int, int]] = set()
    opened: dict[int, int] = {}
    for frame in frames:
        for group in frame.groups:
            for seq, step, value in zip(group.seqs.tolist(), group.steps.tolist(), group.values[:, 0].tolist(), strict=True):
                if value > 1.5 and frame.writer not in opened:
                    opened[frame.writer] = seq
                    out.add((frame.writer, seq, 0, step))
                elif value <= 1.5 and frame.writer in opened:
                    out.add((frame.writer, opened.pop(frame.writer), 1, step))
    return out


def place(alert: Alert) -> tuple[int, int, int, int]:
    """An alert in the words of `episodes`."""
    return (alert.writer, alert.seq, alert.version, alert.step)


def ids(records: Sequence[Record]) -> set[tuple[str, int]]:
    """Alerts by id and version."""
    return {(alert.alert_id, alert.version) for alert in cast("Sequence[Alert]", records)}


def undisturbed(frames: Sequence[MetricFrame]) -> set[tuple[str, int]]:
    """The alerts of all rules as the core alone decides them, frame by frame, in a run without faults."""
    book, states, out = RuleBook(), dict[int, WriterState](), list[Record]()
    for rule in RULES:
        assert book.learn(rule) is None
    for frame in frames:
        outcome = decide(states.get(frame.writer), [frame], book, 0, Policy())
        states[frame.writer] = outcome.state
        out += outcome.alerts
    return ids(out)


def mixed(histories: Sequence[list[MetricFrame]]) -> list[MetricFrame]:
    """Frames of several writers in turns."""
    return [frame for turn in zip(*histories, strict=True) for frame in turn]


def all_in(records: Sequence[Record], writers: Sequence[int], next_seq: int = ROWS) -> bool:
    """Whether the summaries of all writers have reached a seq."""
    reached = {record.writer for record in cast("Sequence[SummaryFrame]", records) if record.next_seq == next_seq}
    return reached >= set(writers)


def assert_exact(frames: Sequence[MetricFrame], summaries: Sequence[Record], alerts: Sequence[Record]) -> None:
    """Summaries equal the recomputation to the last bit; each alert is there, under one id, and no other."""
    found, wanted = last_summaries(summaries), recomputed(frames)
    assert found.keys() == wanted.keys()
    wrong = {key: (found[key], one) for key, one in wanted.items() if not found[key].same_as(one)}
    assert not wrong
    assert ids(alerts) == undisturbed(frames)
    by_key = {(alert.alert_id, alert.version): place(alert) for alert in cast("Sequence[Alert]", alerts) if alert.rule_id == RULE.rule_id}
    assert set(by_key.values()) == episodes(frames)
    assert len(by_key) == len(set(by_key.values()))


def test_known_frames_give_known_alerts_and_summaries(kafka: str, tmp_path: Path) -> None:
    """Metrics and hardware of several writers, frames repeated and cut otherwise, a record that is none: exact results, within a second for what is new."""
    settings = settings_of(kafka)
    feed, summaries, alerts = Feed(settings), Tail(settings, "summary"), Tail(settings, "alert")
    feed.raw("rule", [(rule.rule_id.encode(), wire.encode(rule)) for rule in RULES])
    worker = Part("worker", settings, tmp_path)
    try:
        worker.wait_ready()
        frames = mixed([history(writer) for writer in WRITERS])
        feed.frames(frames[:200])
        feed.raw("metric", [(b"whatever", b"no record"), (b"whatever", None)])
        feed.frames(frames[100:])
        hardware = history(99, 20)
        feed.frames(hardware, "hardware")
        summaries.until(lambda records: all_in(records, WRITERS) and all_in(records, [99], 20))
        every = [*frames, *hardware]
        wanted = undisturbed(every)
        alerts.until(lambda records: ids(records) >= wanted)
        assert_exact(every, summaries.records, alerts.records)

        late = history(50, 20)
        late[1].groups[0].values[3, 0] = 9.0
        feed.frames(late)
        began = time.monotonic()
        alerts.until(lambda records: any(cast("Alert", one).writer == 50 and cast("Alert", one).value == 9.0 for one in records))
        assert time.monotonic() - began < 1.0
        assert worker.stop() == 0, worker.said()
        assert "Traceback" not in worker.said()
    finally:
        worker.kill()
        summaries.close()
        alerts.close()


def feed_slowly(feed: Feed, frames: Sequence[MetricFrame]) -> None:
    """Ten frames at a time, so that whatever happens meanwhile happens in the middle."""
    for at in range(0, len(frames), 10):
        feed.frames(frames[at : at + 10])
        time.sleep(0.03)


def test_two_workers_share_and_hand_over(kafka: str, tmp_path: Path) -> None:
    """A second worker joins while records flow, the first one is killed, a third joins, the second is asked to stop: results stay exact."""
    settings = settings_of(kafka)
    feed, summaries, alerts = Feed(settings), Tail(settings, "summary"), Tail(settings, "alert")
    feed.raw("rule", [(rule.rule_id.encode(), wire.encode(rule)) for rule in RULES])
    frames = mixed([history(writer) for writer in WRITERS])
    workers = [Part("worker", settings, tmp_path)]
    try:
        workers[0].wait_ready()
        feed_slowly(feed, frames[:80])
        workers.append(Part("worker", settings, tmp_path))
        feed_slowly(feed, frames[80:160])
        workers[1].wait_ready()
        feed_slowly(feed, frames[160:200])
        workers[0].kill()
        feed_slowly(feed, frames[200:240])
        workers.append(Part("worker", settings, tmp_path))
        workers[2].wait_ready()
        feed_slowly(feed, frames[240:280])
        assert workers[1].stop() == 0, workers[1].said()
        feed_slowly(feed, frames[280:])
        summaries.until(lambda records: all_in(records, WRITERS), timeout_s=60)
        wanted = undisturbed(frames)
        alerts.until(lambda records: ids(records) >= wanted)
        assert_exact(frames, summaries.records, alerts.records)
    finally:
        for worker in workers:
            worker.kill()
        summaries.close()
        alerts.close()


def test_a_worker_that_was_frozen_sets_nothing_back(kafka: str, tmp_path: Path) -> None:
    """Stopped past its session timeout while another took over, and then woken: a third worker, which reads the state anew, finds it exact."""
    settings = settings_of(kafka)
    feed, summaries, alerts = Feed(settings), Tail(settings, "summary"), Tail(settings, "alert")
    feed.raw("rule", [(rule.rule_id.encode(), wire.encode(rule)) for rule in RULES])
    frames = mixed([history(writer) for writer in WRITERS])
    workers = [Part("worker", settings, tmp_path)]
    try:
        workers[0].wait_ready()
        feed_slowly(feed, frames[:80])
        workers[0].process.send_signal(signal.SIGSTOP)
        workers.append(Part("worker", settings, tmp_path))
        feed_slowly(feed, frames[80:160])
        summaries.until(lambda records: all_in(records, WRITERS, 200), timeout_s=60)
        workers[0].process.send_signal(signal.SIGCONT)
        feed_slowly(feed, frames[160:240])
        summaries.until(lambda records: all_in(records, WRITERS, 300), timeout_s=60)
        for worker in workers:
            worker.kill()
        workers.append(Part("worker", settings, tmp_path))
        feed_slowly(feed, frames[240:])
        summaries.until(lambda records: all_in(records, WRITERS), timeout_s=60)
        wanted = undisturbed(frames)
        alerts.until(lambda records: ids(records) >= wanted)
        assert_exact(frames, summaries.records, alerts.records)
    finally:
        for worker in workers:
            worker.kill()
        summaries.close()
        alerts.close()


def test_rules_that_come_while_it_works(kafka: str, tmp_path: Path) -> None:
    """A frame that is ahead of its writer's rule waits for it while others go on; a rule for a project applies to frames that name it."""
    settings = settings_of(kafka)
    feed, summaries, alerts = Feed(settings), Tail(settings, "summary"), Tail(settings, "alert")
    worker = Part("worker", settings, tmp_path)
    try:
        worker.wait_ready()
        ahead, other = history(5, 10)[0], history(6, 10)[0]
        ahead.groups[0].values[:, 0] = other.groups[0].values[:, 0] = 9.0
        # The other one first: if they come in two takes, it must not stand behind the one that is held.
        feed.frames([other, ahead._replace(rules_seen=1)])
        summaries.until(lambda records: all_in(records, [6], 10), timeout_s=30)
        assert not all_in(summaries.poll(0.5), [5], 10)
        feed.raw("rule", [(b"high", wire.encode(replace(RULE, writer=5, ordinal=1, run_id=ahead.run_id)))])
        (alert,) = alerts.until(bool, timeout_s=30)
        assert cast("Alert", alert).writer == 5

        feed.raw("rule", [(b"p", wire.encode(replace(RULE, rule_id="p", project="vision")))])
        time.sleep(1.0)
        more = history(8, 10)[0]._replace(project="vision")
        more.groups[0].values[:, 0] = 9.0
        feed.frames([more])
        alerts.until(lambda records: len(records) >= 2, timeout_s=30)
        assert cast("Alert", alerts.records[1]).rule_id == "p"
        assert worker.stop() == 0, worker.said()
    finally:
        worker.kill()
        summaries.close()
        alerts.close()
