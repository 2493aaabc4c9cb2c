"""Deaths at named points: what a rank leaves in its journal at each, what is a request to Kafka, and that a point which nobody comes by counts as none."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from runstream_producers.journal import format as fmt
from runstream_producers.journal.reader import Reader
from runstream_schemas.ids import new_uuid
from tests.faults.deaths import commit, insert, produce
from tests.faults.findings import Findings
from tests.faults.harness import Lived
from tests.faults.rank import STEP, STOPPED
from tests.faults.schedule import Blow, Plan
from tests.faults.stage import ROOT
from tests.faults.trap import OF_ENDS, OF_RANK, RANK_POINTS, Trap
from tests.producers.journals import START
from tests.told import told
from tests.waiting import wait_for


def started(point: str, folder: Path) -> subprocess.Popen[bytes]:
    """A rank without Kafka, whose calls are made in Python."""
    folder.mkdir()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RUNSTREAM_")} | {
        "PYTHONPATH": str(ROOT),
        "RUNSTREAM_MODE": "offline",
        "RUNSTREAM_JOURNAL_DIR": str(folder / "journals"),
        "RUNSTREAM_HOME": str(folder),
        "RUNSTREAM_RUN_ID": new_uuid(),
        "RUNSTREAM_SEGMENT_BYTES": str(1 << 16),
        "RUNSTREAM_COMPILED": "false",
        OF_RANK: str(folder / "trap"),
    }
    argv = [sys.executable, "-m", "tests.faults.dying_rank", "--ledger", str(folder / "ledger"), "--stop", str(folder / "stop"), "--rate", "500"]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(argv, env=environ, stdout=log, stderr=log)


def check_journal(point: str, folder: Path) -> None:
    """What a rank that died at a point has left."""
    assert Trap(folder / "trap", RANK_POINTS).death == point
    [journal] = (folder / "journals").rglob("w-*")
    reader = Reader(journal, fmt.Identity.from_json((journal / "writer.json").read_text()).writer, START)
    rows, ledger = list(reader.rows(1 << 30)), told(folder / "ledger")
    metrics = sum(row.kind == fmt.Kind.METRICS for row in rows)
    assert metrics - ledger[STEP] == (point == "published"), point
    assert (reader.torn_bytes() > 0) == (point == "torn"), point
    assert bool(ledger[STOPPED]) == (point in OF_ENDS), point
    assert (journal / "end.json").exists() == (point == "ended"), point
    assert bool(list(journal.glob("*.part"))) == (point == "allocated"), point
    assert (reader.position.offset == fmt.HEADER_BYTES) == (point == "rotated"), point
    reader.close()


def test_a_rank_leaves_at_each_point_what_its_name_says(tmp_path: Path) -> None:
    """Nothing of a row, half of it, all of it and a ledger that does not know; a segment without a name, one without rows; no end, and an end."""
    dying = {point: started(point, tmp_path / point) for point in RANK_POINTS}
    try:
        for point in dying:
            ledger = tmp_path / point / "ledger"
            wait_for(lambda ledger=ledger: ledger.exists() and sum(told(ledger)[STEP : STEP + 1]) > 10, 30, (tmp_path / point / "log").read_text)
            Trap(tmp_path / point / "trap", RANK_POINTS).arm(point)
            if point in OF_ENDS:
                (tmp_path / point / "stop").touch()
        for point, process in dying.items():
            assert process.wait(30) == -signal.SIGKILL, (tmp_path / point / "log").read_text()
            check_journal(point, tmp_path / point)
    finally:
        for process in dying.values():
            process.kill()
            process.wait()


def test_requests_are_known_from_others() -> None:
    """A request with records from a short one and from a piece of one, a sink's commit from that of the processors; an answer by its number."""

    def request(kind: int, size: int, mark: bytes = b"") -> bytes:
        return struct.pack(">ihhi", size, kind, 9, 77) + mark + bytes(size)

    answer = produce(request(0, 2000))
    assert answer is not None
    assert answer(struct.pack(">ii", 20, 77))
    assert not answer(struct.pack(">ii", 20, 78))
    assert produce(request(0, 100)) is produce(request(1, 2000)) is produce(b"\xff" * 2000) is None
    assert commit(request(8, 60, b"runstream-sinks")) is not None
    assert commit(request(8, 60, b"runstream-processors")) is commit(request(0, 60, b"runstream-sinks")) is None
    assert insert(b"POST /?query=INSERT+INTO+metric_points HTTP/1.1") is not None
    assert insert(b"POST /?query=SELECT+1 HTTP/1.1") is None


def test_a_point_that_nobody_comes_by_is_told() -> None:
    """It harms nobody afterwards, and stands in the seed's line."""
    blow = Blow(1.0, "die", "agent", for_s=5.0, detail="told")
    lived = Lived(Plan(7, 2, 1.0, 8.0, (blow,)), Counter(), Counter(), (blow,), 0, Findings(), time.monotonic())
    assert lived.report().endswith("NOT SEEN:  1.0 s die agent told within 5.0 s")


def test_a_trap_that_is_disarmed_harms_nobody(tmp_path: Path) -> None:
    """Nor does one at another point."""
    traps = Trap(tmp_path / "trap", RANK_POINTS)
    traps.arm("torn")
    traps.here("packed")
    traps.disarm("torn")
    traps.here("torn")
    assert traps.death == ""
