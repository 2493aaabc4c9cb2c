"""Calls on artifacts: what is stored and recorded, what comes back, and what is told of bad input; in a run nothing raises."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import runstream
from runstream import testing
from runstream.artifacts import Artifact, ArtifactError, DamagedArtifact
from runstream.artifacts import _objects as objects_module
from runstream.artifacts._stores import Stores
from runstream.artifacts._uris import public
from runstream_schemas.settings import load
from tests.sdk.artifacts.conftest import Kept


def test_files_and_folders_are_stored_recorded_and_fetched(kept: Kept) -> None:
    """A folder is its list of files with each file as a part of it; content that is there twice is stored once; all of it comes back."""
    data = Path("data")
    (data / "deep").mkdir(parents=True)
    (data / "a.txt").write_text("same")
    (data / "deep" / "b.json").write_text("same")
    (data / "empty").touch()
    upload = kept.run.upload_artifact([data, "data/a.txt"], context="training", step=7, subject="checkpoint/5", metadata={"token": "x", "n": 1})
    assert (upload.done, upload.error) == (True, None)
    folder, *files, single = upload.artifacts
    assert [(one.path, one.mime_type, one.size, one.parent) for one in files] == [
        ("a.txt", "text/plain", 4, folder.id),
        ("deep/b.json", "application/json", 4, folder.id),
        ("empty", "", 0, folder.id),
    ]
    assert (single.parent, folder.kind, folder.size) == (kept.run.id, "folder", 8)
    assert single.checksum == hashlib.sha256(b"same").hexdigest()
    assert len(kept.contents()) == 3, "the list, one content for two files, and the empty one"
    back = folder.download("back")
    assert {path.relative_to(back).as_posix(): path.read_text() for path in back.rglob("*") if path.is_file()} == {
        "a.txt": "same",
        "deep/b.json": "same",
        "empty": "",
    }
    assert single.download("back").read_text() == "same"
    records = kept.artifacts
    assert {(one["context"], one["step"], one["subject"], one["metadata"]["token"]) for one in records} == {("training", 7, "checkpoint/5", '"[hidden]"')}
    again = kept.run.upload_artifact(data)
    assert [one.id for one in again.artifacts] == [one.id for one in upload.artifacts[:-1]], "ids come from what it is"


def test_values_are_files_in_the_form_of_their_type(kept: Kept) -> None:
    """Bytes, texts, JSON, arrays, tables and open files."""
    array = np.arange(6, dtype="<i2").reshape(2, 3)
    table = pd.DataFrame({"a": [1, 2]})
    (Path("open.txt")).write_text("opened")
    with Path("open.txt").open(encoding="utf-8") as file:
        for name, value in {"b.bin": b"\0", "t.txt": "ü", "sub/j.json": {"a": [1, None]}, "n.npy": array, "p.csv": table, "o.txt": file}.items():
            assert kept.run.log_artifact(name, value, "testing", 3).error is None
    back = {one.path: one.download("back") for one in map(_artifact, kept.artifacts)}
    assert back["b.bin"].read_bytes() == b"\0"
    assert back["t.txt"].read_text() == "ü"
    assert json.loads(back["sub/j.json"].read_text()) == {"a": [1, None]}
    loaded = np.load(back["n.npy"])
    assert (loaded.dtype, loaded.tolist()) == (array.dtype, array.tolist())
    assert pd.read_csv(back["p.csv"], index_col=0).equals(table)
    assert back["o.txt"].read_text() == "opened"


def test_what_an_upload_says_of_itself(kept: Kept) -> None:
    """Its repr tells how it stands; a download into what is no path says what was expected and what came."""
    upload = kept.run.log_artifact("a.txt", "a")
    assert repr(upload) == "<Upload: done, 1 artifacts>"
    with pytest.raises(ArtifactError, match="target of download must be the path of a folder, got an int"):
        upload.artifacts[0].download(5)  # type: ignore[arg-type]


def test_what_stays_where_it_is(kept: Kept) -> None:
    """copy=False reads a file for its checksum and stores nothing; track_artifact reads nothing and takes addresses of any kind."""
    Path("w.bin").write_bytes(b"abc")
    [one] = kept.run.log_artifact("w.bin", copy=False).artifacts
    assert (one.kind, one.checksum, one.size, one.uri) == ("tracked", hashlib.sha256(b"abc").hexdigest(), 3, Path("w.bin").absolute().as_uri())
    local, remote, missing = kept.run.track_artifact(["w.bin", "s3://user:pass/word@bucket/x.parquet?X-Amz-Signature=abc&versionId=7", "later.bin"])
    assert (local.size, local.checksum) == (3, "")
    assert (remote.uri, remote.mime_type, remote.size) == ("s3://bucket/x.parquet?X-Amz-Signature=[hidden]&versionId=7", "application/vnd.apache.parquet", -1)
    assert missing.size == -1
    assert kept.contents() == set()
    assert one.download("back").read_bytes() == b"abc"
    Path("w.bin").write_bytes(b"abd")
    with pytest.raises(DamagedArtifact, match="changed since it was tracked"):
        one.download("again")
    with pytest.raises(ArtifactError, match=r"later\.bin"):
        missing.download("back")
    assert not list(Path("again").iterdir())


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://k:s@b/x", "s3://b/x"),
        ("https://u@h:80/p?sig=1#f", "https://h:80/p?sig=[hidden]#f"),
        ("https://h:80/p@x", "https://h:80/p@x"),
        ("simplecache::ftp://u:p@h/x", "simplecache::ftp://h/x"),
        ("https://u:p/w@h/x?v=1&v=2&token", "https://h/x?v=1&v=2&token=[hidden]"),
        ("hf://datasets/me/x@main/f", "hf://datasets/me/x@main/f"),
        ("gs://b/x?generation=5", "gs://b/x?generation=5"),
        ("https://h/x?hf_abcdefghijklmnopqrstuvwxyz", "https://h/x?hf_abcdefghijklmnopqrstuvwxyz=[hidden]"),
    ],
    ids=["keys", "user", "port", "chained", "password", "revision", "generation", "token"],
)
def test_addresses_are_written_down_without_credentials(uri: str, shown: str) -> None:
    """User names, passwords and signatures go, what names the content stays."""
    assert public(uri) == shown or ("hf_" in uri and "hf_abc" not in public(uri))


def test_a_store_with_a_password_is_not_written_down(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in records nor in the words of a failure, nor in the settings' own."""
    monkeypatch.setenv("RUNSTREAM_ARTIFACT_URL", "sftp://me:hunter2@127.0.0.1:1/x")
    with runstream.init("artifacts", id="other") as run:
        upload = run.log_artifact("a.txt", "x")
    assert upload.error is None, "offline it is staged"
    assert upload.artifacts[0].uri.startswith("sftp://127.0.0.1:1/x/objects/")
    assert "hunter2" not in repr(load()) + json.dumps(kept.recorded.artifacts())
    with pytest.raises(ArtifactError) as told:
        Stores(load()).push()
    assert "hunter2" not in str(told.value)


def test_offline_uploads_to_a_distant_store_are_staged_and_pushed(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """They go into a local folder, with the addresses that they will have; until they are sent they are read from there, and afterwards from the store."""
    monkeypatch.setenv("RUNSTREAM_ARTIFACT_URL", f"memory://{kept.store.parent.name}")
    with runstream.init("artifacts", id="far") as run:
        [one] = run.log_artifact("a.txt", "far away").artifacts
    assert one.uri.startswith("memory://")
    assert one.download("staged").read_text() == "far away"
    stores = Stores(load({"mode": "online"}))
    assert stores.owes
    assert (stores.push(), stores.push()) == (1, 0)
    assert one.download("sent").read_text() == "far away"
    assert stores.store.has(one.checksum)


def test_an_upload_may_go_on_beside_training(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call returns while the store hangs; the run's end waits for it, within its time, and tells what is left."""
    release = threading.Event()
    put = objects_module.Objects.put

    def slow(self: objects_module.Objects, key: str, data: bytes, *, durable: bool = True) -> int:
        release.wait(30)
        return put(self, key, data, durable=durable)

    monkeypatch.setattr(objects_module.Objects, "put", slow)
    upload = kept.run.log_artifact("a.txt", "slow", wait=False)
    assert not upload.done
    assert upload.wait(timeout=0.05) == []
    threading.Timer(0.2, release.set).start()
    kept.run.finish(20)
    assert upload.done
    assert [one.path for one in upload.artifacts] == ["a.txt"]
    assert len(kept.artifacts) == 1


def test_uploads_that_are_not_done_in_time_are_told(kept: Kept, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The end is bounded all the same."""
    release = threading.Event()

    def hang(*_: object, **__: object) -> int:
        release.wait(30)
        return 0

    monkeypatch.setattr(objects_module.Objects, "put", hang)
    kept.run.log_artifact("a.txt", "slow", wait=False)
    began = time.monotonic()
    kept.run.finish(0.1)
    assert time.monotonic() - began < 10
    assert "1 uploads were not finished in time" in caplog.text
    release.set()


def test_bad_input_is_told_once_and_the_rest_goes_on(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """Each sentence names the argument, what was expected and what came."""
    os.mkfifo("pipe")
    Path("good.txt").write_text("good")
    Path("folder").mkdir()
    (Path("folder") / "broken").symlink_to("nowhere")
    (Path("folder") / "circle").symlink_to("..")
    (Path("folder") / "outside").symlink_to(Path("good.txt").absolute())
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("folder/socket")
    bad: Any = [3, None, "", "missing.txt", "pipe", "good.txt\0", "good.txt", "folder"]
    upload = kept.run.upload_artifact(bad, step="soon", metadata=["x"], subject=5, context=4)  # pyright: ignore[reportArgumentType]
    assert [(one.path, one.size) for one in upload.artifacts] == [("good.txt", 4), ("folder", 4), ("outside", 4)]
    for words in (
        "files of upload_artifact must be a path, or a list of paths, got an int",
        "got None",
        "got an empty text: it was left out",
        "missing.txt (No such file or directory)",
        "pipe, which is a named pipe",
        "null byte",
        "step of upload_artifact must be an integer",
        "metadata of upload_artifact must be a mapping, got a list",
        "broken (No such file or directory)",
        "circle, which is a link to a folder",
        "socket, which is a socket",
    ):
        assert words in caplog.text, words
    caplog.clear()
    kept.run.upload_artifact(3)  # pyright: ignore[reportArgumentType]
    assert caplog.text == "", "once a run"
    calls: Any = kept.run
    for call in (
        lambda: calls.log_artifact("../out", "x"),
        lambda: calls.log_artifact("/abs", "x"),
        lambda: calls.log_artifact("a//b", "x"),
        lambda: calls.log_artifact("o", object()),
        lambda: calls.log_artifact("o", np.array([object()])),
        lambda: calls.log_artifact("o", "x", copy=False),
        lambda: calls.log_artifact(None),
        lambda: calls.upload_artifact(np.zeros((2, 2))),
        lambda: calls.track_artifact([b"bytes"]),
        lambda: calls.use_artifact(5),
        lambda: calls.use_artifact(""),
        lambda: calls.use_artifact("net:latest"),
    ):
        caplog.clear()
        call()
        assert caplog.text.count("\n") >= 1, "each is told"
    assert {one["path"] for one in kept.artifacts} == {"good.txt", "folder", "outside"}


def test_strict_mode_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same words are an error."""
    monkeypatch.setenv("RUNSTREAM_ARTIFACT_URL", str(tmp_path))
    with testing.recorder(), runstream.init("p") as run:
        with pytest.raises(runstream.StrictError, match=r"expected a file or folder that can be read, got .*missing"):
            run.upload_artifact("missing")
        with pytest.raises(runstream.StrictError, match="value of log_artifact must be bytes, a text"):
            run.log_artifact("x", object())


def test_a_store_that_cannot_be_written_does_not_end_training(kept: Kept, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The upload carries the error, and the run goes on."""
    Path("file").touch()
    monkeypatch.setenv("RUNSTREAM_ARTIFACT_URL", "file/inside")
    monkeypatch.setattr(objects_module, "_PAUSE_S", 0.001)
    with runstream.init("artifacts", id="unwritable") as run:
        upload = run.log_artifact("a.txt", "x")
        assert isinstance(upload.error, ArtifactError)
        assert "failed 4 times" in caplog.text
        run.log({"loss": 1.0})
    assert kept.recorded.metric("loss") == [1.0]


def test_a_full_disk_is_told(kept: Kept, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """With what the system says of it."""
    monkeypatch.setattr(objects_module, "_PAUSE_S", 0.001)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("runstream_schemas.publishing.write", full)
    assert kept.run.log_artifact("a.txt", "x").error is not None
    assert "No space left on device" in caplog.text


@pytest.mark.parametrize("path", ["../up", "/abs", "a/../../up", "a//b", "", "link/x", "n\0l"], ids=lambda path: repr(path))
def test_nothing_is_written_outside_of_the_target(path: str, kept: Kept) -> None:
    """A list of files that leads out of the folder, by its own words or by a link that is there, is refused."""
    target = Path("target") / "evil"
    target.mkdir(parents=True)
    (target / "link").symlink_to(Path.cwd())
    [stored] = kept.run.log_artifact("x", "content").artifacts
    listed = json.dumps({"files": [{"path": path, "size": 7, "sha256": stored.checksum}]})
    [evil] = kept.run.log_artifact("evil", listed).artifacts
    folder = Artifact(id=evil.id, parent="", path="evil", checksum=evil.checksum, uri=evil.uri, kind="folder", name="evil")
    before = set(Path().rglob("*"))
    with pytest.raises(ArtifactError, match="outside"):
        folder.download("target")
    assert set(Path().rglob("*")) == before


@pytest.mark.parametrize("checksum", ["", "../../../../etc/passwd", "A" * 64, "\0" * 64], ids=["none", "path", "capitals", "nul"])
def test_a_record_with_a_checksum_that_is_none_reads_nothing(checksum: str, kept: Kept) -> None:
    """Nor does it name files by it."""
    [one] = kept.run.log_artifact("x", "content").artifacts
    for kind in ("file", "folder"):
        with pytest.raises(ArtifactError, match="SHA-256"):
            Artifact(id=one.id, parent="", path="x", checksum=checksum, uri=one.uri, kind=kind, name="x").download("target")
    assert not [path for path in Path("target").rglob("*") if path.is_file()]


def test_a_run_that_records_nothing_stores_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mode disabled."""
    monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path))
    with runstream.init("p", mode="disabled") as run:
        assert run.log_artifact("a.txt", "x").wait() == []
        assert run.log_artifact("a.txt", "x", wait=False).done
    assert not (tmp_path / "artifacts").exists()


def test_a_partial_file_that_is_a_link_is_not_written_through(kept: Kept) -> None:
    """What it leads to stays as it is."""
    [one] = kept.run.log_artifact("a.txt", "x").artifacts
    Path("back").mkdir()
    Path("victim").write_text("mine")
    (Path("back") / f".a.txt.{one.checksum[:16]}.partial").symlink_to(Path("victim").absolute())
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        one.download("back")
    assert Path("victim").read_text() == "mine"


def test_a_local_store_needs_no_fsspec(tmp_path: Path) -> None:
    """Nor does anything else of artifacts and rich values load what training does not have."""
    code = """
import sys, runstream
with runstream.init("p", mode="offline", capture="none", strict=True) as run:
    run.log_artifact("a.txt", "x").artifacts[0].download("back")
    run.log_line("l", [1]); run.log_text("t", "x" * 100_000); run.log_table("t", {"a": 1})
print(sorted({"fsspec", "pandas", "PIL", "torch", "yaml", "rich"} & set(sys.modules)))
"""
    environ = os.environ | {"RUNSTREAM_HOME": str(tmp_path), "RUNSTREAM_JOURNAL_DIR": str(tmp_path / "j")}
    done = subprocess.run([sys.executable, "-c", code], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_using_an_artifact_names_it_again(kept: Kept) -> None:
    """Same id, as an input; an address is an input that is tracked."""
    [made] = kept.run.log_artifact("a.txt", "x").artifacts
    used = kept.run.use_artifact(made, step=4)
    assert used is not None
    assert (used.id, used.relation, used.step, used.checksum) == (made.id, "input", 4, made.checksum)
    other = kept.run.use_artifact("s3://bucket/data.csv")
    assert other is not None
    assert (other.kind, other.relation) == ("tracked", "input")
    assert [one["relation"] for one in kept.artifacts] == ["output", "input", "input"]


def _artifact(record: dict[str, Any]) -> Artifact:
    fields = {name: record[name] for name in ("parent", "path", "checksum", "uri", "kind", "name", "size")}
    return Artifact(id=record["artifact_id"], **fields)
