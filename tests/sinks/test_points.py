"""Frames to columns, held against the plain way of going point by point."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_schemas import frame_batch, wire
from runstream_schemas import records as rec
from runstream_schemas.errors import MalformedRecord
from runstream_sinks import arrow, bounds
from runstream_sinks.points import PointRows
from runstream_sinks.tables import TABLES
from tests.sinks import examples

if TYPE_CHECKING:
    from runstream_sinks.clickhouse import Server

RUN = str(uuid.UUID(int=0x0E177292_7500_42B8_8F51_E962D246EF2B))


@dataclass
class Columns:
    """The columns of a table, as lists."""

    data: dict[str, list[object]]

    def points(self) -> list[tuple[object, ...]]:
        times = [int(np.datetime64(one, "ms").astype(np.int64)) for one in self.data["time"]]  # pyright: ignore[reportCallIssue, reportArgumentType]  # datetimes
        names = ("name", "context", "subject", "rank", "step", "seq")
        return list(zip(*(self.data[name] for name in names), times, self.data["value"], strict=True))


def mapped(*frames: rec.MetricFrame) -> Columns:
    """The columns of frames."""
    rows = PointRows()
    for one in frames:
        rows.add(one)
    table = rows.table()
    assert arrow.rows_of(table) == rows.rows
    return Columns(arrow.as_lists(table))


names = st.lists(st.text("abc/", min_size=1, max_size=4), min_size=0, max_size=5, unique=True)


@st.composite
def groups(draw: st.DrawFn) -> rec.MetricGroup:
    """Groups of any shape."""
    keys = tuple(draw(names))
    rows = draw(st.integers(0, 4))
    longs = st.integers(0, 1 << 50)

    def column() -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array(draw(st.lists(longs, min_size=rows, max_size=rows)), dtype=np.int64)

    values = draw(st.lists(st.floats(allow_nan=False), min_size=rows * len(keys), max_size=rows * len(keys)))
    # Times stay within what DateTime64 holds: clamping has its own test.
    return rec.MetricGroup(
        draw(st.sampled_from(["", "training"])),
        draw(st.sampled_from(["", "model/a/1"])),
        keys,
        column(),
        column(),
        column() % (1 << 40),
        np.array(values, dtype=np.float64).reshape(rows, len(keys)),
    )


@st.composite
def frames(draw: st.DrawFn) -> rec.MetricFrame:
    """Frames of any groups."""
    return examples.frame(*draw(st.lists(groups(), max_size=3)), run_id=RUN, writer=draw(st.integers(0, (1 << 63) - 1)), rank=draw(st.integers(0, 1 << 20)))


@given(st.lists(frames(), max_size=4))
def test_every_point_comes_out_once_with_what_belongs_to_it(given_frames: list[rec.MetricFrame]) -> None:
    """The columns hold exactly the points of the frames, each with the writer and run of its frame."""
    columns = mapped(*given_frames)
    writers = [one.writer for one in given_frames for group in one.groups for _ in range(group.values.size)]
    expected = zip(examples.points_of(given_frames), writers, strict=True)
    assert sorted(zip(columns.points(), columns.data["writer"], strict=True)) == sorted(expected)
    assert set(columns.data["run_id"]) <= {uuid.UUID(RUN).bytes}


SHAPES = st.tuples(st.integers(0, 3), st.integers(1, 3), st.sampled_from([("loss",), ("b", "a"), ("a", "c")]), st.booleans())


@given(st.lists(SHAPES, min_size=1, max_size=60), st.booleans())
def test_frames_read_together_map_like_frames_read_one_by_one(shapes: list[tuple[int, int, tuple[str, ...], bool]], all_of_them: bool) -> None:
    """Batches, some of whose frames are left out, give the rows that their frames give."""
    sent = [
        examples.frame(examples.group(keys, 100 * at, rows, first_value=at), run_id=RUN, writer=writer, rank=writer, first_seq=100 * at, next_seq=100 * at + 99)
        for at, (writer, rows, keys, _) in enumerate(shapes)
    ]
    values = [wire.encode(one) for one in sent]
    for one in values:
        wire.decode(one)
    batches, rest = frame_batch.decode_many(values, wire.PREFIX_BYTES)
    rows = PointRows()
    taken = list(rest)
    for place in rest:
        rows.add(sent[place])
    for batch in batches:
        # Chosen by frame: what is read together depends on what was read before.
        chosen = [at for at, place in enumerate(batch.places) if all_of_them or shapes[place][3]]
        rows.add_batch(batch, chosen)
        taken += [batch.places[at] for at in chosen]
    columns = Columns(arrow.as_lists(rows.table()))
    assert sorted(columns.points()) == sorted(examples.points_of([sent[place] for place in taken]))


def test_points_come_out_in_the_order_of_the_sort_key() -> None:
    """Frames of several ranks and contexts, in whatever order they came, need no sorting by ClickHouse."""
    frames = [
        examples.frame(examples.group(["loss", "accuracy"], 4 * number, 4, context=context, subject=subject), run_id=RUN, writer=9 - rank, rank=rank)
        for number, subject in ((2, ""), (0, "model/b/1"), (1, "model/a/1"))
        for rank in (1, 0, 2)
        for context in ("validation", "training")
    ]
    data = mapped(*frames).data
    columns: list[list[Any]] = [list(data[name]) for name in ("name", "context", "rank", "step", "writer", "seq")]
    keys: list[tuple[Any, ...]] = list(zip(*columns, strict=True))
    assert keys == sorted(keys, key=lambda key: tuple(map(str, key[:2])) + tuple(key[2:]))  # texts, then integers


@pytest.mark.stack
def test_runs_come_out_in_clickhouses_order(server: Server) -> None:
    """ClickHouse compares UUIDs in a way of its own."""
    runs = [str(uuid.uuid4()) for _ in range(50)]
    data = mapped(*(examples.frame(examples.group(["loss"], 0, 1), run_id=run, writer=1) for run in runs)).data
    ours = [str(uuid.UUID(bytes=one)) for one in data["run_id"] if isinstance(one, bytes)]
    [(theirs,)] = server.query("SELECT arrayMap(one -> toString(one), arraySort(arrayMap(one -> toUUID(one), {runs:Array(String)})))", {"runs": runs})
    assert ours == theirs


def test_columns_are_those_of_the_table_in_order() -> None:
    """The mapping and the table description name the same columns."""
    frame = examples.frame(examples.group(["loss"], 0, 1), run_id=RUN, writer=1)
    assert list(mapped(frame).data) == list(TABLES["metric_points"].columns)


def test_a_frame_that_came_over_the_wire_maps_like_the_one_that_was_sent() -> None:
    """Views of received bytes map as well as arrays of our own; NaN and infinities stay."""
    group = examples.group(["loss", "grad/norm"], 5, 3)
    group.values[0, 0], group.values[1, 1], group.values[2, 0] = np.nan, np.inf, -np.inf
    sent = examples.frame(group, run_id=RUN, writer=3, rank=2)
    received = wire.decode(wire.encode(sent))
    assert isinstance(received, rec.MetricFrame)
    ours, theirs = mapped(sent), mapped(received)
    assert np.array_equal(np.array(ours.data["value"], dtype=float), np.array(theirs.data["value"], dtype=float), equal_nan=True)
    ours.data.pop("value")
    theirs.data.pop("value")
    assert ours == theirs


@pytest.mark.parametrize(
    ("started_ms", "expected_s"),
    [
        (examples.STARTED_MS, examples.STARTED_MS // 1000),
        (-(1 << 62), bounds.STARTED_S_MIN),
        (0, bounds.STARTED_S_MIN),
        ((1 << 63) - 1, bounds.STARTED_S_MAX),
    ],
)
def test_a_hostile_start_is_held_within_fixed_bounds(started_ms: int, expected_s: int) -> None:
    """The partition of a point depends on its frame alone, never on the clock of the worker."""
    frame = examples.frame(examples.group(["loss"], 0, 2), run_id=RUN, writer=1, started=started_ms)
    assert mapped(frame).data["started"] == [expected_s, expected_s]


def test_hostile_times_are_held_within_what_clickhouse_prints() -> None:
    """A producer's broken clock does not lose its values."""
    group = examples.group(["loss"], 0, 2)
    group.times[:] = (-(1 << 62), 1 << 62)
    rows = PointRows()
    rows.add(examples.frame(group, run_id=RUN, writer=1))
    # As integers: datetime cannot hold these years.
    assert rows.table().column("time").cast("int64").to_pylist() == [bounds.TIME_MS_MIN, bounds.TIME_MS_MAX]


@pytest.mark.parametrize(
    "frame",
    [
        examples.frame(examples.group(["loss"], 0, 1), run_id="no-uuid", writer=1),
        examples.frame(examples.group(["loss"], 0, 1), run_id=RUN, writer=-1),
        examples.frame(examples.group(["loss"], 0, 1), run_id=RUN, writer=1, rank=-1),
        examples.frame(examples.group(["ok"], 0, 1), examples.group(["loss"], -5, 1), run_id=RUN, writer=1),
    ],
)
def test_a_frame_that_does_not_fit_leaves_nothing_behind(frame: rec.MetricFrame) -> None:
    """A frame is taken whole or not at all, so that its neighbours in the chunk are safe."""
    rows = PointRows()
    good = examples.frame(examples.group(["loss"], 0, 2), run_id=RUN, writer=1)
    rows.add(good)
    with pytest.raises(MalformedRecord):
        rows.add(frame)
    assert Columns(arrow.as_lists(rows.table())).points() == examples.points_of([good])


def test_another_record_is_refused() -> None:
    """A metric topic carries frames and nothing else."""
    with pytest.raises(MalformedRecord, match="expected a MetricFrame on this topic, got Event"):
        PointRows().add(examples.event(RUN))
