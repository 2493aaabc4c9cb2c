"""Readings of NVIDIA GPUs by NVML: devices, their MIG instances, and the memory that processes hold on them. Where NVML is absent there are none, and that is no error.

Each question to a device fails alone, whatever NVML answers: what it would have read is a gap. A question that a device says it does not support is asked again after `AGAIN_S`.
A device that answers nothing at all, as one that fell off its bus, has NVML begun anew after `AGAIN_S`, and so has an NVML that is absent: a device that comes back is read on,
under the number that it had, by which its UUID is known.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (pynvml carries no types at all.)

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pynvml

from runstream_producers.hardware.taken import Rates, Readings, Taken, Totals

if TYPE_CHECKING:
    from collections.abc import Callable

AGAIN_S = 60.0

_ALL_LINKS = 0xFFFFFFFF  # As the scope of a field: the sum over all NVLinks.
_NO_DEVICE = frozenset({pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND})
# Bits of the reasons for slower clocks, each a reading of its own; those that heat or failing power give make `gpu.throttled`.
_REASONS = (
    ("gpu.throttle.power_cap", 0x04),
    ("gpu.throttle.hardware_slowdown", 0x08),
    ("gpu.throttle.sync_boost", 0x10),
    ("gpu.throttle.software_heat", 0x20),
    ("gpu.throttle.hardware_heat", 0x40),
    ("gpu.throttle.power_brake", 0x80),
)
_SLOWED = 0x08 | 0x20 | 0x40 | 0x80

_GAUGE, _RATE, _TOTAL = 0, 1, 2
# Fields that are asked for in one call and answered each for itself: id, scope, reading, kind, and what one count stands for.
_FIELDS = (
    (pynvml.NVML_FI_DEV_MEMORY_TEMP, 0, "gpu.memory.temperature_c", _GAUGE, 1.0),
    (pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, 0, "gpu.energy_j", _TOTAL, 0.001),
    (pynvml.NVML_FI_DEV_PCIE_REPLAY_COUNTER, 0, "gpu.pcie.replays", _TOTAL, 1.0),
    (pynvml.NVML_FI_DEV_PCIE_COUNT_TX_BYTES, 0, "gpu.pcie.send_bytes_per_s", _RATE, 1.0),
    (pynvml.NVML_FI_DEV_PCIE_COUNT_RX_BYTES, 0, "gpu.pcie.receive_bytes_per_s", _RATE, 1.0),
    (pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, _ALL_LINKS, "gpu.nvlink.send_bytes_per_s", _RATE, 1024.0),
    (pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX, _ALL_LINKS, "gpu.nvlink.receive_bytes_per_s", _RATE, 1024.0),
    (pynvml.NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL, 0, "gpu.nvlink.crc_errors", _TOTAL, 1.0),
    (pynvml.NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL, 0, "gpu.nvlink.replays", _TOTAL, 1.0),
    (pynvml.NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL, 0, "gpu.nvlink.recoveries", _TOTAL, 1.0),
    (pynvml.NVML_FI_DEV_REMAPPED_COR, 0, "gpu.remapped_rows.corrected", _TOTAL, 1.0),
    (pynvml.NVML_FI_DEV_REMAPPED_UNC, 0, "gpu.remapped_rows.uncorrected", _TOTAL, 1.0),
    (pynvml.NVML_FI_DEV_REMAPPED_PENDING, 0, "gpu.remapped_rows.pending", _GAUGE, 1.0),
    (pynvml.NVML_FI_DEV_REMAPPED_FAILURE, 0, "gpu.remapped_rows.failed", _GAUGE, 1.0),
)
_FIELD_IDS = [(one[0], one[1]) for one in _FIELDS]
# Where a field's value lies, by its type as NVML says it.
_VALUES = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")


@dataclass(slots=True)
class _Device:
    """A device as it was found: its handle, and until when questions that it does not support are left out."""

    handle: Any
    number: int
    rests: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def label(self) -> str:
        return f'{{device="{self.number}"}}'


class Gpus:
    """Readings of all devices; `nvml` is the module to ask."""

    def __init__(self, nvml: Any = pynvml) -> None:
        self._nvml = nvml
        self._devices: list[_Device] = []
        self._numbers: dict[str, int] = {}  # By UUID, since the driver counts anew when a device is missing.
        self._rates = Rates()
        self._totals = Totals()
        self._begun = False
        self._anew_at = 0.0
        self.described: dict[str, str] = {}  # Driver and devices, for people.
        self.doing = ""  # What is being asked at the moment, for whoever waits for it in vain.

    def read(self, now: float) -> Taken:
        """All readings at `now` in seconds."""
        taken = Taken()
        if not self._devices and now < self._anew_at:
            return taken
        if not self._devices or now >= self._anew_at > 0:
            self._begin(now)
        counters: Readings = {}
        totals: Readings = {}
        silent = False
        for device in self._devices:
            silent = not self._read(device, now, taken, counters, totals) or silent
        taken.machine.update(self._rates.of(counters, now))
        taken.machine.update(self._totals.of(totals))
        if not silent and self._devices:
            self._anew_at = 0.0
        elif self._anew_at <= now:
            self._anew_at = now + AGAIN_S
        return taken

    # ---- devices -----------------------------------------------------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        nvml = self._nvml
        self._devices = []
        self._anew_at = now + AGAIN_S
        self.doing = "nvmlInit"
        if self._begun:
            with contextlib.suppress(nvml.NVMLError):
                nvml.nvmlShutdown()
            self._begun = False
        try:
            nvml.nvmlInit()
            self._begun = True
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError:
            return
        with contextlib.suppress(nvml.NVMLError):
            self.described["nvidia.driver"] = str(nvml.nvmlSystemGetDriverVersion())
        for index in range(count):
            with contextlib.suppress(nvml.NVMLError):  # One device that fell off the bus leaves the others.
                self._devices.append(self._found(index))

    def _found(self, index: int) -> _Device:
        nvml = self._nvml
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid, name = f"device {index}", "GPU"
        with contextlib.suppress(nvml.NVMLError):
            uuid = str(nvml.nvmlDeviceGetUUID(handle))
        with contextlib.suppress(nvml.NVMLError):
            name = str(nvml.nvmlDeviceGetName(handle))
        number = self._numbers.get(uuid)
        if number is None:
            taken = set(self._numbers.values())
            number = self._numbers[uuid] = index if index not in taken else max(taken) + 1
        self.described[f"gpu.{number}"] = f"{name} ({uuid})"
        return _Device(handle, number)

    # ---- one device --------------------------------------------------------------------------------------------------------------------

    def _read(self, device: _Device, now: float, taken: Taken, counters: Readings, totals: Readings) -> bool:
        """Reads one device; whether it answered anything."""
        label, machine = device.label, taken.machine
        before = len(machine) + len(counters) + len(totals)
        for names, ask in _GAUGES:
            values = self._asked(device, names[0], ask, now)
            if values is not None:
                for name, value in zip(names, values, strict=True):
                    machine[name + label] = float(value)
        for name, ask in _ECC:
            value = self._asked(device, name, ask, now)
            if value is not None:
                totals[name + label] = float(value)
        reasons = self._asked(device, "gpu.throttled", _throttling, now)
        if reasons is not None:
            machine[f"gpu.throttled{label}"] = float(bool(reasons & _SLOWED))
            for name, bit in _REASONS:
                machine[name + label] = float(bool(reasons & bit))
        self._fields(device, now, machine, counters, totals)
        if f"gpu.pcie.send_bytes_per_s{label}" not in counters:
            values = self._asked(device, "gpu.pcie.send_bytes_per_s", _pcie, now)
            if values is not None:
                machine[f"gpu.pcie.send_bytes_per_s{label}"], machine[f"gpu.pcie.receive_bytes_per_s{label}"] = values
        answered = len(machine) + len(counters) + len(totals) > before
        parts = self._asked(device, "mig", _instances, now) or []
        for number, part in parts:
            self._memory(part, f'{{device="{device.number}",mig="{number}"}}', machine)
        for handle, place in [(part, f'device="{device.number}",mig="{number}"') for number, part in parts] or [(device.handle, f'device="{device.number}"')]:
            self._processes(device, handle, place, now, taken)
        return answered

    def _asked(self, device: _Device, what: str, ask: Callable[[Any, Any], Any], now: float) -> Any:
        """The answer to one question; None where there is none."""
        if device.rests and device.rests.get(what, 0.0) > now:
            return None
        self.doing = what
        try:
            return ask(self._nvml, device.handle)
        except self._nvml.NVMLError as error:
            if getattr(error, "value", None) in _NO_DEVICE:
                device.rests[what] = now + AGAIN_S
            return None
        except (ValueError, TypeError, AttributeError, OSError):
            # pynvml reads what a driver wrote into structs, and raises what its own mistakes raise.
            return None

    def _fields(self, device: _Device, now: float, machine: Readings, counters: Readings, totals: Readings) -> None:
        values = self._asked(device, "fields", _field_values, now)
        if values is None:
            return
        places = (machine, counters, totals)
        for value, (_, _, name, kind, size) in zip(values, _FIELDS, strict=False):
            if value.nvmlReturn == 0 and 0 <= value.valueType < len(_VALUES):
                places[kind][name + device.label] = float(getattr(value.value, _VALUES[value.valueType])) * size

    def _memory(self, handle: Any, label: str, machine: Readings) -> None:
        with contextlib.suppress(self._nvml.NVMLError, ZeroDivisionError):
            used, total, percent = _memory(self._nvml, handle)
            machine |= {
                f"gpu.memory.used_bytes{label}": float(used),
                f"gpu.memory.total_bytes{label}": float(total),
                f"gpu.memory.used_percent{label}": percent,
            }

    def _processes(self, device: _Device, handle: Any, place: str, now: float, taken: Taken) -> None:
        found = self._asked(device, f"processes {place}", lambda nvml, _: nvml.nvmlDeviceGetComputeRunningProcesses(handle), now)
        if found is None:
            return
        taken.machine[f"gpu.processes{{{place}}}"] = float(len(found))
        for one in found:
            if one.usedGpuMemory is not None:
                taken.by_pid.setdefault(one.pid, {})["process.gpu.memory_bytes", f",{place}"] = float(one.usedGpuMemory)


# ---- questions -----------------------------------------------------------------------------------------------------------------------------


def _utilization(nvml: Any, handle: Any) -> tuple[float, ...]:
    rates = nvml.nvmlDeviceGetUtilizationRates(handle)
    return rates.gpu, rates.memory


def _memory(nvml: Any, handle: Any) -> tuple[float, ...]:
    info = nvml.nvmlDeviceGetMemoryInfo(handle)
    return info.used, info.total, 100.0 * info.used / info.total


def _throttling(nvml: Any, handle: Any) -> int:
    return nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)


def _field_values(nvml: Any, handle: Any) -> Any:
    return nvml.nvmlDeviceGetFieldValues(handle, _FIELD_IDS)


def _pcie(nvml: Any, handle: Any) -> tuple[float, float]:
    """Bytes a second sent and received; NVML says kilobytes, and takes 20 ms for each."""
    send = nvml.nvmlDeviceGetPcieThroughput(handle, nvml.NVML_PCIE_UTIL_TX_BYTES)
    return send * 1000.0, nvml.nvmlDeviceGetPcieThroughput(handle, nvml.NVML_PCIE_UTIL_RX_BYTES) * 1000.0


def _instances(nvml: Any, handle: Any) -> list[tuple[int, Any]]:
    """The MIG instances of a device with their numbers; none where it is not in that mode."""
    if nvml.nvmlDeviceGetMigMode(handle)[0] != 1:
        return []
    out: list[tuple[int, Any]] = []
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        with contextlib.suppress(nvml.NVMLError):  # Numbers have holes.
            out.append((number, nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)))
    return out


_GAUGES: tuple[tuple[tuple[str, ...], Callable[[Any, Any], tuple[float, ...]]], ...] = (
    (("gpu.utilization", "gpu.memory.utilization"), _utilization),
    (("gpu.memory.used_bytes", "gpu.memory.total_bytes", "gpu.memory.used_percent"), _memory),
    (("gpu.temperature_c",), lambda nvml, handle: (nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),)),
    (("gpu.power_w",), lambda nvml, handle: (nvml.nvmlDeviceGetPowerUsage(handle) / 1000.0,)),
    (("gpu.power_limit_w",), lambda nvml, handle: (nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000.0,)),
    (("gpu.sm_clock_mhz",), lambda nvml, handle: (nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),)),
    (("gpu.memory_clock_mhz",), lambda nvml, handle: (nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),)),
    (("gpu.pcie.generation",), lambda nvml, handle: (nvml.nvmlDeviceGetCurrPcieLinkGeneration(handle),)),
    (("gpu.pcie.width",), lambda nvml, handle: (nvml.nvmlDeviceGetCurrPcieLinkWidth(handle),)),
)
_ECC: tuple[tuple[str, Callable[[Any, Any], int]], ...] = (
    ("gpu.ecc.corrected", lambda nvml, handle: nvml.nvmlDeviceGetTotalEccErrors(handle, nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, nvml.NVML_VOLATILE_ECC)),
    ("gpu.ecc.uncorrected", lambda nvml, handle: nvml.nvmlDeviceGetTotalEccErrors(handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC)),
)
