"""Readings of this machine, and of GPUs that fail one call after the other."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from runstream_producers.hardware import Gpus, Node, Processes, Rates, Sampler


def test_this_machine_can_be_read() -> None:
    """CPU, memory and this process have readings that make sense; rates come with the second reading."""
    sampler = Sampler()
    first = sampler.read(10.0, {os.getpid(): 3})
    time.sleep(0.05)
    second = sampler.read(12.0, {os.getpid(): 3})
    total = psutil.virtual_memory().total
    for readings in (first, second):
        assert readings["memory.total_bytes"] == total
        assert 0 < readings["memory.used_bytes"] < total
        assert 0 <= readings["cpu.utilization"] <= 100
        assert 1e6 < readings['process.memory.rss_bytes{rank="3"}'] < total
        assert readings['process.threads{rank="3"}'] >= 1
        assert all(type(value) is float for name, value in readings.items() if not name.startswith("cpu.load"))
    assert 'process.cpu.utilization{rank="3"}' not in first
    assert second['process.cpu.utilization{rank="3"}'] >= 0
    assert not any(name.endswith("_per_s") for name in first)
    assert all(value >= 0 for name, value in second.items() if name.endswith("_per_s"))


def test_a_machine_without_gpus_has_no_gpu_readings() -> None:
    """NVML that is absent, or finds no driver, is no error."""
    nvml = FakeNvml(devices=1)
    nvml.fail("nvmlInit")
    assert Gpus(nvml).read() == {}
    assert all(name.startswith("gpu.") for name in Gpus().read())


def test_rates_are_growth_a_second() -> None:
    """A counter's first reading, one that went back, and one at the same moment have no rate; the next one has again."""
    rates = Rates()
    assert rates.of({"a": 100.0, "b": 5.0}, 10.0) == {}
    assert rates.of({"a": 300.0, "b": 5.0}, 12.0) == {"a": 100.0, "b": 0.0}
    assert rates.of({"a": 300.0}, 12.0) == {}
    assert rates.of({"a": 7.0}, 13.0) == {}
    assert rates.of({"a": 9.0, "b": 105.0}, 14.0) == {"a": 2.0, "b": 50.0}
    assert rates.of({"a": 10.0}, 13.0) == {}


def test_a_process_that_is_gone_is_a_gap() -> None:
    """Readings of a process id that nobody has are missing; the others are there."""
    processes = Processes()
    gone = 2**22 + 1
    readings = processes.read({gone: 0, os.getpid(): 1})
    assert {name.partition("{")[2] for name in readings} == {'rank="1"}'}
    processes.forget({gone})
    assert 'process.cpu.utilization{rank="1"}' not in processes.read({os.getpid(): 1})


@pytest.mark.parametrize("failing", ["cpu_percent", "virtual_memory", "disk_io_counters", "net_io_counters"])
@pytest.mark.parametrize(
    "error", [FileNotFoundError("/proc/diskstats"), RuntimeError("no disk"), NotImplementedError(), psutil.AccessDenied(1)], ids=lambda one: type(one).__name__
)
def test_what_a_container_hides_is_a_gap(monkeypatch: pytest.MonkeyPatch, failing: str, error: Exception) -> None:
    """Whatever of psutil fails, the rest is read."""
    whole = set(Node().read(1.0))

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(psutil, failing, fails)
    node = Node()
    found = set(node.read(1.0)) | set(node.read(2.0))
    assert found >= {name for name in whole if not name.startswith(("cpu.utilization", "memory."))}
    assert len(found) >= 4


class NvmlError(Exception):
    """What NVML raises."""


class FakeNvml:
    """NVML of some devices, of whose calls the n-th of a name fails where the script says so."""

    NVMLError = NvmlError
    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1
    NVML_VOLATILE_ECC = 0
    NVML_MEMORY_ERROR_TYPE_CORRECTED = 0
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1

    def __init__(self, devices: int) -> None:
        self._devices = devices
        self.slowed = 0x04
        self.errors = 2
        self._failing: set[tuple[str, int | None]] = set()
        self.calls: list[tuple[str, int | None]] = []

    def fail(self, call: str, device: int | None = None) -> None:
        """Makes a call fail, of one device or at all."""
        self._failing.add((call, device))

    def _answer(self, call: str, device: int | None, value: Any) -> Any:
        self.calls.append((call, device))
        if (call, device) in self._failing:
            raise NvmlError(call)
        return value

    def __getattr__(self, name: str) -> Callable[..., Any]:
        answers: dict[str, Any] = {
            "nvmlInit": None,
            "nvmlDeviceGetCount": self._devices,
            "nvmlDeviceGetUtilizationRates": _Fields(gpu=50, memory=25),
            "nvmlDeviceGetMemoryInfo": _Fields(used=1000, total=2000),
            "nvmlDeviceGetTemperature": 60,
            "nvmlDeviceGetPowerUsage": 150_000,
            "nvmlDeviceGetClockInfo": 1400,
            "nvmlDeviceGetTotalEccErrors": self.errors,
            "nvmlDeviceGetCurrentClocksThrottleReasons": self.slowed,
        }

        def call(device: int | None = None, *_: object) -> Any:
            value = device if name == "nvmlDeviceGetHandleByIndex" else answers[name]
            return self._answer(name, device, value)

        return call


class _Fields:
    def __init__(self, **fields: int) -> None:
        self.__dict__.update(fields)


def test_all_of_a_gpu_is_read() -> None:
    """Two devices have eleven readings each, in the units that are documented."""
    readings = Gpus(FakeNvml(devices=2)).read()
    assert len(readings) == 22
    assert readings['gpu.utilization{device="1"}'] == 50.0
    assert readings['gpu.power_w{device="0"}'] == 150.0
    assert readings['gpu.memory.used_bytes{device="0"}'] == 1000.0
    assert readings['gpu.memory.used_percent{device="0"}'] == 50.0
    assert readings['gpu.ecc.uncorrected{device="1"}'] == 2.0
    assert all(type(value) is float for value in readings.values())


def test_heat_throttles_and_the_power_limit_does_not() -> None:
    """A GPU at its power limit is usual; one that is slowed by heat, or by its power supply, is throttled."""
    nvml = FakeNvml(devices=1)
    assert Gpus(nvml).read()['gpu.throttled{device="0"}'] == 0.0
    for reason in (0x08, 0x20, 0x40, 0x80):
        nvml.slowed = 0x04 | reason
        assert Gpus(nvml).read()['gpu.throttled{device="0"}'] == 1.0


def test_each_call_that_fails_is_a_gap_in_its_readings_alone() -> None:
    """NVML's calls fail one after the other: what that call reads of that device is missing, and everything else is there; a failing count or start leaves none."""
    whole = FakeNvml(devices=2)
    full = Gpus(whole).read()
    lost: dict[tuple[str, int | None], set[str]] = {}
    for call in dict.fromkeys(whole.calls):
        nvml = FakeNvml(devices=2)
        nvml.fail(*call)
        found = Gpus(nvml).read()
        assert found.items() <= full.items()
        lost[call] = set(full) - set(found)
    assert lost["nvmlInit", None] == lost["nvmlDeviceGetCount", None] == set(full)
    for device in (0, 1):
        label = f'{{device="{device}"}}'
        assert lost["nvmlDeviceGetHandleByIndex", device] == {name for name in full if name.endswith(label)}
        assert lost["nvmlDeviceGetUtilizationRates", device] == {"gpu.utilization" + label, "gpu.memory.utilization" + label}
        assert lost["nvmlDeviceGetMemoryInfo", device] == {f"gpu.memory.{name}{label}" for name in ("used_bytes", "total_bytes", "used_percent")}
        assert lost["nvmlDeviceGetTemperature", device] == {"gpu.temperature_c" + label}
        assert lost["nvmlDeviceGetPowerUsage", device] == {"gpu.power_w" + label}
        assert lost["nvmlDeviceGetClockInfo", device] == {"gpu.sm_clock_mhz" + label}
        assert lost["nvmlDeviceGetTotalEccErrors", device] == {"gpu.ecc.corrected" + label, "gpu.ecc.uncorrected" + label}
        assert lost["nvmlDeviceGetCurrentClocksThrottleReasons", device] == {"gpu.throttled" + label}
    assert len(lost) == 18
