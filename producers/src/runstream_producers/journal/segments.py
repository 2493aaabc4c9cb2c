"""A writer's journal folder: making it, adding segments, the lock that tells whether its process lives.

Every segment is allocated before it is mapped, since a store into a mapping whose file system is full would be SIGBUS and kill training.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import shutil
from pathlib import Path

from runstream_producers.errors import JournalError
from runstream_producers.journal import format as fmt
from runstream_producers.journal.room import Space

_NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "lustre", "cifs", "smb3", "smbfs", "ceph", "fuse.sshfs", "gpfs", "beegfs", "afs", "9p", "fuse.glusterfs", "fuse.ceph"}
)
_MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})


# Writers whose lock this very process holds: trying one of these would give it up.
held: set[int] = set()
os.register_at_fork(after_in_child=held.clear)


def file_system_of(path: Path, mounts: str) -> str:
    """The type of the file system that holds a path, by the text of /proc/mounts; empty where it does not say."""
    best, found = "", ""
    target = str(path)
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) > 2:
            point = fields[1].replace("\\040", " ")
            inside = target == point or target.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, found = point, fields[2]
    return found


def check_local(folder: Path) -> str:
    """The type of the file system that holds a folder, empty where nothing tells; raises JournalError for a network's, on which mapped files are neither safe nor fast."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # Not Linux.
    kind = file_system_of(folder.resolve(), mounts)
    if kind in _NETWORK_FILE_SYSTEMS:
        raise JournalError(f"journals must be on node-local storage, but {folder} is on {kind}: set RUNSTREAM_JOURNAL_DIR to a local folder", str(folder))
    return kind


def write_whole(path: Path, text: str) -> None:
    """Writes a small file so that a reader sees all of it or none of it."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def allocate(path: Path, size: int) -> None:
    """Makes a file of zeros whose blocks are really there; raises OSError when they are not to be had."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(descriptor)


def map_file(path: Path, *, write: bool) -> mmap.mmap:
    """Maps a whole file, shared."""
    descriptor = os.open(path, (os.O_RDWR if write else os.O_RDONLY) | os.O_CLOEXEC)
    try:
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_WRITE if write else mmap.ACCESS_READ)
    finally:
        os.close(descriptor)


class Folder:
    """The folder of a writer that this process is."""

    def __init__(self, base: Path, identity: fmt.Identity) -> None:
        """Makes the folder under another name and moves it into place, so that a shipper never sees half of it.

        Raises:
            JournalError: the folder is on a network file system, or somebody else's.
            OSError: it cannot be made.
        """
        base.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._in_memory = check_local(base) in _MEMORY_FILE_SYSTEMS
        owner = base.stat().st_uid
        if owner != os.geteuid():
            raise JournalError(f"journals must be in a folder of this user (id {os.geteuid()}), but {base} belongs to user {owner}", str(base))
        self.path = base / fmt.folder_name(identity.writer)
        self._writer = identity.writer
        self._lock, self._lock_file = -1, (0, 0)
        held.add(identity.writer)
        making = base / f".{fmt.folder_name(identity.writer)}"
        making.mkdir(mode=0o700)
        try:
            write_whole(making / "writer.json", identity.to_json())
            allocate(making / "ack", fmt.ACK_BYTES)
            self._lock = os.open(making / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            # A POSIX lock, not flock: it belongs to the process alone, so a forked child does not keep it alive after its parent.
            self._lock_file = _file_of(self._lock)
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            making.rename(self.path)
        except BaseException:  # Ctrl-C is one: what was broken off here must not read as a run that crashed.
            shutil.rmtree(making, ignore_errors=True)
            self.discard()
            raise

    def make_spare(self, number: int, size: int) -> None:
        """Allocates a segment ahead of its need; raises OSError when there is no room."""
        self._remove_spares()
        allocate((self.path / fmt.segment_name(number)).with_suffix(".spare"), size)

    def add_segment(self, number: int, size: int, first_seq: int, points: int, *, spare: bool = False) -> mmap.mmap:
        """Maps and names the next segment, which is the spare one or is allocated here; raises OSError when there is no room."""
        path = self.path / fmt.segment_name(number)
        part = path.with_suffix(".spare" if spare else ".part")
        if not spare:
            part.unlink(missing_ok=True)
            allocate(part, size)
        mapped = map_file(part, write=True)
        header = fmt.segment_header(number, self._writer, first_seq, points)
        mapped[: len(header)] = header
        part.rename(path)
        return mapped

    def _remove_spares(self) -> None:
        for spare in self.path.glob("*.spare"):
            spare.unlink(missing_ok=True)

    def segments_bytes(self) -> int:
        """Bytes of the segments that have not been removed yet; the agent may remove some meanwhile."""
        held = 0
        with os.scandir(self.path) as entries:
            for entry in entries:
                if entry.name.endswith(".seg"):
                    with contextlib.suppress(FileNotFoundError):
                        held += entry.stat().st_size
        return held

    def space(self) -> Space:
        """The file system of this folder as it is now; raises OSError where it does not answer."""
        seen = os.statvfs(self.path)
        return Space(seen.f_frsize * seen.f_blocks, seen.f_frsize * seen.f_bavail, self._in_memory)

    def named_segment(self, number: int) -> mmap.mmap | None:
        """A segment that has been named already, mapped; None where there is none."""
        with contextlib.suppress(FileNotFoundError):
            return map_file(self.path / fmt.segment_name(number), write=True)
        return None

    def end(self, end: fmt.End) -> None:
        """Says how the writer ended and gives up the lock."""
        self._remove_spares()
        write_whole(self.path / "end.json", end.to_json())
        self.close()

    def discard(self) -> None:
        """Takes the folder away again: it was begun, and nothing was recorded in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Gives up the lock. A program that closes descriptors it did not open, as daemons do, has given it up already, and the number may be somebody else's by now."""
        descriptor, self._lock = self._lock, -1
        with contextlib.suppress(OSError):
            if descriptor >= 0 and _file_of(descriptor) == self._lock_file:
                os.close(descriptor)
        held.discard(self._writer)

    def forget(self) -> None:
        """Called in a forked child: the lock is the parent's, and closing our copy of the descriptor leaves it alone."""
        self.close()


def _file_of(descriptor: int) -> tuple[int, int]:
    """Which file a descriptor is open on."""
    seen = os.fstat(descriptor)
    return seen.st_dev, seen.st_ino


def locked(path: Path) -> bool:
    """Whether a process holds the POSIX lock on a file, as far as can be told: what cannot be opened for want of descriptors or rights counts as held.

    Never ask about a file that this process itself has locked: closing it would give up that lock.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
