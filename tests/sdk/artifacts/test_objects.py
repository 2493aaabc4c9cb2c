"""The store: contents come back as they went in, once each, in parts that survive being cut off; damage and failures are told."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runstream.artifacts import ArtifactError, DamagedArtifact, FileChanged, StoreFailed
from runstream.artifacts import _objects as objects_module
from runstream.artifacts._download import fetch
from runstream.artifacts._objects import Objects
from runstream.artifacts._places import LocalPlace, place_at
from tests.sdk.artifacts.folders import KINDS, PART_BYTES, Failing, objects_at

SIZES = (0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES, 3 * PART_BYTES + 5)


def made(folder: Path, size: int, name: str = "data.bin") -> Path:
    """A file of so many bytes, no part of which is like another."""
    path = folder / name
    # Two parts of one random byte are alike once in 256 times.
    path.write_bytes((os.urandom(size)[:-1] + bytes([size % 251]))[:size])
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_contents_of_any_size_come_back(kind: str, tmp_path: Path) -> None:
    """From nothing to several parts, each is stored under its SHA-256, once, and is fetched as it was."""
    objects = objects_at(kind, tmp_path)
    for size in SIZES:
        path = made(tmp_path, size)
        stored = objects.add_file(path)
        assert (stored.size, stored.checksum) == (size, hashlib.sha256(path.read_bytes()).hexdigest())
        assert stored.fresh == size
        again = objects.add_file(path)
        assert (again.fresh, again.uri) == (0, stored.uri)
        assert objects.add_bytes(path.read_bytes()).fresh == 0
        back = fetch(objects, stored.checksum, tmp_path / f"back-{size}")
        assert back.read_bytes() == path.read_bytes()
        assert b"".join(objects.chunks(stored.checksum)) == path.read_bytes()
    assert not list(tmp_path.rglob("*.tmp")) + list(tmp_path.rglob("*.partial"))


def test_parts_that_contents_share_are_kept_once(tmp_path: Path) -> None:
    """A file that grew at its end costs what is new of it."""
    objects = objects_at("local", tmp_path)
    path = made(tmp_path, 4 * PART_BYTES)
    objects.add_file(path)
    with path.open("ab") as file:
        file.write(os.urandom(100))
    assert objects.add_file(path).fresh == 100


@pytest.mark.parametrize("dies_at", [1, 3, 6], ids=["first-part", "middle", "list"])
def test_an_upload_that_is_killed_goes_on_from_what_is_there(dies_at: int, tmp_path: Path) -> None:
    """SIGKILL before any object: what was written is found by the next upload, the rest is sent, and nothing half is taken for whole."""
    path = made(tmp_path, 5 * PART_BYTES)
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    command = [sys.executable, "-m", "tests.sdk.artifacts.uploads_and_dies", str(tmp_path / "store"), str(path)]
    died = subprocess.run(command, env=os.environ | {"DIES_AT": str(dies_at)}, capture_output=True, text=True, timeout=60, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    objects = objects_at("local", tmp_path)
    assert not objects.has(checksum)
    with pytest.raises(ArtifactError, match="never stored whole"):
        fetch(objects, checksum, tmp_path / "early")
    assert objects.add_file(path).fresh == (5 - (dies_at - 1)) * PART_BYTES
    assert fetch(objects, checksum, tmp_path / "back").read_bytes() == path.read_bytes()


def test_a_download_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    """Parts that are whole stay, a half one and spoiled ones are fetched again."""
    objects = objects_at("local", tmp_path)
    path = made(tmp_path, 4 * PART_BYTES + 9)
    checksum = objects.add_file(path).checksum
    for kept, spoil in ((2 * PART_BYTES + 77, False), (3 * PART_BYTES, True), (0, False)):
        target = tmp_path / f"back-{kept}"
        begun = bytearray(path.read_bytes()[:kept])
        if spoil:
            begun[PART_BYTES + 1] ^= 1
        target.with_name(f".{target.name}.{checksum[:16]}.partial").write_bytes(begun)
        read: list[str] = []
        part = objects.part
        objects.part = lambda one, part=part, read=read: (read.append(one), part(one))[1]  # pyright: ignore[reportAttributeAccessIssue]  # counts what is fetched
        assert fetch(objects, checksum, target).read_bytes() == path.read_bytes()
        objects.part = part
        assert len(read) == 5 - (kept // PART_BYTES if not spoil else 1)
    target.write_bytes(path.read_bytes())
    objects.place.remove(f"objects/{checksum[:2]}/{checksum}.parts")
    assert fetch(objects, checksum, target) == target, "what is there already needs no store"


def test_a_damaged_store_is_told_and_leaves_nothing_in_place(tmp_path: Path) -> None:
    """Another byte in a part, a list of parts that is none, and one that leads elsewhere: the message has both checksums and says what to do."""
    place = Failing(LocalPlace(tmp_path / "store"), failures=0)
    objects = Objects(place, part_bytes=PART_BYTES)
    path = made(tmp_path, 2 * PART_BYTES)
    checksum = objects.add_file(path).checksum
    first = hashlib.sha256(path.read_bytes()[:PART_BYTES]).hexdigest()
    place.spoiled = {f"objects/{first[:2]}/{first}"}
    with pytest.raises(DamagedArtifact, match=rf"expected bytes with SHA-256 {first} .* got 65,536 bytes with [0-9a-f]{{64}}: .*log the artifact again"):
        fetch(objects, checksum, tmp_path / "back")
    place.spoiled = set()
    listed = tmp_path / "store" / "objects" / checksum[:2] / f"{checksum}.parts"
    listed.write_text(f'{{"size": 1, "part_bytes": 65536, "parts": ["{first}"]}}')
    with pytest.raises(DamagedArtifact, match=f"expected content with SHA-256 {checksum}"):
        fetch(objects, checksum, tmp_path / "back")
    for nonsense in ("", "[]", '{"parts": []}', '{"parts": ["../../etc"], "part_bytes": 1}', f'{{"part_bytes": {1 << 60}, "parts": ["{first}"]}}'):
        listed.write_text(nonsense)
        with pytest.raises(DamagedArtifact, match="expected a list of parts"):
            fetch(objects, checksum, tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_what_is_cut_short_in_the_store_is_written_again(tmp_path: Path) -> None:
    """An object of another size than it should have, as a loss of power leaves it, does not count as there."""
    objects = objects_at("local", tmp_path)
    path = made(tmp_path, 100)
    checksum = objects.add_file(path).checksum
    (tmp_path / "store" / "objects" / checksum[:2] / checksum).write_bytes(b"")
    assert objects.add_file(path).fresh == 100
    assert fetch(objects, checksum, tmp_path / "back").read_bytes() == path.read_bytes()


def test_a_store_that_fails_is_asked_again_within_a_bound(tmp_path: Path) -> None:
    """A few failures cost pauses; past the bound one sentence says what was done, what came and what to do, without credentials; what arrived is not sent again."""
    pauses: list[float] = []
    path = made(tmp_path, 3 * PART_BYTES)
    place = Failing(LocalPlace(tmp_path / "store"), good=1, failures=2)
    objects = Objects(place, part_bytes=PART_BYTES, pause=pauses.append)
    assert objects.add_file(path).fresh == 3 * PART_BYTES
    assert pauses == [0.25, 1.0]
    place.failures, place.writes = 1 << 30, 0
    other = made(tmp_path, 3 * PART_BYTES, "other")
    with pytest.raises(
        StoreFailed, match=r"writing 65,536 bytes to objects/.* failed 4 times, .* ConnectionError: s3://bucket went away\. Check .*artifact_url"
    ) as told:
        objects.add_file(other)
    assert "secret" not in str(told.value)
    place.failures = 0
    assert objects.add_file(other).fresh == 2 * PART_BYTES


def test_a_file_that_changes_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Grown, cut, or written over with the same size: no content is made of two halves."""
    objects = objects_at("local", tmp_path)
    path = made(tmp_path, 3 * PART_BYTES)
    put = Objects.put
    changes = [
        lambda: path.write_bytes(path.read_bytes() + b"x" * PART_BYTES),
        lambda: path.write_bytes(path.read_bytes()[:PART_BYTES]),
        lambda: path.write_bytes(os.urandom(path.stat().st_size)),
    ]

    def change(self: Objects, key: str, data: bytes, *, durable: bool = True) -> int:
        changes[0]()
        return put(self, key, data, durable=durable)

    monkeypatch.setattr(objects_module.Objects, "put", change)
    while changes:
        with pytest.raises(FileChanged, match=r"expected .*data\.bin to stay as it was.*finish writing it"):
            objects.add_file(path)
        changes.pop(0)


def test_stores_that_nothing_reaches_are_told() -> None:
    """A scheme that is none, and one whose package is not installed, name what to install."""
    with pytest.raises(ArtifactError, match="nowhere://x"):
        place_at("nowhere://user:secret@x")
    with pytest.raises(ArtifactError, match=r"pip install 'runstream\[s3\]'"):
        place_at("s3://bucket/x")
