"""What counts as a value, a step, a time and a context: through the quick way and the slow one alike."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import fractions
import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_producers.errors import StrictError
from runstream_producers.journal import values as val
from tests.producers.journals import Reports, bits, make_writer, read_writer

NUMPY_NUMBERS = [np.bool_, np.float16, np.float32, np.float64, np.longdouble, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]


class Floaty:
    """A number of a library that we do not know."""

    def __float__(self) -> float:
        return 2.5


class Indexy:
    """An integer of a library that we do not know."""

    def __index__(self) -> int:
        return 7


class Tensor:
    """A tensor as torch has them: a shape, and `item()` where there is one element."""

    def __init__(self, *values: float, shape: tuple[int, ...]) -> None:
        self._values = values
        self.shape = shape

    def item(self) -> float:
        """The only element."""
        if len(self._values) != 1:
            raise RuntimeError("a Tensor with more elements cannot be converted to Scalar")
        return self._values[0]

    def __add__(self, other: object) -> Tensor:
        return self

    __radd__ = __add__


class Broken:
    """An object that raises whatever it is asked."""

    def __getattr__(self, name: str) -> Any:
        raise LookupError(name)

    def __float__(self) -> float:
        raise LookupError("float")

    def __repr__(self) -> str:
        raise LookupError("repr")


class Phase(enum.Enum):
    TRAINING = 1


EARLY, LATE = dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23, 59)  # noqa: DTZ001 - of local time, and out of its range


def type_name(value: object) -> str:
    """The name of a value's type, for a test's id."""
    return type(value).__name__


NUMBERS: list[tuple[Any, float]] = [
    (1, 1.0),
    (True, 1.0),
    (-0.0, -0.0),
    (float("nan"), float("nan")),
    (float("inf"), float("inf")),
    (1 << 62, float(1 << 62)),
    (decimal.Decimal("0.25"), 0.25),
    (fractions.Fraction(1, 8), 0.125),
    (Floaty(), 2.5),
    (Indexy(), 7.0),
    (Tensor(1.5, shape=()), 1.5),
    (Tensor(1.5, shape=(1, 1)), 1.5),
    (np.array(1.5), 1.5),
    (np.array([1.5], np.float32), 1.5),
    (np.array([[[3]]], np.int16), 3.0),
    (np.array(4.5, dtype=object), 4.5),
    *[(kind(1), 1.0) for kind in NUMPY_NUMBERS],
    (np.float32("nan"), float("nan")),
    (np.float16("-inf"), float("-inf")),
]
NO_NUMBERS: list[Any] = [
    None,
    [1.0],
    (1.0,),
    {1.0},
    object(),
    1 + 2j,
    1 << 2000,
    decimal.Decimal("sNaN"),
    np.complex64(1),
    np.array("1.5"),
    np.array("1.5", dtype=object),
    np.array([]),
    np.datetime64(1, "ns"),
    np.timedelta64(1, "ns"),
    np.timedelta64(1, "s"),
    np.void(b"12345678"),
    Tensor(1.0, 2.0, shape=(2,)),
    Broken(),
    dt.timedelta(seconds=1),
    float,
]


@pytest.mark.parametrize(("value", "number"), NUMBERS, ids=type_name)
def test_numbers_are_kept(tmp_path: Path, value: Any, number: float) -> None:
    """A number is kept to the bit, in a call's first row of its names and in later ones, alone and beside others, without a warning of anybody."""
    reports = Reports()
    writer = make_writer(tmp_path, report=reports)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            writer.log({"a": value})
            writer.log({"a": value, "b": 1.0, "c": 3})
            writer.log({"x": {"a": value}})
    rows = read_writer(writer)
    assert [row.values for row in rows] == [{"a": bits(number)}, {"a": bits(number), "b": bits(1.0), "c": bits(3.0)}, {"x/a": bits(number)}] * 3
    assert reports.told == []


@pytest.mark.parametrize("value", NO_NUMBERS, ids=type_name)
def test_what_is_no_number_is_refused_for_its_name(tmp_path: Path, value: Any) -> None:
    """One warning names the key and what came, the rest of the call is kept, the value is counted as dropped; so too where the names were plain numbers before."""
    reports = Reports()
    writer = make_writer(tmp_path, report=reports)
    for known in (1.0, np.float32(1.0)):
        writer.log({"good": known, "bad": known})
        writer.log({"bad": known})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        writer.log({"good": 2.0, "bad": value})
        writer.log({"bad": value})
    assert [row.values for row in read_writer(writer)][4:] == [{"good": bits(2.0)}]
    assert writer.dropped == {"bad_value": 2}
    assert writer.seq == 5
    assert reports.keys == {"value:bad"}
    sentence = reports.told[0][1]
    assert "'bad'" in sentence
    assert "kept" in sentence


def test_numpy_scalars_take_the_quick_way_once_met(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its first row a set of names with numpy's scalars is packed at once, whatever of them stand in it, with no overflow warning from looking at them."""
    writer = make_writer(tmp_path)
    big = np.float32(3e38)
    writer.log({"a": big, "b": big})
    writer.log({"c": big})

    def slowly(*_: object) -> None:
        pytest.fail("the slow way was taken")

    monkeypatch.setattr(writer._slow, "log", slowly)
    step: Any = np.int64(5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        writer.log({"a": big, "b": big})
        writer.log({"a": np.float32("inf"), "b": np.float32("-inf")})
        writer.log({"a": 1.0, "b": True})
        writer.log({"c": big}, step=step)
    assert len(read_writer(writer)) == 6


def test_integers_beyond_doubles_in_a_known_row_are_refused_alone(tmp_path: Path) -> None:
    """10 to the 400 is no double: it is refused for its name though the names have a plan."""
    reports = Reports()
    writer = make_writer(tmp_path, report=reports)
    for value in (1, 10**400, 2):
        writer.log({"a": value, "b": 0.5})
    assert [list(row.values) for row in read_writer(writer)] == [["a", "b"], ["b"], ["a", "b"]]
    assert reports.keys == {"value:a"}


def test_nested_names_flatten_and_two_that_meet_are_both_refused(tmp_path: Path) -> None:
    """Names of nested dicts join with a slash; where two come to the same, neither value can be told to be right."""
    reports = Reports()
    writer = make_writer(tmp_path, report=reports)
    writer.log({"a": {"b": {"c": 1.0}, 2: 2.0}, "d": 3.0})
    writer.log({"a": {"b": 1.0}, "a/b": 2.0, "c": 3.0})
    odd: Any = {1: 1.0, "1": 2.0, "c": 3.0}
    writer.log(odd)
    first, second, third = read_writer(writer)
    assert first.values == {"a/b/c": bits(1.0), "a/2": bits(2.0), "d": bits(3.0)}
    assert second.values == third.values == {"c": bits(3.0)}
    assert reports.keys == {"value:a/b", "value:1", "key"}


def test_endless_dictionaries_end(tmp_path: Path) -> None:
    """A dict within itself is refused at a depth, and the rest is kept."""
    reports = Reports()
    writer = make_writer(tmp_path, report=reports)
    endless: dict[str, Any] = {"v": 1.0}
    endless["again"] = endless
    writer.log(endless)
    [row] = read_writer(writer)
    assert row.values["v"] == bits(1.0)
    assert len(reports.told) == 1
    assert "deep" in reports.told[0][1]


class Odd(Mapping[str, float]):
    """A mapping of the user's own; `fails` says what of it raises."""

    def __init__(self, fails: str = "") -> None:
        self._fails = fails

    def __getitem__(self, key: str) -> float:
        if self._fails == "get":
            raise RuntimeError("get")
        return 1.5

    def __iter__(self) -> Iterator[str]:
        if self._fails == "iter":
            raise RuntimeError("iter")
        return iter(["a", "b"])

    def __len__(self) -> int:
        return 2


def test_any_mapping_is_taken(tmp_path: Path) -> None:
    """Mappings that are no dicts are logged, first and later."""
    writer = make_writer(tmp_path)
    writer.log(Odd())
    writer.log(Odd())
    assert [row.values for row in read_writer(writer)] == [{"a": bits(1.5), "b": bits(1.5)}] * 2


@pytest.mark.parametrize("data", [None, 5, "text", [1.0], Odd("iter"), Odd("get"), Broken(), {Broken(): 1.0}], ids=type_name)
def test_what_is_no_mapping_is_told(tmp_path: Path, data: Any) -> None:
    """A call with something else than names and numbers raises nothing into training, and the next one is logged."""
    reports = Reports()
    writer = make_writer(tmp_path, report=reports)
    writer.log({"a": 1.0, "b": 2.0})
    writer.log(data)
    writer.log(data, context=Phase.TRAINING)
    writer.log({"a": 1.0, "b": 2.0})
    assert [row.seq for row in read_writer(writer)] == [0, 1]
    assert reports.keys == {f"call:{type(data).__name__}"}


def test_an_empty_call_is_nothing(tmp_path: Path) -> None:
    """No names, no row, no seq, no step."""
    writer = make_writer(tmp_path)
    writer.log({})
    writer.log({"a": 1.0})
    assert [(row.seq, row.step) for row in read_writer(writer)] == [(0, 0)]


@pytest.mark.parametrize(
    ("step", "number"),
    [
        (5, 5),
        (-3, -3),
        (True, 1),
        (5.0, 5),
        (np.float32(5.0), 5),
        (np.float64(-5.0), -5),
        (np.uint8(200), 200),
        (np.int64(-(1 << 63)), -(1 << 63)),
        (np.array(6), 6),
        (np.array([6]), 6),
        (Tensor(8, shape=()), 8),
        (Tensor(8.0, shape=(1,)), 8),
        (Indexy(), 7),
        (float(1 << 62), 1 << 62),
    ],
    ids=type_name,
)
def test_steps(tmp_path: Path, step: Any, number: int) -> None:
    """Integers of any library and floats that are whole are steps, in a first row and in later ones."""
    writer = make_writer(tmp_path)
    writer.log({"a": 1.0}, step=step)
    writer.log({"a": 1.0}, step=step)
    assert [row.step for row in read_writer(writer)] == [number] * 2


@pytest.mark.parametrize(
    "step",
    [
        0.5,
        "5",
        1 << 63,
        -(1 << 63) - 1,
        float("nan"),
        float("inf"),
        1e300,
        np.uint64(1 << 63),
        np.array([1, 2]),
        [1],
        object(),
        Broken(),
        dt.datetime.now(dt.UTC),
    ],
    ids=type_name,
)
def test_bad_steps_are_told_and_the_row_is_kept(tmp_path: Path, step: Any) -> None:
    """What is no integer of 64 bits leaves the row under the counted step, with one warning that shows it."""
    reports = Reports()
    writer = make_writer(tmp_path, report=reports)
    writer.log({"a": 1.0})
    writer.log({"a": 2.0}, step=step)
    writer.log({"a": 3.0})
    assert [(row.step, row.values["a"]) for row in read_writer(writer)] == [(0, bits(1.0)), (1, bits(2.0)), (2, bits(3.0))]
    assert {key.partition(":")[0] for key in reports.keys} == {"step"}


def test_counted_steps_are_of_a_context_and_subject(tmp_path: Path) -> None:
    """Without a step each context and subject counts for itself, and an explicit step does not move the count."""
    writer = make_writer(tmp_path)
    for context, subject, step in [(None, "", None), ("v", "", None), (None, "", None), (None, "s", None), (None, "", 70), (None, "", None), ("v", "", None)]:
        writer.log({"a": 1.0}, step, context=context, subject=subject)
    assert [row.step for row in read_writer(writer)] == [0, 0, 1, 0, 70, 2, 1]


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        (1.5, 1.5),
        (0, 0.0),
        (np.float64(2.5), 2.5),
        (np.int32(-7), -7.0),
        (dt.datetime(2001, 2, 3, tzinfo=dt.UTC), 981158400.0),
        (dt.datetime(1900, 1, 1, tzinfo=dt.UTC), -2_208_988_800.0),
    ],
    ids=type_name,
)
def test_times(tmp_path: Path, time: Any, seconds: float) -> None:
    """Seconds of any number type and datetimes are times."""
    writer = make_writer(tmp_path)
    writer.log({"a": 1.0}, time=time)
    assert read_writer(writer)[0].time_s == seconds


@pytest.mark.parametrize(
    "time",
    ["2020-01-01", float("nan"), 1e12, -1e12, object(), Broken(), np.datetime64("2020-01-01"), EARLY, LATE, dt.date(2020, 1, 1)],
    ids=type_name,
)
def test_bad_times_are_told_and_the_row_is_kept(tmp_path: Path, time: Any) -> None:
    """What is no time, or is milliseconds by mistake, leaves the row with the moment of the call."""
    reports = Reports()
    writer = make_writer(tmp_path, report=reports)
    writer.log({"a": 1.0}, time=time)
    assert read_writer(writer)[0].time_s > 1.7e9
    assert {key.partition(":")[0] for key in reports.keys} == {"time"}


def test_contexts_and_subjects_of_any_type(tmp_path: Path) -> None:
    """Enums count by their name in lower case, other objects by their text."""
    writer = make_writer(tmp_path)
    writer.log({"a": 1.0}, context=Phase.TRAINING)
    writer.log({"a": 1.0}, context=5, subject=Path("model/x"))  # pyright: ignore[reportArgumentType]  # what callers do
    assert [(row.context, row.subject) for row in read_writer(writer)] == [("training", ""), ("5", "model/x")]


def test_strict_mode_raises(tmp_path: Path) -> None:
    """Where the report raises, bad input raises in the call, no row is written and the journal goes on."""

    def strict(_key: str, sentence: str) -> None:
        raise StrictError(sentence)

    writer = make_writer(tmp_path, report=strict)
    with pytest.raises(StrictError):
        writer.log({"a": 1.0}, step=0.5)  # pyright: ignore[reportArgumentType]  # what callers do
    with pytest.raises(StrictError):
        writer.log({"a": 1.0}, time="x")
    with pytest.raises(StrictError, match="'a'"):
        writer.log({"a": [1.0], "b": 1.0})
    with pytest.raises(StrictError):
        writer.log(None)  # pyright: ignore[reportArgumentType]  # what callers do
    writer.log({"a": 1.0})
    assert [row.seq for row in read_writer(writer)] == [0]


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(), lambda one: st.lists(one) | st.dictionaries(st.text(), one))
)
def test_flatten_takes_anything_apart(value: Any) -> None:
    """Each leaf is a number under its name or refused under it, and no name is both."""
    flat, refused, *_ = val.flatten({"x": value})
    assert not set(flat) & set(refused)
    assert all(type(number) is float for number in flat.values())
    for number in (value,):
        found = val.number_of(number)
        assert found is None or type(found) is float
        assert isinstance(number, (bool, int, float)) or found is None
    assert isinstance(val.shown(value), str)
    assert math.isfinite(len(val.told(value)))
