"""Writes the example records: one file for the newest version of each record type, with its bytes in hexadecimal and its fields as JSON.

Files of older versions stay as they are, so that their bytes are read for ever. `--check` writes nothing and says what is out of date.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np

from runstream_schemas import records, wire
from runstream_schemas.catalogue import bundled

FOLDER = Path(__file__).resolve().parent.parent / "schemas" / "src" / "runstream_schemas" / "examples"

RUN_ID = "0192f0c4-5a00-7cc3-98d2-3f5e8a1b7c4d"
WRITER = 4_611_686_018_427_387_905
STARTED_MS = 1_760_000_000_000
NAN = float("nan")

_BAD_VALUE = b"\x00\x00\x00\x00\x01not a frame"
# One white pixel, as PNG.
_PIXEL = bytes.fromhex("89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c63f80f00010101001bb6ee560000000049454e44ae426082")

EXAMPLES: tuple[records.Record, ...] = (
    records.Run(
        run_id=RUN_ID,
        writer=WRITER,
        seq=0,
        time_ms=STARTED_MS,
        project="digits",
        name="baseline",
        owner="ada",
        framework="numpy",
        task="classification",
        tags=("nightly", "small"),
        metadata={"dataset": '"digits"', "layers": "[64, 32, 10]"},
    ),
    records.Writer(
        writer=WRITER,
        run_id=RUN_ID,
        project="digits",
        version=7,
        kind="rank",
        rank=1,
        local_rank=1,
        world_size=2,
        node="node-7",
        host="node-7.example",
        pid=4711,
        attempt="slurm/main/815/0/0",
        started_ms=STARTED_MS,
        state="finished",
        exit_reason="finish() was called",
        heartbeat_ms=STARTED_MS + 60_000,
        next_seq=1203,
        rows_logged=1200,
        points_logged=2390,
        points_dropped={"not a number": 3},
        rows_shipped=1200,
        points_shipped=2390,
        environment={"python": "3.11.9", "git.commit": "5f2c1e0"},
    ),
    records.MetricFrame(
        run_id=RUN_ID,
        writer=WRITER,
        started=STARTED_MS,
        attempt="slurm/main/815/0/0",
        rank=1,
        node="node-7",
        project="digits",
        first_seq=40,
        next_seq=45,
        rules_seen=1,
        groups=(
            records.MetricGroup(
                context="train",
                subject="",
                keys=("loss", "accuracy"),
                seqs=np.array([40, 41, 44]),
                steps=np.array([20, 21, 22]),
                times=STARTED_MS + np.array([1000, 1010, 1020]),
                values=np.array([[0.75, 0.5], [NAN, 0.5], [math.inf, -0.0]]),
            ),
            records.MetricGroup(
                context="validation",
                subject="checkpoint/22",
                keys=("loss",),
                seqs=np.array([42]),
                steps=np.array([(1 << 53) + 1]),
                times=STARTED_MS + np.array([1015]),
                values=np.array([[0.875]]),
            ),
        ),
    ),
    records.Event(
        event_id="0192f0c4-5f00-7a11-8000-9d0c2b3a4e5f",
        run_id=RUN_ID,
        writer=WRITER,
        seq=43,
        time_ms=STARTED_MS + 1018,
        name="checkpoint finished",
        rank=1,
        source="trainer",
        subject="checkpoint/22",
        step=22,
        metadata={"bytes": "40960", "seconds": "0.25"},
    ),
    records.Param(
        run_id=RUN_ID, writer=WRITER, seq=1, time_ms=STARTED_MS + 1, key="optimizer.learning_rate", kind="float", value="0.001", rank=1, context="train"
    ),
    records.Value(
        run_id=RUN_ID,
        writer=WRITER,
        seq=42,
        time_ms=STARTED_MS + 1016,
        name="attention",
        role="metric",
        kind="tensor",
        rank=1,
        context="validation",
        subject="checkpoint/22",
        step=22,
        dtype="<f4",
        shape=(1, 2),
        data=b"\x00\x00\x80?\x00\x00\x00?",
    ),
    records.Media(
        run_id=RUN_ID,
        writer=WRITER,
        seq=45,
        time_ms=STARTED_MS + 1025,
        name="sample",
        kind="image",
        rank=1,
        context="validation",
        subject="checkpoint/22",
        step=22,
        series="val",
        replaces=True,
        mime_type="image/png",
        data=_PIXEL,
        checksum=hashlib.sha256(_PIXEL).hexdigest(),
        size=len(_PIXEL),
    ),
    records.Artifact(
        artifact_id="0192f0c4-6000-5b22-9000-1a2b3c4d5e70",
        run_id=RUN_ID,
        writer=WRITER,
        seq=46,
        time_ms=STARTED_MS + 1030,
        kind="model_version",
        relation="output",
        name="net",
        path="net.pt",
        uri="s3://models/objects/5d/5d41402abc4b2a76b9719d911017c592ae41e4649b934ca495991b7852b855aa",
        mime_type="application/octet-stream",
        checksum="5d41402abc4b2a76b9719d911017c592ae41e4649b934ca495991b7852b855aa",
        size=40_960,
        parent=RUN_ID,
        project="digits",
        rank=1,
        context="training",
        subject="model/net/5d41402abc4b2a76b9719d911017c592ae41e4649b934ca495991b7852b855aa",
        step=22,
        metadata={"framework": '"torch"'},
    ),
    records.Rule(
        rule_id="loss-explodes",
        version=2,
        time_ms=STARTED_MS + 2,
        name="loss explodes",
        kind="change",
        metric="loss",
        run_id=RUN_ID,
        project="digits",
        context="train",
        rank=0,
        threshold=0.5,
        severity="critical",
        text="{metric} is {value} at step {step}",
        channels=("team",),
        writer=WRITER,
        ordinal=1,
        seq=0,
        active_ms=STARTED_MS + 2,
        clear=0.25,
        for_s=2.5,
        cooldown_s=600.0,
        window=10,
        baseline=50,
        measure="relative",
        direction="up",
        labels={"team": "vision"},
    ),
    records.Silence(
        silence_id="maintenance",
        version=1,
        time_ms=STARTED_MS + 3,
        author="ada",
        comment="the cluster moves",
        starts_ms=STARTED_MS,
        ends_ms=STARTED_MS + 3_600_000,
        project="digits",
        metric="gpu.*",
        labels={"team": "vision"},
    ),
    records.Schema(schema_id=bundled().newest("Schema").schema_id, name="Schema", version=1, schema=bundled().newest("Schema").text),
    records.Alert(
        alert_id="0192f0c4-6000-5b22-9000-1a2b3c4d5e6f",
        version=0,
        state="firing",
        rule_id="loss-explodes",
        rule_version=2,
        rule_name="loss explodes",
        kind="threshold",
        severity="critical",
        run_id=RUN_ID,
        writer=WRITER,
        seq=44,
        rank=1,
        metric="loss",
        context="train",
        subject="",
        step=22,
        time_ms=STARTED_MS + 1020,
        value=math.inf,
        operator=">",
        threshold=10.0,
        text="loss is inf at step 22",
        late=False,
        decided_ms=STARTED_MS + 1100,
        channels=("team",),
        project="digits",
        labels={"team": "vision"},
        baseline=0.75,
        opened_ms=STARTED_MS + 1010,
    ),
    records.Delivery(
        alert_id="0192f0c4-6000-5b22-9000-1a2b3c4d5e6f",
        version=0,
        channel="team",
        way="slack",
        outcome="delivered",
        reason="",
        message_id="b2f5ff47436671b6e533d8dc3614845d",
        alerts=500,
        tries=2,
        run_id=RUN_ID,
        rule_id="loss-explodes",
        severity="critical",
        state="firing",
        time_ms=STARTED_MS + 1020,
        taken_ms=STARTED_MS + 1150,
        done_ms=STARTED_MS + 1900,
    ),
    records.Digest(
        run_id=RUN_ID,
        project="digits",
        writers=(WRITER, WRITER + 2),
        ranks=(1, 0),
        states=("running", ""),
        attempts=("slurm/main/815/0/0", "slurm/main/815/0/0"),
        starts=(STARTED_MS, STARTED_MS + 7),
        heartbeats=(STARTED_MS + 5000, 0),
        world_sizes=(2, 0),
        rule_ids=("slow-rank",),
        rule_versions=(1,),
        metrics=("step_seconds",),
        contexts=("train",),
        subjects=("",),
        tracks=(0, 0),
        places=(0, 1),
        blocks=(2, 2),
        figures=(0.25, 0.5),
        times=(STARTED_MS + 1020, STARTED_MS + 1030),
    ),
    records.SummaryFrame(
        run_id=RUN_ID,
        writer=WRITER,
        block=0,
        next_seq=45,
        rank=1,
        attempt="slurm/main/815/0/0",
        started=STARTED_MS,
        time_ms=STARTED_MS + 1020,
        names=("loss", "grad_norm"),
        contexts=("train", "train"),
        subjects=("", ""),
        counts=(3, 1),
        non_finites=(2, 1),
        sums=(0.75, 0.0),
        means=(0.75, NAN),
        m2s=(0.0, 0.0),
        mins=(0.75, NAN),
        min_steps=(20, 0),
        maxs=(0.75, NAN),
        max_steps=(20, 0),
        firsts=(0.75, NAN),
        first_steps=(20, 21),
        lasts=(math.inf, NAN),
        last_steps=(22, 21),
        first_times=(STARTED_MS + 1000, STARTED_MS + 1010),
        last_times=(STARTED_MS + 1020, STARTED_MS + 1010),
    ),
    records.DeadLetter(
        topic="runstream.metric",
        partition=3,
        offset=1_234_567,
        time_ms=STARTED_MS + 2000,
        value=_BAD_VALUE,
        sha256=hashlib.sha256(_BAD_VALUE).hexdigest(),
        reason="schema id 1 is not in the catalogue",
        key=WRITER.to_bytes(8, "big"),
        schema_id=1,
        worker="sinks-0",
        set_aside_ms=STARTED_MS + 2100,
    ),
)


def plain(value: Any) -> Any:
    """A record, or a part of one, as JSON that every reader takes: bytes as hexadecimal, numbers that JSON lacks by name."""
    if isinstance(value, records.MetricFrame | records.MetricGroup):
        return {name: plain(one) for name, one in value._asdict().items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return plain(cast("Any", value).tolist())
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(value, tuple | list):
        return [plain(one) for one in cast("list[Any]", value)]
    return value


def text_of(record: records.Record) -> str:
    """What the example file of a record holds."""
    entry = bundled().newest(type(record).__name__)
    example = {"record": entry.name, "version": entry.version, "schema_id": entry.schema_id, "bytes": wire.encode(record).hex(), "fields": plain(record)}
    return json.dumps(example, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def files() -> dict[str, str]:
    """File names and texts of the newest versions."""
    return {f"{type(record).__name__}.v{bundled().newest(type(record).__name__).version}.json": text_of(record) for record in EXAMPLES}


def main(arguments: list[str]) -> int:
    """Writes the files, or checks them; 1 when a check finds one out of date."""
    stale = [name for name, text in files().items() if not (FOLDER / name).exists() or (FOLDER / name).read_text(encoding="utf-8") != text]
    if arguments == ["--check"]:
        print(f"out of date: {', '.join(stale)}; run python tools/write_examples.py" if stale else "the examples are up to date")
        return 1 if stale else 0
    FOLDER.mkdir(exist_ok=True)
    for name in stale:
        (FOLDER / name).write_text(files()[name], encoding="utf-8")
        print(f"wrote {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
