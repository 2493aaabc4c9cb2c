"""Readings of the node as a whole, by psutil: CPU, memory, disks, network. What a machine or container hides is a gap."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import psutil

from runstream_producers.hardware.taken import Rates, Readings, Taken

if TYPE_CHECKING:
    from collections.abc import Sequence

# What psutil raises where a machine or container hides what it was asked for.
NO_READING = (psutil.Error, OSError, RuntimeError, ValueError, AttributeError)


class Node:
    """Readings of the node; `paths` are folders whose file systems are looked at, each file system once."""

    def __init__(self, paths: Sequence[str] = ("/",)) -> None:
        self._paths = paths
        self._rates = Rates()
        self._times: tuple[float, float, float | None] | None = None

    def read(self, now: float) -> Taken:
        """CPU, memory, disks and network at `now` in seconds."""
        taken = Taken()
        counters: Readings = {}
        for ask in (self._cpu, self._load, self._memory, self._swap, self._file_systems):
            with contextlib.suppress(*NO_READING):
                taken.machine.update(ask())
        for ask in (self._disk, self._network):
            with contextlib.suppress(*NO_READING):
                counters |= ask()
        taken.machine.update(self._rates.of(counters, now))
        return taken

    def _cpu(self) -> Readings:
        # psutil's own share of time is told by thread, and is 0 at the first call of each.
        times: Any = psutil.cpu_times()  # Whose fields are the system's.
        # Guests' time is part of the user's.
        whole = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        iowait: float | None = getattr(times, "iowait", None)
        before, self._times = self._times, (whole, times.idle, iowait)
        if before is None or whole <= before[0]:
            return {}
        passed, idle = whole - before[0], max(0.0, times.idle - before[1])
        out: Readings = {}
        # What waits for a disk may be counted back, when a core is taken off.
        if iowait is not None and before[2] is not None and iowait >= before[2]:
            idle += iowait - before[2]
            out["cpu.iowait"] = min(100.0, 100.0 * (iowait - before[2]) / passed)
        return out | {"cpu.utilization": min(100.0, max(0.0, 100.0 * (passed - idle) / passed))}

    @staticmethod
    def _load() -> Readings:
        return {"cpu.load_1m": os.getloadavg()[0]}

    @staticmethod
    def _memory() -> Readings:
        memory = psutil.virtual_memory()
        return {
            "memory.used_bytes": float(memory.total - memory.available),
            "memory.total_bytes": float(memory.total),
            "memory.utilization": float(memory.percent),
        }

    @staticmethod
    def _swap() -> Readings:
        return {"memory.swap_used_bytes": float(psutil.swap_memory().used)}

    def _file_systems(self) -> Readings:
        out: Readings = {}
        seen: set[int] = set()
        for path in self._paths:
            with contextlib.suppress(OSError):
                device = os.stat(path).st_dev  # noqa: PTH116 - paths are texts here, as they are in labels
                if device in seen:
                    continue
                seen.add(device)
                found = os.statvfs(path)
                total, used = found.f_blocks * found.f_frsize, (found.f_blocks - found.f_bfree) * found.f_frsize
                label = '{path="' + path.replace("\\", "\\\\").replace('"', '\\"') + '"}'
                out |= {f"disk.used_bytes{label}": float(used), f"disk.total_bytes{label}": float(total)}
                if used + found.f_bavail > 0:  # As df has it: what only root may use is no room.
                    out[f"disk.utilization{label}"] = 100.0 * used / (used + found.f_bavail * found.f_frsize)
        return out

    @staticmethod
    def _disk() -> Readings:
        disk = psutil.disk_io_counters()
        if disk is None:
            return {}
        return {
            "disk.read_bytes_per_s": float(disk.read_bytes),
            "disk.write_bytes_per_s": float(disk.write_bytes),
            "disk.reads_per_s": float(disk.read_count),
            "disk.writes_per_s": float(disk.write_count),
        }

    @staticmethod
    def _network() -> Readings:
        # Stubs say that there is always something; a machine without interfaces has nothing.
        network = {name: one for name, one in (psutil.net_io_counters(pernic=True) or {}).items() if name != "lo"}
        if not network:
            return {}
        return {
            "network.receive_bytes_per_s": float(sum(one.bytes_recv for one in network.values())),
            "network.send_bytes_per_s": float(sum(one.bytes_sent for one in network.values())),
            "network.errors_per_s": float(sum(one.errin + one.errout for one in network.values())),
            "network.drops_per_s": float(sum(one.dropin + one.dropout for one in network.values())),
        }
