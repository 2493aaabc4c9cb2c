"""Ids that the client makes."""

from __future__ import annotations

import os
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_schemas.ids import NAMESPACE, named_uuid, new_uuid, new_writer, run_id_of


def test_writers_have_63_bits() -> None:
    """A writer fits a signed 64-bit integer, is never 0, and uses all of its bits."""
    writers = {new_writer() for _ in range(2000)}
    assert len(writers) == 2000
    assert all(0 < writer < 1 << 63 for writer in writers)
    seen = 0
    for writer in writers:
        seen |= writer
    assert seen == (1 << 63) - 1


def test_a_writer_is_never_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """0 stands for no writer, so that draw is thrown away; so is 1, whose 63 upper bits are 0."""
    draws = [bytes(8), bytes(7) + b"\x01", bytes(7) + b"\x02"]

    def draw(size: int) -> bytes:
        assert size == 8
        return draws.pop(0)

    monkeypatch.setattr(os, "urandom", draw)
    assert new_writer() == 1


def test_forked_children_draw_other_ids() -> None:
    """A forked child does not repeat its parent's ids."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, f"{new_writer()} {new_uuid()}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    theirs = os.read(reader, 200).decode().split()
    os.close(reader)
    assert not {str(new_writer()), new_uuid()} & set(theirs)


def test_uuids_are_version_7_and_sort_by_time() -> None:
    """A new UUID is of version 7 (RFC 9562) and variant 1, and carries the millisecond it was made in."""
    before = time.time_ns() // 1_000_000
    made = [uuid.UUID(new_uuid()) for _ in range(200)]
    after = time.time_ns() // 1_000_000
    assert len(set(made)) == 200
    for one in made:
        assert one.version == 7
        assert one.variant == uuid.RFC_4122
        assert before <= one.int >> 80 <= after


def test_named_uuids_never_change() -> None:
    """The ids of named runs are fixed for ever: a restart, or another language, must come to the same one."""
    assert str(NAMESPACE) == "6f1c1f6e-8f0c-5d53-9a55-2f0a3c5be0d1"
    assert run_id_of("digits", "job-7") == str(uuid.uuid5(NAMESPACE, "3:run6:digits5:job-7"))
    assert run_id_of("digits", "job-7") == "61d55333-158f-565c-9453-aa6614c026ca"
    assert uuid.UUID(run_id_of("digits", "job-7")).version == 5


@given(st.lists(st.text(max_size=4), max_size=3), st.lists(st.text(max_size=4), max_size=3))
def test_different_names_never_meet(left: list[str], right: list[str]) -> None:
    """Two lists of texts give one id only where they are the same list."""
    assert (named_uuid(*left) == named_uuid(*right)) == (left == right)
