# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (pyarrow carries no types.)
"""Rows of journals as Parquet files, through pyarrow, which is asked for only here: it comes with `pip install runstream-producers[parquet]`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from runstream_producers.errors import ProducersError
from runstream_producers.journal.export import rows_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from runstream_producers.journal.survey import Journal

_POINTS_MAX = 200_000  # Of one row group.


def to_parquet(journals: Iterable[Journal], folder: Path) -> dict[str, int]:
    """Writes `points.parquet`, one line a metric value, and `records.parquet`, one line for each other record; returns how many lines each has.

    Raises:
        ProducersError: pyarrow is not installed.
        OSError: a file cannot be made; one that is there already is not written over.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ProducersError("Parquet needs the package pyarrow, which is not installed: install it, or export as avro or jsonl") from error
    text, name = pa.string(), pa.dictionary(pa.int32(), pa.string())
    who = [("run_id", name), ("kind", name), ("rank", pa.int32()), ("writer", pa.int64()), ("seq", pa.int64()), ("time", pa.timestamp("ms", tz="UTC"))]
    points_schema = pa.schema([*who, ("step", pa.int64()), ("context", name), ("subject", name), ("name", name), ("value", pa.float64())])
    records_schema = pa.schema([*who, ("record", text)])
    folder.mkdir(parents=True, exist_ok=True)
    counts = {"points.parquet": 0, "records.parquet": 0}
    with (folder / "points.parquet").open("xb") as points_file, (folder / "records.parquet").open("xb") as records_file:
        points_writer, records_writer = pq.ParquetWriter(points_file, points_schema), pq.ParquetWriter(records_file, records_schema)
        points: list[tuple[Any, ...]] = []
        records: list[tuple[Any, ...]] = []

        def flush() -> None:
            for file, writer, schema, lines in (
                ("points.parquet", points_writer, points_schema, points),
                ("records.parquet", records_writer, records_schema, records),
            ):
                if lines:
                    columns = [pa.array(column, type=field.type) for column, field in zip(zip(*lines, strict=True), schema, strict=True)]
                    writer.write_table(pa.Table.from_arrays(columns, schema=schema))
                    counts[file] += len(lines)
                    lines.clear()

        for journal in journals:
            one = journal.identity
            for row in rows_of(journal):
                kind = one.kind if row.values is not None else row.kind
                head = (one.run_id, kind, one.rank, one.writer, row.seq, round(row.time_s * 1000))
                if row.values is None:
                    records.append((*head, json.dumps(row.record)))
                else:
                    points += [(*head, row.step, row.context, row.subject, key, value) for key, value in row.values.items()]
                if len(points) > _POINTS_MAX or len(records) > _POINTS_MAX:
                    flush()
        flush()
        points_writer.close()
        records_writer.close()
    return counts
