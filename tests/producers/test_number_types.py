"""What a journal says of the types of a metric's numbers, and of integers that doubles cannot hold."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from runstream_producers.journal import format as fmt
from runstream_producers.journal.number_types import NumberTypes, type_of
from runstream_producers.journal.plans import Scope
from runstream_producers.journal.writer import JournalWriter
from tests.producers.journals import Reports, make_writer, raw_rows

SCOPE = Scope("training", "")


def told(writer: JournalWriter) -> list[tuple[str, list[str], str]]:
    """Type, names and context of each record that says so."""
    found = [json.loads(row.payload) for row in raw_rows(writer.folder.path, writer.identity.writer) if row.kind == fmt.Kind.VALUE]
    return [(one["name"], json.loads(one["value"]), one["context"]) for one in found if one["role"] == "type"]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (True, "bool"),
        (3, "int"),
        (0.5, "float"),
        (np.bool_(1), "bool"),
        (np.uint8(3), "int"),
        (np.array([[3]]), "int"),
        (np.float16(1), "float"),
        (Fraction(1, 2), "float"),
        (SimpleNamespace(dtype="torch.int64"), "int"),
        (SimpleNamespace(dtype="<dtype: 'bool'>"), "bool"),
        (SimpleNamespace(dtype="torch.bfloat16"), "float"),
    ],
    ids=str,
)
def test_the_type_of_a_number_is_known_without_reading_it(value: Any, wanted: str) -> None:
    """Python's own types and, by their dtype, those of arrays and tensors of one element."""
    assert type_of(value) == wanted


def test_a_dtype_that_raises_is_no_type() -> None:
    """Whatever an object does when it is looked at, it is taken for a float."""

    class Odd:
        @property
        def dtype(self) -> str:
            raise RuntimeError("no")

    assert type_of(Odd()) == "float"


def test_types_are_told_once_and_floats_only_where_they_differ(tmp_path: Path) -> None:
    """Names of one type share a record; another type of the same metric is told once, by whatever set of names it comes, and nothing after that."""
    writer = make_writer(tmp_path)
    for step in range(3):
        writer.log({"n": step, "m": step, "on": True, "x": 0.5}, step=step, context="training")
    writer.log({"n": 1}, context="validation")
    assert told(writer) == [("int", ["m", "n"], "training"), ("bool", ["on"], "training"), ("int", ["n"], "validation")]
    writer.log({"n": 0.5}, context="training")
    writer.log({"n": True, "another": 1.0}, context="training")
    writer.log({"deep": {"n": 1}}, context="training")
    assert told(writer)[3:] == [("float", ["n"], "training"), ("int", ["deep/n"], "training")]
    writer.close("finished", "")


def test_types_are_looked_at_again_in_each_segment(tmp_path: Path) -> None:
    """A change behind the first call, which is packed without a look, is told once the next segment begins."""
    writer = make_writer(tmp_path)
    writer.log({"n": 0})
    for step in range(3000):
        writer.log({"n": step + 0.5})
    assert told(writer) == [("int", ["n"], ""), ("float", ["n"], "")]
    writer.close("finished", "")


def test_a_forked_child_tells_what_it_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a writer of its own, whose silence would mean floats."""
    types = NumberTypes()
    assert [one.type for one in types.news(SCOPE, {"n"}, {"n": 1})] == ["int"]
    assert types.news(SCOPE, {"n"}, {"n": 1}) == []
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    assert [one.type for one in types.news(SCOPE, {"n"}, {"n": 1})] == ["int"]


def test_an_integer_that_no_double_is_is_told(tmp_path: Path) -> None:
    """The first call of a set of names says what such an integer is kept as; those that doubles hold are not spoken of, however large."""
    reports = Reports()
    writer = make_writer(tmp_path, report=reports)
    writer.log({"a": (1 << 53) + 1, "b": 1 << 60, "c": 1 << 53})
    assert reports.keys == {"digits:a"}
    assert "9007199254740993" in reports.told[0][1]
    assert "9007199254740992" in reports.told[0][1]
    writer.close("finished", "")
