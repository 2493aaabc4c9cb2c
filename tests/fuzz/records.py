"""The targets `frame` and `wire`: bytes of a topic are a record, or MalformedRecord or UnknownSchema, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from runstream_schemas import frame, frame_batch, wire
from runstream_schemas.catalogue import bundled
from runstream_schemas.errors import MalformedRecord, UnknownSchema
from runstream_schemas.records import MetricFrame
from tests.fuzz.target import Target, hold
from tests.schemas.frames import datum_picture, fastavro_datum, forget, picture, sample
from tests.schemas.records import KINDS, fields_of, values_of
from tests.schemas.test_frame_hostile import without_empty_groups

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runstream_schemas.records import Record


def _frame_or_none(data: bytes) -> MetricFrame | None:
    try:
        return frame.decode(data)
    except MalformedRecord:
        return None


def check_frame(data: bytes) -> None:
    """Bytes are refused, or read as fastavro reads them; alone, again, and together with others of their layout."""
    one = _frame_or_none(data)
    again = _frame_or_none(data)
    if one is None:
        hold(again is None, "what is refused is refused again")
    else:
        seen = picture(one)
        hold(again is not None and picture(again) == seen, "a memo makes no difference")
        hold(datum_picture(frame.to_datum(one)) == datum_picture(without_empty_groups(fastavro_datum(data))), "what is read is what fastavro reads")
        written = frame.encode(one)
        hold(picture(frame.decode(written)) == seen, "what is read can be written, and is read again as the same")
    batches, rest = frame_batch.decode_many([data] * 5)
    taken = [place for batch in batches for place in batch.places]
    hold(sorted(taken + rest) == list(range(5)), "each frame is in one batch or left over")
    for batch in batches:
        for at in range(len(batch.places)):
            hold(one is not None and picture(batch.frame(at)) == picture(one), "a frame among many is the frame alone")


def _frame_seeds() -> list[bytes]:
    forget()
    far = sample()
    group = far.groups[0]
    wide = far.groups[0]._replace(steps=group.steps + (1 << 60))
    frames = [far, sample(groups=()), sample(rows=1, keys=("a",)), far._replace(groups=(group, wide)), sample(node="", project="ü", rank=-1)]
    return [frame.encode(one) for one in frames]


def _decoded(data: bytes) -> Record | None:
    try:
        return wire.decode(data)
    except (MalformedRecord, UnknownSchema):
        return None


def _seen(record: Record) -> object:
    # A NaN equals nothing, and its text equals itself.
    return picture(record) if isinstance(record, MetricFrame) else repr(record)


def check_wire(data: bytes) -> None:
    """The first byte chooses the schema, so that the search does not have to guess four bytes of an id; the rest is the body."""
    entries = bundled().entries()
    if not data:
        hold(_decoded(b"") is None, "nothing is no record")
        return
    entry = entries[data[0] % len(entries)]
    record = _decoded(b"\0" + entry.schema_id.to_bytes(4, "big") + data[1:])
    if record is None:
        return
    hold(type(record).__name__ == entry.name, "a record is of the type that its id says")
    written = wire.encode(record)
    hold(_seen(wire.decode(written)) == _seen(record), "what is read can be written, and is read again as the same")


def _encoded(name: str, fields: Mapping[str, Any]) -> bytes:
    kind: Any = KINDS[name]
    return wire.encode(kind(**{field: tuple(cast("list[Any]", value)) if isinstance(value, list) else value for field, value in fields.items()}))


def _wire_seeds() -> list[bytes]:
    out: list[bytes] = []
    for place, entry in enumerate(bundled().entries()):
        if entry.name not in KINDS or entry != bundled().newest(entry.name):
            continue
        if entry.name == "MetricFrame":
            bodies: list[bytes] = [wire.encode(sample())]
        else:
            choices = {field: values_of(avro_type) for field, avro_type in fields_of(entry.name).items()}
            # The columns of a summary are of one length.
            count = 1 if entry.name == "SummaryFrame" else max(map(len, choices.values()))
            bodies = [_encoded(entry.name, {field: values[number % len(values)] for field, values in choices.items()}) for number in range(count)]
        out += [bytes((place,)) + body[wire.PREFIX_BYTES :] for body in bodies]
    return out


FRAME = Target("frame", "frames are refused or read as fastavro reads them", check_frame, _frame_seeds, 4096)
WIRE = Target("wire", "records of every type are refused or come back", check_wire, _wire_seeds, 4096)
