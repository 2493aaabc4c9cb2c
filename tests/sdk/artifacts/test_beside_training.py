"""What goes on beside training: the thread that uploads and sends what is staged, ends of processes, forked children, and the bar."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import pytest

import runstream
from runstream import read, testing
from runstream.artifacts import _objects as objects_module
from runstream.artifacts._objects import Objects
from runstream.artifacts._stores import Stores
from runstream.artifacts._uploading import Uploads
from runstream_schemas.settings import load
from tests.sdk.artifacts.conftest import Kept
from tests.sdk.artifacts.folders import Failing

ENDS = """
import os, runstream
run = runstream.init("p", mode="offline", capture="none", strict=True)
run.log_artifact("exit.txt", "x", wait=False)
run.log_media("long", "x" * 100_000, "text")
if os.fork() == 0:
    run.log_artifact("child.txt", "y", wait=False)
"""


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stores:
    """A store that is elsewhere, as far as the code can tell."""
    monkeypatch.setenv("RUNSTREAM_JOURNAL_DIR", str(tmp_path / "journals"))
    monkeypatch.setattr(objects_module, "_PAUSE_S", 0.001)
    return Stores(load({"mode": "inline", "artifact_url": f"memory://{secrets.token_hex(8)}"}))


def test_values_are_staged_and_sent_by_the_thread(stores: Stores) -> None:
    """The call writes a local file alone; the thread sends it, in parts where it is large, and leaves nothing behind."""
    told: list[str] = []
    uploads = Uploads(lambda: stores, lambda _key, sentence: told.append(sentence))
    small, large = stores.keep(b"x" * 100), stores.keep(os.urandom(objects_module.PART_BYTES + 1))
    assert not stores.store.has(small.checksum)
    assert stores.owes
    assert small.uri == stores.store.uri_of(small.checksum)
    uploads.push_soon()
    assert uploads.wait(time.monotonic() + 20) == 0
    assert [sum(map(len, stores.store.chunks(one.checksum))) for one in (small, large)] == [100, objects_module.PART_BYTES + 1]
    assert list(stores.stage.place.keys()) == []
    assert told == []


def test_what_cannot_be_sent_stays_staged(stores: Stores) -> None:
    """It is told once, and the next push sends it."""
    true = stores.store
    stores.__dict__["store"] = Objects(Failing(true.place), pause=lambda _: None)
    told: list[str] = []
    uploads = Uploads(lambda: stores, lambda _key, sentence: told.append(sentence))
    kept = stores.keep(b"x")
    uploads.push_soon()
    assert uploads.wait(time.monotonic() + 20) == 0
    assert len(told) == 1
    assert "failed 4 times" in told[0]
    assert stores.at(kept.uri).part(kept.checksum) == b"x", "it is read from the stage until it is sent"
    stores.__dict__["store"] = true
    assert stores.push() == 1
    assert true.has(kept.checksum)


def test_the_end_of_a_process_waits_for_its_uploads(tmp_path: Path) -> None:
    """Also where nobody calls finish, and in a forked child, which has a thread and a journal of its own."""
    environ = os.environ | {"RUNSTREAM_HOME": str(tmp_path), "RUNSTREAM_JOURNAL_DIR": str(tmp_path / "journals")}
    subprocess.run([sys.executable, "-W", "ignore", "-c", ENDS], env=environ, timeout=60, check=True)
    folders = sorted((tmp_path / "journals" / "offline").glob("w-*"))
    found: dict[str, str] = {}
    for folder in folders:
        shown = subprocess.run(
            [sys.executable, "-m", "runstream.cli", "journal", "show", str(folder), "--all", "--json"],
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        for line in shown.stdout.splitlines():
            one = json.loads(line)
            if one["kind"] in ("artifact", "media"):
                found[one["record"].get("path") or one["record"]["name"]] = one["record"]["checksum"]
    assert found.keys() == {"exit.txt", "child.txt", "long"}
    store = tmp_path / "artifacts" / "objects"
    assert {path.name for path in store.rglob("*") if path.is_file()} == set(found.values())


def test_a_bar_is_drawn_where_it_is_wanted(kept: Kept, capfd: pytest.CaptureFixture[str]) -> None:
    """On standard error, and nothing otherwise."""
    Path("w.bin").write_bytes(b"x" * 100_000)
    kept.run.upload_artifact("w.bin")
    assert "[" not in capfd.readouterr().err
    [one] = kept.run.upload_artifact("w.bin", progress=True).artifacts
    assert "w.bin  [##############################] 100%  97.7 KiB of 97.7 KiB" in capfd.readouterr().err
    one.download("back", progress=True)
    assert "100%" in capfd.readouterr().err


def test_reading_names_an_argument_that_does_not_fit() -> None:
    """Before anybody is asked."""
    nobody = "http://127.0.0.1:9"
    for call, words in (
        (lambda: read.artifacts(kind="thing", url=nobody), "kind must be one of file, folder, tracked"),
        (lambda: read.artifacts(relation="both", url=nobody), "relation must be one of output, input"),
        (lambda: read.artifact("x", url=nobody), "artifact_id must be the id of an artifact"),
        (lambda: read.model_version("n", -1, url=nobody), "number must be an integer from 0, got -1"),
        (lambda: read.media(5, url=nobody), "run must be a run"),  # pyright: ignore[reportArgumentType]
        (lambda: read.lines("p/n", 5, url=nobody), "names must be a text"),  # pyright: ignore[reportArgumentType]
    ):
        with pytest.raises(read.ReadError) as refused:
            call()
        assert words in str(refused.value)


def test_module_level_calls_go_to_the_current_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them; before a run they are told once and record nothing."""
    monkeypatch.chdir(tmp_path)
    Path("w.bin").write_bytes(b"x")
    with testing.recorder() as recorded, runstream.init("p") as run:
        runstream.log_media("t", "x", "text")
        runstream.upload_artifact("w.bin")
        [one] = runstream.log_artifact("a.txt", "x").artifacts
        runstream.track_artifact("w.bin")
        runstream.use_artifact(one)
        runstream.log_dataset([1, 2], "train")
        runstream.save_model_version("w.bin", "net")
        assert len(recorded.media(run)) == 1
        assert [one["kind"] for one in recorded.artifacts(run)] == ["file", "file", "tracked", "file", "dataset", "model_version"]
