"""What is told of a writer by whoever ships its journal: its state and account as of now, and its last word once it has ended.

The agent tells it while a rank lives; `runstream sync` may tell it a week later, so the last sign of life is the journal's and not the clock's: a restart that began
after it must read as the later attempt.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from runstream_producers.heartbeat import Account, final_version, writer_record
from runstream_producers.journal.segments import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from runstream_producers.journal import format as fmt
    from runstream_producers.kafka import Sender
    from runstream_producers.shipper import Shipment
    from runstream_schemas import records as rec

CRASHED = "its process ended without a word"
TROUBLE_NAME = "trouble.txt"


def told(shipment: Shipment, end: fmt.End | None, *, alive_ms: int, heartbeat: int | None = None) -> rec.Writer:
    """The writer's record with `alive_ms` as its last sign of life: that it runs, as the version `heartbeat`, or its last state where that is None."""
    points = shipment.points_seen if end is None else max(end.points, shipment.points_seen)
    dropped = shipment.dropped if end is None else end.dropped | shipment.refused
    account = Account(shipment.next_seq, shipment.rows_read, points, dropped, shipment.ack.rows, shipment.ack.points)
    if heartbeat is not None:
        return writer_record(shipment.identity, account, state="running", reason="", version=heartbeat, alive_ms=alive_ms)
    state, reason = "crashed", CRASHED
    if end is not None:
        state, reason = end.state, end.reason
    elif torn := shipment.torn_bytes():
        reason = f"{CRASHED}; {torn} bytes of its last row were not finished"
    version = final_version(account.next_seq, said=end is not None)
    return writer_record(shipment.identity, account, state=state, reason=reason, version=version, alive_ms=alive_ms)


def last_sign_ms(folder: Path, started_ms: int) -> int:
    """When a journal last changed, in epoch milliseconds: at its end, else at the last row that came onto a page of its own; not before its start."""
    for names in ("end.json", "*.seg"):
        times: list[float] = []
        for path in folder.glob(names):
            with contextlib.suppress(FileNotFoundError):
                times.append(path.stat().st_mtime)
        if times:
            return max(started_ms, int(max(times) * 1000))
    return started_ms


def publish_schemas(sender: Sender, topic_prefix: str) -> None:
    """Puts every schema under its id on the schema topic before a record uses it."""
    from runstream_schemas import records, wire
    from runstream_schemas.catalogue import bundled

    for one in bundled().entries():
        record = records.Schema(schema_id=one.schema_id, name=one.name, version=one.version, schema=one.text)
        sender.send(f"{topic_prefix}.schema", str(one.schema_id).encode(), wire.encode(record), lambda _failure: None)


def tell_trouble(folder: Path, trouble: str) -> None:
    """Leaves the one sentence on why nothing arrives at Kafka at present beside the journals; takes it away where it is empty."""
    path = folder / TROUBLE_NAME
    with contextlib.suppress(OSError):
        if trouble:
            write_whole(path, trouble)
        else:
            path.unlink(missing_ok=True)


def trouble_of(folder: Path) -> str:
    """Why nothing arrives at Kafka at present, as whoever ships this folder last said; empty where nothing is known."""
    try:
        return (folder / TROUBLE_NAME).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
