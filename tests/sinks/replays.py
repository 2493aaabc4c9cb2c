"""What tests of replays, verification and swaps share: records of every kind, what every view shows, and the commands in this process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from runstream.cli import main
from runstream_schemas.settings import environment_of
from runstream_schemas.topics import TOPICS, writer_key
from runstream_sinks import log
from runstream_sinks.fill import Caller
from runstream_sinks.kafka_reader import Reader
from runstream_sinks.tables import TABLE_OF
from runstream_sinks.verify_sides import stored_offsets
from tests.sinks import examples
from tests.sinks.workers import wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    import pytest

    from runstream_schemas.records import MetricFrame
    from tests.sinks.workers import Pipe, Sent

VIEWS = (
    "metrics",
    "hardware",
    "runs",
    "writers",
    "events",
    "params",
    "params_history",
    "param_conflicts",
    "metric_values",
    "run_summary",
    "metric_definitions",
    "media",
    "media_points",
    "artifacts",
    "models",
    "model_versions",
    "datasets",
    "rules",
    "silences",
    "alerts",
    "deliveries",
    "summaries",
    "dead_letters",
    "account",
)
QUIET = Caller(lambda: False, lambda _: None)


def frames_of(run_id: str, writers: int = 3, frames: int = 5, *, first: int = 0, first_writer: int = 1) -> list[MetricFrame]:
    """Frames of several writers with consecutive seqs, 8 points each; `first` is the number of the first frame."""
    return [
        examples.frame(
            examples.group(["loss", "accuracy"], 4 * number, 4, first_value=100 * writer + number),
            run_id=run_id,
            writer=first_writer + writer,
            rank=writer,
            first_seq=4 * number,
            next_seq=4 * number + 4,
        )
        for number in range(first, first + frames)
        for writer in range(writers)
    ]


def send_everything(pipe: Pipe, run_id: str) -> list[Sent]:
    """Sends records of every kind of a run, some of them twice; what was sent."""
    run = run_id.encode()
    frames = frames_of(run_id)
    # Ids of letters, alerts, silences and rules are a run's own here, so that runs of one test do not meet.
    sent: list[Sent] = [
        *(("metric", writer_key(one.writer), one) for one in (*frames, *frames[:3])),
        ("hardware", writer_key(1), frames[0]),
        *(("writer", writer_key(1), examples.writer(run_id, writer=1, version=version, points_logged=40, points_shipped=40)) for version in (1, 2, 3)),
        ("run", run, examples.run(run_id, name="first")),
        ("event", run, examples.event(run_id)),
        ("event", run, examples.event(run_id, seq=5, step=None)),
        ("param", run, examples.param(run_id, "lr", "float", "0.1")),
        ("param", run, examples.param(run_id, "name", "string", '"x"', seq=6)),
        ("param", run, examples.param(run_id, "lr", "float", "0.2", seq=7, writer=8, rank=1)),
        ("value", run, examples.value(run_id)),
        ("value", run, examples.value(run_id, seq=8, role="unit", name="ms", kind="list", value='["loss"]', dtype="", shape=(), data=None)),
        ("value", run, examples.value(run_id, seq=7, role="summary", kind="int", value="3", dtype="", shape=(), data=None)),
        ("media", run, examples.media(run_id)),
        ("media", run, examples.media(run_id, seq=12, replaces=True, counted=True, steps=())),
        *(("artifact", run, examples.artifact(run_id, kind=kind, seq=seq)) for seq, kind in enumerate(("model_version", "model", "dataset"), start=13)),
        ("rule", run, examples.rule(run_id, run_id=run_id)),
        ("silence", run, examples.silence(run_id, run_id=run_id)),
        ("summary", run, examples.summary(run_id)),
        ("alert", run, examples.alert(run_id)),
        ("alert", run, examples.alert(run_id, decided_ms=examples.STARTED_MS + 999)),
        ("alert", run, examples.alert(run_id, version=1, state="resolved")),
        ("delivery", run, examples.delivery(run_id)),
        ("delivery", run, examples.delivery(run_id, done_ms=examples.STARTED_MS + 999)),
        ("dead-letter", run, examples.dead_letter(sha256=run_id.replace("-", "") * 2)),
    ]
    pipe.send(*sent)
    return sent


def shown(pipe: Pipe, database: str | None = None) -> dict[str, tuple[int, int]]:
    """Rows and an order-free checksum of every view."""
    name = database or pipe.settings.clickhouse_database
    sql = " UNION ALL ".join(f"SELECT '{view}', count(), sum(cityHash64(tuple(*))) FROM `{name}`.`{view}`" for view in VIEWS)
    return {view: (rows, checksum) for view, rows, checksum in pipe.query(sql)}


def ends(pipe: Pipe) -> dict[str, int]:
    """How many records each topic of the sinks has."""
    reader = Reader(pipe.settings, f"{pipe.settings.topic_prefix}-looks")
    try:
        names = [TOPICS[name].full_name(pipe.settings.topic_prefix) for name in TABLE_OF]
        found: dict[str, int] = {}
        for place, (_, high) in reader.limits(reader.places(names)).items():
            found[place.topic] = found.get(place.topic, 0) + high
        return found
    finally:
        reader.close()


def wait_until_stored(pipe: Pipe) -> None:
    """Waits until the sinks have committed everything that the topics hold."""

    def all_stored() -> bool:
        reader = Reader(pipe.settings, f"{pipe.settings.topic_prefix}-looks")
        try:
            names = [TOPICS[name].full_name(pipe.settings.topic_prefix) for name in TABLE_OF]
            limits = reader.limits(reader.places(names))
        finally:
            reader.close()
        stored = stored_offsets(pipe.settings, list(limits))
        return all(stored.get(place, low) >= high for place, (low, high) in limits.items())

    wait_for(all_stored, "the sinks to store everything")


def remove_before_last(pipe: Pipe, records: int) -> None:
    """Removes all but so many records of each partition of the metrics, as retention does."""
    reader = Reader(pipe.settings, "looks")
    limits = reader.limits(reader.places([f"{pipe.settings.topic_prefix}.metric"]))
    reader.close()
    admin = AdminClient({"bootstrap.servers": pipe.settings.kafka})
    before = [TopicPartition(*place, max(low, high - records)) for place, (low, high) in limits.items() if high]
    answers = cast("dict[TopicPartition, Future[object]]", admin.delete_records(before))  # pyright: ignore[reportUnknownMemberType]  # its stub is open
    for answer in answers.values():
        answer.result(timeout=30)


def use_settings(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets commands in this process work on the pipe."""
    for name, value in environment_of(pipe.settings).items():
        monkeypatch.setenv(name, value)


def command(argv: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any], str]:
    """Runs `runstream ...`: exit code, the JSON object that it wrote (empty without one), and what it said on standard error."""
    code, out, err = words(argv, capsys)
    return code, json.loads(out) if out.startswith("{") else {}, err


def words(argv: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Runs `runstream ...`: exit code, and what it wrote on both outputs. Commands send the log to standard error, which is this test's alone."""
    handlers, level, propagates = log.logger.handlers[:], log.logger.level, log.logger.propagate
    capsys.readouterr()
    try:
        code = main(argv)
    finally:
        log.logger.handlers[:], log.logger.propagate = handlers, propagates
        log.logger.setLevel(level)
    out, err = capsys.readouterr()
    return code, out, err
