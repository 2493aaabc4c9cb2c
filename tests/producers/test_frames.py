"""Cutting: however rows are cut, every seq is accounted for, in order, and every row comes out once."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_producers.frames import Cut, Cutter
from runstream_producers.journal import format as fmt
from runstream_producers.journal.reader import Row
from runstream_schemas import records as rec
from runstream_schemas import wire
from runstream_schemas.topics import writer_key
from tests.producers.journals import identity
from tests.producers.ledger import check_account, ledger_of

PARAM = {"time_ms": 1, "key": "lr", "context": "", "kind": "float", "value": "0.1"}
EVENT: dict[str, Any] = {"event_id": "e", "time_ms": 1, "name": "n", "source": "s", "subject": "", "step": None, "metadata": {}}
RULE: dict[str, Any] = {"rule_id": "r", "version": 1, "time_ms": 1, "name": "n", "kind": "threshold", "metric": "a", "operator": ">", "threshold": 1.0}
RUN: dict[str, Any] = {"time_ms": 1, "name": "n"}
PAYLOADS = {fmt.Kind.PARAM: PARAM, fmt.Kind.EVENT: EVENT, fmt.Kind.RULE: RULE, fmt.Kind.RUN: RUN}

what = st.sampled_from(["row", "row", "row", "row", "dropped", "told", *PAYLOADS])


def made_rows(draws: Sequence[str | fmt.Kind]) -> tuple[list[Row], int]:
    """Journal rows as a writer makes them: key sets when first used, seqs that dropped rows use up; and the next seq."""
    rows: list[Row] = []
    seq = points = 0
    defined: set[int] = set()
    for number, one in enumerate(draws):
        if one == "row":
            key_set = number % 3 + 1
            keys = [f"k{key_set}-{key}" for key in range(key_set)]
            if key_set not in defined:
                defined.add(key_set)
                payload = json.dumps({"id": key_set, "context": f"c{key_set}", "subject": "", "keys": keys}).encode()
                rows.append(Row(fmt.Kind.KEY_SET, key_set, seq, 0, points, 0.0, payload))
            points += key_set
            rows.append(Row(fmt.Kind.METRICS, key_set, seq, number, points, 1e9 + number, struct.pack(f"<{key_set}d", *range(key_set))))
            seq += 1
        elif one == "dropped":
            seq += 1
        elif one == "told":
            rows.append(Row(fmt.Kind.DROP, 0, seq, 0, points, 0.0, b'{"journal_full": 5}'))
        elif isinstance(one, fmt.Kind):
            rows.append(Row(one, 0, seq, 0, points, 0.0, json.dumps(PAYLOADS[one]).encode()))
            seq += 1
    return rows, seq


def cuts_of(cutter: Cutter, rows: list[Row], ends: list[int], until: int | None) -> list[Cut]:
    """The cuts of rows that end at these places, and a last one."""
    cuts: list[Cut] = []
    start = 0
    for end in sorted({end % (len(rows) + 1) for end in ends} | {len(rows)}):
        cut = cutter.cut(iter(rows[start:end]), until if end == len(rows) else None)
        if cut is not None:
            cuts.append(cut)
        start = end
    return cuts


@given(st.lists(what, max_size=60), st.lists(st.integers(0, 1000), max_size=12), st.booleans())
def test_any_partition_accounts_for_every_seq_once(draws: Sequence[str | fmt.Kind], ends: list[int], ended: bool) -> None:
    """Frames of any partition follow on one another without gap or overlap; rows, records, points and rules come out as they went in."""
    rows, next_seq = made_rows(draws)
    one = identity()
    cutter = Cutter(one, next_seq=0, rules=0)
    cuts = cuts_of(cutter, rows, ends, next_seq if ended else None)
    frames = [cut.frame.record for cut in cuts]
    assert all(isinstance(frame, rec.MetricFrame) for frame in frames)
    metric_frames = [frame for frame in frames if isinstance(frame, rec.MetricFrame)]
    last = max((row.seq + 1 for row in rows if row.kind not in (fmt.Kind.KEY_SET, fmt.Kind.DROP)), default=0)
    assert check_account(metric_frames, until=next_seq if ended else last) == 0
    metrics = {row.seq: row for row in rows if row.kind == fmt.Kind.METRICS}
    ledger = ledger_of(metric_frames)
    assert set(ledger) == set(metrics)
    for seq, points in ledger.items():
        row = metrics[seq]
        assert {(context, step) for context, _, _, step, _ in points} == {(f"c{row.key_set}", row.step)}
        assert {(name, value) for _, _, name, _, value in points} == {
            (f"k{row.key_set}-{key}", row.payload[8 * key : 8 * key + 8]) for key in range(row.key_set)
        }
    others = [keyed.record for cut in cuts for keyed in cut.others]
    other_rows = [row for row in rows if row.kind in PAYLOADS]
    assert len(others) == len(other_rows)
    assert sum(cut.rows for cut in cuts) == len(metrics) + len(others)
    assert sum(cut.points for cut in cuts) == sum(row.key_set for row in metrics.values())
    rules = [record for record in others if isinstance(record, rec.Rule)]
    assert [rule.ordinal for rule in rules] == list(range(1, len(rules) + 1))
    assert sum(cut.rules for cut in cuts) == len(rules)
    assert cutter.dropped == ({"journal_full": 5} if "told" in draws else {})
    seen = 0
    for cut, frame in zip(cuts, metric_frames, strict=True):
        seen += cut.rules
        # A processor holds the frame until it knows so many rules: those of rows in the frame included, none of later ones.
        assert frame.rules_seen == seen
        assert cut.next_seq == frame.next_seq
    for record in (*frames, *others):
        assert type(wire.decode(wire.encode(record))) is type(record)


@given(st.lists(what, min_size=1, max_size=40), st.integers(0, 1000))
def test_a_cutter_goes_on_where_another_was_acknowledged(draws: Sequence[str | fmt.Kind], at: int) -> None:
    """A new cutter with the acknowledged counts and the definitions from before makes the same frames as one that was there all along."""
    rows, _ = made_rows(draws)
    at %= len(rows) + 1
    one = identity()
    cutter = Cutter(one, next_seq=0, rules=0)
    before = cutter.cut(iter(rows[:at]))
    expected = cutter.cut(iter(rows[at:]))
    again = Cutter(one, next_seq=0 if before is None else before.next_seq, rules=0 if before is None else before.rules)
    for row in rows[:at]:
        if row.kind in (fmt.Kind.KEY_SET, fmt.Kind.DROP):
            again.define(row)
    found = again.cut(iter(rows[at:]))
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert wire.encode(found.frame.record) == wire.encode(expected.frame.record)
        assert found.others == expected.others
    assert again.dropped == cutter.dropped


def test_nothing_new_is_no_cut() -> None:
    """No rows, or key sets and drop counts alone, make no record."""
    cutter = Cutter(identity(), next_seq=0, rules=0)
    rows, _ = made_rows(["row", "told"])
    assert cutter.cut(()) is None
    assert cutter.cut([row for row in rows if row.kind != fmt.Kind.METRICS]) is None
    assert cutter.cut((), until_seq=0) is None


@pytest.mark.parametrize(("kind", "topic"), [("rank", "metric"), ("hardware", "hardware")])
def test_topics_and_keys(kind: str, topic: str) -> None:
    """Each record goes to its topic under the key that its topic describes."""
    one = identity(kind=kind)
    rows, _ = made_rows(["row", *PAYLOADS])
    cut = Cutter(one, next_seq=0, rules=0).cut(iter(rows))
    assert cut is not None
    assert (cut.frame.topic, cut.frame.key) == (topic, writer_key(one.writer))
    run = one.run_id.encode()
    assert [(keyed.topic, keyed.key) for keyed in cut.others] == [("param", run), ("event", run), ("rule", f"r/{one.writer}".encode()), ("run", run)]


def test_an_event_of_a_subject_is_keyed_by_it() -> None:
    """Events about the same subject meet in one partition, whatever run says them."""
    row = Row(fmt.Kind.EVENT, 0, 0, 0, 0, 0.0, json.dumps(EVENT | {"subject": "model/x/1"}).encode())
    cut = Cutter(identity(), next_seq=0, rules=0).cut([row])
    assert cut is not None
    assert cut.others[0].key == b"model/x/1"


def test_rows_that_this_version_does_not_know_hold_nothing_up() -> None:
    """A kind of a later version, a payload with other fields and a row whose key set was lost are counted as unreadable, with their seqs accounted for."""
    rows, _ = made_rows(["row", "row"])
    later = [
        Row(99, 0, 2, 0, 3, 0.0, b"{}"),
        Row(fmt.Kind.RUN, 0, 3, 0, 3, 0.0, b'{"time_ms": 1, "shoe_size": 43}'),
        Row(fmt.Kind.RULE, 0, 4, 0, 3, 0.0, b'{"shoe_size": 43}'),
        Row(fmt.Kind.EVENT, 0, 5, 0, 3, 0.0, b"[]"),
        Row(fmt.Kind.METRICS, 77, 6, 0, 4, 0.0, bytes(8)),
    ]
    cut = Cutter(identity(), next_seq=0, rules=0).cut([*rows, *later])
    assert cut is not None
    assert (cut.next_seq, cut.rows, cut.points, cut.rules, cut.others) == (7, 7, 3, 0, ())
    assert [payload for _, payload in cut.unreadable] == [row.payload for row in later]
    assert isinstance(cut.frame.record, rec.MetricFrame)
    assert sorted(ledger_of([cut.frame.record])) == [0, 1]
