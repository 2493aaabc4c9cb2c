"""A simulated NVML library, in the place of the one that pynvml loads: pynvml itself, its structs and its errors are the real ones.

Tests script its failures: a function that fails for one device or all, one that hangs, one that an old driver lacks, a field of its own, a device that is lost and comes back.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false, reportPrivateUsage=false
# (pynvml carries no types at all, and its library is a variable of the module.)

from __future__ import annotations

import contextlib
import ctypes
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pynvml

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_MIG = 1 << 20  # Handles are numbers here: of an instance, this times its number plus one, and the device's.
# Functions that give one number of a device, as the last argument that they are called with.
_NUMBERS = {
    "nvmlDeviceGetTemperature": "temperature",
    "nvmlDeviceGetPowerUsage": "power_mw",
    "nvmlDeviceGetEnforcedPowerLimit": "limit_mw",
    "nvmlDeviceGetCurrentClocksThrottleReasons": "reasons",
    "nvmlDeviceGetCurrPcieLinkGeneration": "generation",
    "nvmlDeviceGetCurrPcieLinkWidth": "width",
    "nvmlDeviceGetPcieThroughput": "pcie_kb_s",
}


@dataclass
class Gpu:
    """A device as it answers. `fields` are values by field id, as what they are counted in; `lost` answers nothing, `mig` are used bytes by instance."""

    uuid: str
    temperature: int = 60
    power_mw: int = 150_000
    limit_mw: int = 700_000
    reasons: int = 0x04
    generation: int = 5
    width: int = 16
    pcie_kb_s: int = 1000
    used: int = 1000
    total: int = 2000
    ecc: int = 2
    fields: dict[int, int] = field(default_factory=dict[int, int])
    field_errors: dict[int, int] = field(default_factory=dict[int, int])
    processes: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    mig: dict[int, int] = field(default_factory=dict[int, int])
    lost: bool = False


class Library:
    """What stands where `libnvidia-ml.so.1` would. `failing` has error codes by function, or by function and device's place; `missing` the functions that the driver lacks."""

    def __init__(self, gpus: list[Gpu]) -> None:
        self.gpus = gpus
        self.failing: dict[str | tuple[str, int], int] = {}
        self.missing: set[str] = set()
        self.before: Callable[[str], None] = lambda _name: None  # Called with each function's name: to hang, for one.
        self.calls: list[tuple[str, int | None]] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        if not name.startswith("nvml") or name in self.missing:
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            return self._call(name, arguments)

        return call

    def _call(self, name: str, arguments: tuple[Any, ...]) -> int:
        place = None
        if arguments and isinstance(arguments[0], pynvml.c_nvmlDevice_t):
            place = (ctypes.cast(arguments[0], ctypes.c_void_p).value or 0) - 1
        elif name == "nvmlDeviceGetHandleByIndex_v2":
            place = arguments[0].value
        self.calls.append((name, place))
        self.before(name)
        error = self.failing.get(name, 0) or self.failing.get((name, -1 if place is None else place % _MIG), 0)
        if error:
            return error
        if place is None:
            return self._of_system(name, arguments)
        gpu = self.gpus[place % _MIG] if place % _MIG < len(self.gpus) else None
        if gpu is None:
            return pynvml.NVML_ERROR_INVALID_ARGUMENT
        if gpu.lost:
            return pynvml.NVML_ERROR_GPU_IS_LOST
        return self._of_device(name, gpu, place, arguments)

    def _of_system(self, name: str, arguments: tuple[Any, ...]) -> int:
        if name == "nvmlDeviceGetCount_v2":
            arguments[0]._obj.value = len(self.gpus)
        elif name == "nvmlSystemGetDriverVersion":
            arguments[0].value = b"550.1"
        return 0

    def _of_device(self, name: str, gpu: Gpu, place: int, arguments: tuple[Any, ...]) -> int:
        if name in _NUMBERS:
            arguments[-1]._obj.value = getattr(gpu, _NUMBERS[name])
        elif name == "nvmlDeviceGetHandleByIndex_v2":
            self._handle(arguments[1], place)
        elif name == "nvmlDeviceGetUUID":
            arguments[1].value = gpu.uuid.encode()
        elif name == "nvmlDeviceGetName":
            arguments[1].value = b"Simulated GPU"
        elif name == "nvmlDeviceGetUtilizationRates":
            arguments[1]._obj.gpu, arguments[1]._obj.memory = 50, 25
        elif name == "nvmlDeviceGetMemoryInfo":
            used = gpu.mig[place // _MIG - 1] if place >= _MIG else gpu.used
            arguments[1]._obj.used, arguments[1]._obj.total = used, gpu.total
        elif name == "nvmlDeviceGetClockInfo":
            arguments[2]._obj.value = 1400 if arguments[1].value == pynvml.NVML_CLOCK_SM else 2600
        elif name == "nvmlDeviceGetTotalEccErrors":
            arguments[3]._obj.value = gpu.ecc
        elif name == "nvmlDeviceGetFieldValues":
            self._fields(gpu, arguments[2]._obj)
        elif name == "nvmlDeviceGetMigMode":
            arguments[1]._obj.value = int(bool(gpu.mig))
        elif name == "nvmlDeviceGetMaxMigDeviceCount":
            arguments[1]._obj.value = 7
        elif name == "nvmlDeviceGetMigDeviceHandleByIndex":
            if arguments[1].value not in gpu.mig:
                return pynvml.NVML_ERROR_NOT_FOUND
            self._handle(arguments[2], place + _MIG * (arguments[1].value + 1))
        elif name == "nvmlDeviceGetComputeRunningProcesses_v3":
            return self._processes(gpu, arguments[1]._obj, arguments[2])
        else:
            return pynvml.NVML_ERROR_NOT_SUPPORTED
        return 0

    @staticmethod
    def _handle(into: Any, place: int) -> None:
        ctypes.c_void_p.from_buffer(into._obj).value = place + 1

    @staticmethod
    def _fields(gpu: Gpu, values: Any) -> None:
        for one in values:
            one.nvmlReturn = gpu.field_errors.get(one.fieldId, 0) or (0 if one.fieldId in gpu.fields else pynvml.NVML_ERROR_NOT_SUPPORTED)
            one.valueType = pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG
            one.value.ullVal = gpu.fields.get(one.fieldId, 0)

    @staticmethod
    def _processes(gpu: Gpu, count: Any, into: Any) -> int:
        if not gpu.processes:
            count.value = 0
            return 0
        if into is None:
            count.value = len(gpu.processes)
            return pynvml.NVML_ERROR_INSUFFICIENT_SIZE
        count.value = len(gpu.processes)
        for number, (pid, used) in enumerate(gpu.processes):
            into[number].pid, into[number].usedGpuMemory = pid, used
        return 0


def all_fields(count: int = 0) -> dict[int, int]:
    """Values of every field that our readings ask for; counters stand at `count`."""
    totals = (
        pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION,
        pynvml.NVML_FI_DEV_PCIE_REPLAY_COUNTER,
        pynvml.NVML_FI_DEV_PCIE_COUNT_TX_BYTES,
        pynvml.NVML_FI_DEV_PCIE_COUNT_RX_BYTES,
        pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX,
        pynvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX,
        pynvml.NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL,
        pynvml.NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL,
        pynvml.NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL,
        pynvml.NVML_FI_DEV_REMAPPED_COR,
        pynvml.NVML_FI_DEV_REMAPPED_UNC,
        pynvml.NVML_FI_DEV_REMAPPED_PENDING,
        pynvml.NVML_FI_DEV_REMAPPED_FAILURE,
    )
    return dict.fromkeys(totals, count) | {pynvml.NVML_FI_DEV_MEMORY_TEMP: 70}


@contextlib.contextmanager
def installed(library: Library) -> Generator[Library]:
    """Has pynvml load this library instead of the driver's."""
    module: Any = pynvml
    before = module.CDLL, module.nvmlLib

    def load(name: str) -> Library:
        if library.gpus or name != "libnvidia-ml.so.1":
            return library
        raise OSError(f"{name}: cannot open shared object file")

    module.CDLL, module.nvmlLib = load, None
    module._nvmlGetFunctionPointer_cache.clear()
    try:
        yield library
    finally:
        module.CDLL, module.nvmlLib = before
        module._nvmlGetFunctionPointer_cache.clear()
