"""Whatever is logged, told or asked for: what processors send and store fits Kafka's messages, since a worker that cannot send can only end, and would do so again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from runstream_processors.fleet_engine import FleetEngine
from runstream_processors.knowledge import Knowledge
from runstream_processors.pipeline import Stage
from runstream_rules import Item, Policy, Series, judge
from runstream_rules.digests import Digester
from runstream_rules.fleet.ranks import RANKS_MAX
from runstream_rules.state import Head
from runstream_schemas import wire
from runstream_schemas.records import Alert, Digest, MetricFrame, MetricGroup, Rule, SummaryFrame
from runstream_schemas.topics import MESSAGE_BYTES_MAX, writer_key
from tests.processors.test_engines import HIGH, World, of
from tests.processors.test_pipeline import Lists, Received, learn
from tests.rules.test_lives import RECORD

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence

    from runstream_processors.engine import Entry, Output

EMOJI = "\N{ROCKET}"
FITS = MESSAGE_BYTES_MAX - (64 << 10)  # With room for the record around it.


class Scales(Lists):
    """Lists that weigh what they are given."""

    async def send(self, outputs: Sequence[Output]) -> None:
        """Raises as Kafka's client does."""
        assert max((len(one.value or b"") for one in outputs), default=0) <= FITS
        await super().send(outputs)

    async def store(self, entries: Sequence[Entry]) -> None:
        """Raises as Kafka's client does."""
        assert max((len(one.value or b"") for one in entries), default=0) <= FITS
        await super().store(entries)


def weighed(*rules: Rule) -> World:
    """A worker whose messages are weighed."""
    world = World(*rules)
    world.ports, world.life_ports = Scales(), Scales()
    return world


def names(count: int, characters: int, text: str = EMOJI) -> tuple[str, ...]:
    """Different long names."""
    return tuple(f"{number:06}{text * (characters - 6)}" for number in range(count))


def frame_of(keys: tuple[str, ...], first: int, value: float = 1.0, *, context: str = "", writer: int = 5) -> MetricFrame:
    """One row of these metrics."""
    seqs = np.array([first], dtype=np.int64)
    group = MetricGroup(context, "", keys, seqs, seqs, seqs, np.full((1, len(keys)), value))
    return MetricFrame("run", writer, 0, "a", 0, "n", "", first, first + 1, 0, (group,))


def test_the_text_of_an_alert_is_cut_however_often_its_template_says_a_name() -> None:
    """Ten thousand characters of template under a name of a thousand would come to megabytes; four thousand characters of message are sent."""
    rule = replace(HIGH, name="n" * 1000, text="{rule}" * 1600, labels={f"{number:03}" + "k" * 997: EMOJI * 1000 for number in range(64)})
    world = weighed(rule)
    world.frames(frame_of(("loss",), 0, 100.0))
    (alert,) = of(Alert, world.ports)
    assert len(alert.text) == 4000
    assert alert.text == "n" * 3999 + "…"


def test_a_rule_whose_alerts_would_be_of_any_size_is_refused() -> None:
    """A rule that another client wrote, with a text of millions of characters, is set aside and harms nobody."""
    world = weighed(HIGH, replace(HIGH, rule_id="bomb", text="{rule}" * 1_000_000))
    world.frames(frame_of(("loss",), 0, 100.0))
    assert [alert.rule_id for alert in of(Alert, world.ports)] == ["high"]
    assert world.known.counts["rules_refused"] == 1


@pytest.mark.parametrize(("count", "characters", "text"), [(300, 9_900, EMOJI), (900, 10_000, "x"), (2_500, 300, EMOJI)], ids=["emoji", "ascii", "many"])
def test_long_names_fill_a_block_sooner(count: int, characters: int, text: str) -> None:
    """Names as long as the SDK takes, hundreds of them: every summary and state fits, each series is summarised once, and a worker that starts anew goes on from there."""
    keys = names(count, characters, text)
    world = weighed()
    for start in range(0, count, 100):
        world.frames(frame_of(keys[start : start + 100], start // 100))
    world.store()
    world.start()
    world.frames(frame_of(keys, 100))
    world.store()
    newest = {one.block: one for one in of(SummaryFrame, world.ports)}
    assert [name for block in sorted(newest) for name in newest[block].names] == list(keys)
    assert {count for one in newest.values() for count in one.counts} == {2}


def test_names_past_the_bounds_are_not_followed() -> None:
    """A name longer than any that the SDK takes, and names that come to more than a worker would keep of one writer: counted, and the others are followed."""
    world = weighed()
    world.frames(frame_of(("a" * (1 << 20), "loss"), 0))
    world.store()
    assert [list(one.names) for one in of(SummaryFrame, world.ports)] == [["loss"]]
    assert world.series.counts["series_refused"] == 1
    small = weighed()
    small.series._policy = Policy(names_bytes_max=10_000)
    small.frames(frame_of(names(5, 3_000, "x"), 0))
    small.frames(frame_of(("loss",), 1))
    assert small.series.counts["series_refused"] == 2


def test_episodes_have_room_in_their_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """A storm of alerts: those for which a block has no more room do not fire, are counted as not followed, and do not fire again and again; the rest fires once."""
    monkeypatch.setattr(judge, "EPISODES_MAX", 5)
    world = weighed(HIGH, replace(HIGH, rule_id="higher", metric="*"))
    keys = ("loss", "b", "c", "d", "e", "f", "g")
    for row in range(3):
        world.frames(frame_of(keys, row, 9.0))
    assert sorted((one.rule_id, one.metric) for one in of(Alert, world.ports)) == [("high", "loss"), *(("higher", key) for key in ("b", "c", "d", "loss"))]
    world.frames(frame_of(keys, 3, 0.0), frame_of(keys, 4, 9.0))
    assert [one.state for one in of(Alert, world.ports)].count("resolved") == 5
    assert len({one.alert_id for one in of(Alert, world.ports)}) == 10


def test_a_block_full_of_everything_fits() -> None:
    """A thousand series with names of half a kilobyte, windows up to their bound and as many episodes as there is room for."""
    rules = [replace(HIGH, rule_id=f"high-{number:03}" + EMOJI * 900, metric="*") for number in range(40)]
    rules += [
        Rule(rule_id=f"spread-{number}", version=1, time_ms=0, name="s", kind="zscore", metric="*", threshold=3.0, window=100, direction="either")
        for number in range(8)
    ]
    world = weighed(*rules)
    keys = names(1_000, 128)
    for row in range(2):
        world.frames(frame_of(keys, row, 9.0))
    assert len(of(Alert, world.ports)) == judge.EPISODES_MAX
    world.store()
    assert max(map(len, world.ports.table.values())) > MESSAGE_BYTES_MAX // 2, "or it shows nothing"


def test_records_that_would_be_kept_whole_are_small() -> None:
    """A frame, a writer's record and a digest whose ids are megabytes long are passed over: they would stand in every state and message made of them."""
    long = "x" * (7 << 20)
    world = weighed(HIGH)
    for one in (frame_of(("loss",), 0, 9.0)._replace(project=long), frame_of(("loss",), 0, 9.0)._replace(attempt=long)):
        assert world.run(world.stage.take([Received("t.metric", 0, 0, writer_key(5), wire.encode(one))], world.ports))
    world.writers(replace(RECORD, writer=5, attempt=long), replace(RECORD, writer=6, environment={"a": long}))
    world.tick()
    world.store()
    assert (world.ports.sent, world.ports.table, world.life_ports.table) == ([], {}, {})


def test_figures_across_ranks_go_in_parts_that_fit() -> None:
    """Hundreds of series with long names under rules across ranks: each digest fits and has every figure of its own; a run keeps as many of them as its own entry holds."""
    digester = Digester("run", "p")
    series = [Series(name, "", "") for name in names(300, 9_900)]
    for place, one in enumerate(series):
        digester.say(7, Head("run", "p", 0, "a", 0), [Item((f"r-{place % 2}", 1), one, 3, float(place), 1_000)])
    digests = digester.take()
    assert len(digests) > 2
    assert max(len(wire.encode(one)) for one in digests) <= FITS
    told = [(one.metrics[track], figure) for one in digests for track, figure in zip(one.tracks, one.figures, strict=True)]
    assert told == [(one.metric, float(place)) for place, one in enumerate(series)]

    ports, counts = taken(digests)
    tracks = len(ports.table) - 1
    assert (10 < tracks < 300, counts["figures_refused"]) == (True, 300 - tracks)


def test_a_world_of_any_size_fits_its_entry() -> None:
    """Ranks up to the bound, each of an attempt of its own, and one that says it is of two thousand million."""
    count = 3_000
    every = range(count)
    digest = Digest(
        run_id="run",
        project="p",
        writers=list(every),
        ranks=[*range(count - 1), RANKS_MAX - 1],
        states=["running"] * count,
        attempts=[f"{number}" + EMOJI * 9_000 if number < 50 else f"{number}" + EMOJI * 50 for number in every],
        starts=[1] * count,
        heartbeats=[1] * count,
        world_sizes=[2_000_000_000] * count,
        rule_ids=[],
        rule_versions=[],
        metrics=[],
        contexts=[],
        subjects=[],
        tracks=[],
        places=[],
        blocks=[],
        figures=[],
        times=[],
    )
    ports, _ = taken([digest])
    assert max(map(len, ports.table.values())) > RANKS_MAX * 48


def taken(digests: Sequence[Digest]) -> tuple[Scales, Counter[str]]:
    """What the second stage stores of some digests, and what it counts."""
    world, ports = World(), Scales()
    known = Knowledge("t")
    for number in range(2):
        rule = Rule(rule_id=f"r-{number}", version=1, time_ms=0, name="r", kind="straggler", metric="*", threshold=2.0, window=1)
        learn(known, "rule", rule.rule_id.encode(), wire.encode(rule))
    engine = FleetEngine(known, Policy(), "t")
    stage = Stage(engine, known, lambda: 1_000_000, 0.0)
    for digest in digests:
        assert world.run(stage.take([Received("t.digest", 0, 0, b"run", wire.encode(digest))], ports))
        assert world.run(stage.store(ports))
    return ports, engine.counts
