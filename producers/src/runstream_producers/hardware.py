"""Readings of the machine: node and processes by psutil, GPUs by NVML. Where NVML is absent there are no GPU readings, and that is no error.

A reading is a name with its labels, such as `gpu.utilization{device="0"}`, and a number. Rates are per second since the reading before, so a first reading has none.
A device or process that does not answer is a gap in its readings, not a zero. Units:

    *.utilization        percent (of one core for a process, so that it may exceed 100)
    *_bytes              bytes
    *_bytes_per_s        bytes a second
    gpu.temperature_c    degrees Celsius
    gpu.power_w          watts
    gpu.memory.used_percent   percent of its memory (gpu.memory.utilization is how busy its memory's bus is)
    gpu.ecc.*            errors of memory since the driver was loaded: corrected, uncorrected
    gpu.throttled        1 while heat or failing power slow the clocks down, else 0; the power limit, which is usual under load, does not count
    *_mhz                megahertz
    cpu.load_1m          processes
    process.threads      threads
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (pynvml carries no types at all.)

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

Readings = dict[str, float]

_SLOWED = 0x08 | 0x20 | 0x40 | 0x80  # NVML's reasons: slowed by the hardware, by software for heat, by the hardware for heat, by the power supply.

# What psutil raises where a machine or container hides what it was asked for.
_NO_READING = (psutil.Error, OSError, RuntimeError, ValueError)


class Rates:
    """Counters to rates: the growth a second since the call before; a counter that went back has none."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, float]] = {}

    def of(self, counters: Mapping[str, float], now: float) -> Readings:
        """Rates by name at `now` in seconds."""
        out: Readings = {}
        for name, value in counters.items():
            before = self._last.get(name)
            if before is not None and now > before[0] and value >= before[1]:
                out[name] = (value - before[1]) / (now - before[0])
            self._last[name] = (now, value)
        return out


class Node:
    """Readings of the node as a whole."""

    def __init__(self) -> None:
        self._rates = Rates()
        with contextlib.suppress(*_NO_READING):
            psutil.cpu_percent(None)  # The first call only sets the beginning of the time over which it is measured.

    def read(self, now: float) -> Readings:
        """CPU, memory, disk and network at `now` in seconds."""
        out: Readings = {}
        counters: Readings = {}
        for ask in (self._cpu, self._load, self._memory):
            with contextlib.suppress(*_NO_READING):
                out |= ask()
        for ask in (self._disk, self._network):
            with contextlib.suppress(*_NO_READING):
                counters |= ask()
        return out | self._rates.of(counters, now)

    @staticmethod
    def _cpu() -> Readings:
        return {"cpu.utilization": psutil.cpu_percent(None)}

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
    def _disk() -> Readings:
        disk = psutil.disk_io_counters()
        if disk is None:
            return {}
        return {"disk.read_bytes_per_s": float(disk.read_bytes), "disk.write_bytes_per_s": float(disk.write_bytes)}

    @staticmethod
    def _network() -> Readings:
        network = psutil.net_io_counters()
        if not network:  # None where the machine has no interface, whatever the stubs say.
            return {}
        return {"network.receive_bytes_per_s": float(network.bytes_recv), "network.send_bytes_per_s": float(network.bytes_sent)}


class Processes:
    """Readings of the processes that log, by rank."""

    def __init__(self) -> None:
        self._known: dict[int, psutil.Process] = {}

    def read(self, pids: Mapping[int, int]) -> Readings:
        """CPU, memory and threads of each process; `pids` is rank by process id."""
        out: Readings = {}
        for pid, rank in pids.items():
            label = f'{{rank="{rank}"}}'
            try:
                process = self._known.get(pid)
                first = process is None
                if process is None:
                    process = self._known[pid] = psutil.Process(pid)
                busy = process.cpu_percent(None)
                if not first:  # The first call only sets the beginning of the time over which it is measured.
                    out[f"process.cpu.utilization{label}"] = busy
                out[f"process.memory.rss_bytes{label}"] = float(process.memory_info().rss)
                out[f"process.threads{label}"] = float(process.num_threads())
            except _NO_READING:
                self._known.pop(pid, None)
        return out

    def forget(self, alive: Collection[int]) -> None:
        """Forgets the processes that are not among these ids."""
        self._known = {pid: process for pid, process in self._known.items() if pid in alive}


class Gpus:
    """Readings of NVIDIA GPUs; none where NVML is absent. `nvml` is the module to ask."""

    def __init__(self, nvml: Any = None) -> None:
        self._nvml: Any = None
        self._handles: dict[int, Any] = {}
        if nvml is None:
            import pynvml as nvml
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlInit()
            count = nvml.nvmlDeviceGetCount()
            self._nvml = nvml
            for index in range(count):
                with contextlib.suppress(nvml.NVMLError):  # One device that fell off the bus leaves the others.
                    self._handles[index] = nvml.nvmlDeviceGetHandleByIndex(index)

    def read(self) -> Readings:
        """Utilisation, memory, temperature, power, clocks and errors of each device."""
        nvml = self._nvml
        out: Readings = {}
        if nvml is None:
            return out
        for index, handle in self._handles.items():
            label = f'{{device="{index}"}}'
            for names, ask in self._questions(nvml, handle):
                with contextlib.suppress(nvml.NVMLError):  # A reading that this device does not have is a gap.
                    out |= {name + label: float(value) for name, value in zip(names, ask(), strict=True)}
        return out

    @staticmethod
    def _questions(nvml: Any, handle: Any) -> Iterator[tuple[tuple[str, ...], Callable[[], tuple[float, ...]]]]:
        def utilization() -> tuple[float, ...]:
            rates = nvml.nvmlDeviceGetUtilizationRates(handle)
            return rates.gpu, rates.memory

        def memory() -> tuple[float, ...]:
            info = nvml.nvmlDeviceGetMemoryInfo(handle)
            return info.used, info.total, 100.0 * info.used / info.total

        def errors(kind: int) -> tuple[float, ...]:
            return (nvml.nvmlDeviceGetTotalEccErrors(handle, kind, nvml.NVML_VOLATILE_ECC),)

        yield ("gpu.utilization", "gpu.memory.utilization"), utilization
        yield ("gpu.memory.used_bytes", "gpu.memory.total_bytes", "gpu.memory.used_percent"), memory
        yield ("gpu.temperature_c",), lambda: (nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),)
        yield ("gpu.power_w",), lambda: (nvml.nvmlDeviceGetPowerUsage(handle) / 1000.0,)
        yield ("gpu.sm_clock_mhz",), lambda: (nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),)
        yield ("gpu.ecc.corrected",), lambda: errors(nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED)
        yield ("gpu.ecc.uncorrected",), lambda: errors(nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED)
        yield ("gpu.throttled",), lambda: (float(bool(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle) & _SLOWED)),)


class Sampler:
    """All readings of this node at once."""

    def __init__(self) -> None:
        self._node = Node()
        self._processes = Processes()
        self._gpus = Gpus()

    def machine(self, now: float) -> Readings:
        """Readings of the node and its GPUs at `now` in seconds."""
        return self._node.read(now) | self._gpus.read()

    def processes(self, pids: Mapping[int, int]) -> Readings:
        """Readings of the processes of one run; `pids` is rank by process id."""
        return self._processes.read(pids)

    def forget(self, alive: Collection[int]) -> None:
        """Forgets the processes that are not among these ids."""
        self._processes.forget(alive)

    def read(self, now: float, pids: Mapping[int, int]) -> Readings:
        """All readings at `now` in seconds; `pids` is rank by process id."""
        self.forget(pids)
        return self.machine(now) | self.processes(pids)
