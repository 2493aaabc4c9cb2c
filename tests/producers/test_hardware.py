"""Readings of this machine, of GPUs whose NVML fails one call after the other, and of InfiniBand ports; each is held against the table of names."""

from __future__ import annotations

import os
import struct
import threading
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import psutil
import pynvml
import pytest

from benchmarks.simulated_nvml import Gpu, Library, all_fields, installed
from runstream_producers.hardware import Sampler
from runstream_producers.hardware.gpus import AGAIN_S, Gpus
from runstream_producers.hardware.infiniband import Infiniband
from runstream_producers.hardware.names import NAMES, TABLE
from runstream_producers.hardware.node import Node
from runstream_producers.hardware.processes import Processes
from runstream_producers.hardware.sampler import LATE_S
from runstream_producers.hardware.taken import Rates, Taken, Totals
from runstream_producers.journal.format import Identity
from runstream_producers.readings import Readings
from tests.producers.journals import identity, read_back
from tests.waiting import wait_for

ME = os.getpid()
NO_GPUS: list[Gpu] = []


def library(devices: int = 2, count: int = 5) -> Library:
    """NVML of some devices that answer everything, whose counters stand at `count`."""
    return Library([Gpu(f"GPU-{number}", fields=all_fields(count), processes=[(ME, 4096)]) for number in range(devices)])


def ports(root: Path, files: dict[str, str]) -> Path:
    """A port of InfiniBand with these files."""
    for name, text in files.items():
        path = root / "mlx5_0" / "ports" / "1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_this_machine_can_be_read() -> None:
    """CPU, memory, disks, network and this process have readings that make sense; rates come with the second reading. Every name stands in the table, with its labels."""
    sampler = Sampler(("/", "/proc/nowhere"))
    try:
        first, second = sampler.read(10.0, {ME: 3}), sampler.read(12.0, {ME: 3})
    finally:
        sampler.close()
    total = psutil.virtual_memory().total
    for readings in (first, second):
        assert readings["memory.total_bytes"] == total
        assert 0 < readings["memory.used_bytes"] < total
        assert 0 <= readings.get("cpu.utilization", 0.0) <= 100  # Within one tick of the clock there is no share of time.
        assert 0 < readings['disk.used_bytes{path="/"}'] <= readings['disk.total_bytes{path="/"}']
        assert 1e6 < readings['process.memory.rss_bytes{rank="3"}'] < total
        assert readings['process.threads{rank="3"}'] >= 1
        assert all(type(value) is float for value in readings.values())
    assert 'process.cpu.utilization{rank="3"}' not in first
    assert second['process.cpu.utilization{rank="3"}'] >= 0
    assert not any("_per_s" in name or name in ("cpu.utilization", "cpu.iowait") for name in first)
    assert {"disk.read_bytes_per_s", "network.receive_bytes_per_s", 'process.write_bytes_per_s{rank="3"}'} <= set(second)
    assert_in_table(set(first) | set(second))


def assert_in_table(names: set[str]) -> None:
    """Every name stands in the table, and carries none but its labels."""
    labels = {one.name: set(one.labels) for one in TABLE}
    for name in names:
        plain, _, rest = name.partition("{")
        assert plain in NAMES
        assert {part.partition("=")[0] for part in rest.rstrip("}").split(",") if part} <= labels[plain]


def test_the_table_is_what_people_read() -> None:
    """docs/hardware.md has a line for each reading, with its labels, unit, kind and meaning; names are told once."""
    text = (Path(__file__).parents[2] / "docs" / "hardware.md").read_text()
    for one in TABLE:
        name = one.name + ("{" + ", ".join(one.labels) + "}" if one.labels else "")
        assert f"| `{name}` | {one.unit} | {one.kind} | {one.source} | {one.meaning} |" in text
    assert text.count("| `") == len(TABLE) == len(NAMES)


def test_rates_are_growth_a_second() -> None:
    """A counter's first reading, one that went back, one that was not there before, and one at the same moment have no rate; the next one has again."""
    rates = Rates()
    assert rates.of({"a": 100.0, "b": 5.0}, 10.0) == {}
    assert rates.of({"a": 300.0, "b": 5.0}, 12.0) == {"a": 100.0, "b": 0.0}
    assert rates.of({"a": 300.0}, 12.0) == {}
    assert rates.of({"a": 7.0}, 13.0) == {}
    assert rates.of({"a": 9.0, "b": 105.0}, 14.0) == {"a": 2.0}
    assert rates.of({"a": 9.0, "b": 107.0}, 15.0) == {"a": 0.0, "b": 2.0}
    assert rates.of({"a": 10.0}, 14.0) == {}


def test_totals_leave_out_the_reading_at_which_they_begin_anew() -> None:
    """A counter that went back is a gap once, and goes on from where it stands; one that was away meanwhile is held against what it was."""
    totals = Totals()
    assert totals.of({"a": 5.0}) == {"a": 5.0}
    assert totals.of({"a": 5.0, "b": 1.0}) == {"a": 5.0, "b": 1.0}
    assert totals.of({"a": 2.0, "b": 1.0}) == {"b": 1.0}
    assert totals.of({"a": 3.0}) == {"a": 3.0}
    assert totals.of({"a": 3.0, "b": 0.0}) == {"a": 3.0}


def test_a_process_that_is_gone_is_a_gap() -> None:
    """Readings of a process id that nobody has are missing, the others are there; one that is not asked for any more is forgotten, so that its id may be another's."""
    processes = Processes()
    gone = 2**22 + 1
    assert set(processes.read(1.0, (gone, ME)).by_pid) == {ME}
    assert ("process.cpu.utilization", "") in processes.read(2.0, (ME,)).by_pid[ME]
    assert processes.read(3.0, ()).by_pid == {}
    assert ("process.cpu.utilization", "") not in processes.read(4.0, (ME,)).by_pid[ME]


class Times(NamedTuple):
    """Seconds of a node's cores, of which two thirds of the user's are a guest's."""

    user: float
    idle: float
    iowait: float
    guest: float


def test_shares_of_time_are_those_since_the_reading_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first reading is a gap and no zero, whatever thread it is taken in; so is one without time in between. A wait for disks that is counted back is no share."""
    told = iter([Times(10, 100, 5, 6), Times(13, 106, 6, 8), Times(13, 106, 6, 8), Times(17, 107, 4, 8)])
    monkeypatch.setattr(psutil, "cpu_times", lambda: next(told))
    node = Node()
    found: list[dict[str, float]] = []

    def read() -> None:
        found.append({name: value for name, value in node.read(1.0).machine.items() if name in ("cpu.utilization", "cpu.iowait")})

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    for _ in range(3):
        read()
    assert found == [{}, {"cpu.utilization": 30.0, "cpu.iowait": 10.0}, {}, {"cpu.utilization": pytest.approx(200 / 3)}]


@pytest.mark.parametrize("failing", ["cpu_times", "virtual_memory", "swap_memory", "disk_io_counters", "net_io_counters"])
@pytest.mark.parametrize(
    "error", [FileNotFoundError("/proc/diskstats"), RuntimeError("no disk"), NotImplementedError(), psutil.AccessDenied(1)], ids=lambda one: type(one).__name__
)
def test_what_a_container_hides_is_a_gap(monkeypatch: pytest.MonkeyPatch, failing: str, error: Exception) -> None:
    """Whatever of psutil fails, the rest is read."""
    node = Node()
    whole = set(node.read(1.0).machine) | set(node.read(2.0).machine)

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(psutil, failing, fails)
    node = Node()
    found = set(node.read(1.0).machine) | set(node.read(2.0).machine)
    group = {"cpu_times": "cpu.", "virtual_memory": "memory.", "swap_memory": "memory.swap", "disk_io_counters": "disk."}
    # Within one tick of the clock there are no shares of time.
    assert found >= {name for name in whole if not name.startswith((group.get(failing, "network."), "cpu.iowait", "cpu.utilization"))}
    assert len(found) >= 4


# ---- GPUs ------------------------------------------------------------------------------------------------------------------------------------


def test_a_machine_without_gpus_has_no_gpu_readings() -> None:
    """An NVML that is not there, or finds no driver, is no error; it is looked for again after a while, and not at each reading."""
    nvml = library(1)
    with installed(Library(NO_GPUS)):
        assert Gpus().read(1.0) == Taken()
    with installed(nvml):
        nvml.failing["nvmlInitWithFlags"] = pynvml.NVML_ERROR_DRIVER_NOT_LOADED
        gpus = Gpus()
        assert gpus.read(1.0) == Taken() == gpus.read(2.0)
        assert len(nvml.calls) == 1
        nvml.failing.clear()
        assert gpus.read(3.0) == Taken()
        assert gpus.read(1.0 + AGAIN_S).machine['gpu.temperature_c{device="0"}'] == 60.0


def test_all_of_a_gpu_is_read() -> None:
    """Every reading of the table that GPUs have is there for each device, in its unit, and is what the device counted."""
    nvml = library()
    with installed(nvml):
        gpus = Gpus()
        first = gpus.read(10.0).machine
        for name in nvml.gpus[1].fields:
            nvml.gpus[1].fields[name] += 1000
        taken = gpus.read(12.0)
    assert_in_table(set(taken.machine))
    of_gpus = {one.name for one in TABLE if one.name.startswith("gpu.")}
    for number in (0, 1):
        assert {name for name in of_gpus if f'{name}{{device="{number}"}}' in taken.machine} == of_gpus
    wanted = {
        "gpu.utilization": 50.0,
        "gpu.power_w": 150.0,
        "gpu.power_limit_w": 700.0,
        "gpu.memory.used_bytes": 1000.0,
        "gpu.memory.used_percent": 50.0,
        "gpu.ecc.uncorrected": 2.0,
        "gpu.energy_j": pytest.approx(1.005),
        "gpu.pcie.send_bytes_per_s": 500.0,
        "gpu.nvlink.receive_bytes_per_s": 512_000.0,
        "gpu.nvlink.replays": 1005.0,
        "gpu.memory_clock_mhz": 2600.0,
        "gpu.processes": 1.0,
    }
    assert {name: taken.machine[f'{name}{{device="1"}}'] for name in wanted} == wanted
    assert taken.machine['gpu.pcie.send_bytes_per_s{device="0"}'] == 0.0
    assert "gpu.nvlink.send_bytes_per_s{device=" not in str(first), "a rate needs two readings"
    assert taken.of_run({ME: 7})['process.gpu.memory_bytes{rank="7",device="1"}'] == 4096.0
    assert not [name for name in taken.of_run({1: 0}) if name.startswith("process.")], "processes of others are nobody's"
    assert gpus.described == {"nvidia.driver": "550.1", "gpu.0": "Simulated GPU (GPU-0)", "gpu.1": "Simulated GPU (GPU-1)"}


def test_heat_throttles_and_the_power_limit_does_not() -> None:
    """A GPU at its power limit is usual; one that is slowed by heat, or by its power supply, is throttled. Each reason has a reading of its own."""
    nvml = library(1)
    with installed(nvml):
        gpus = Gpus()
        nvml.gpus[0].reasons = 0x04
        at_limit = gpus.read(1.0).machine
        assert (at_limit['gpu.throttled{device="0"}'], at_limit['gpu.throttle.power_cap{device="0"}']) == (0.0, 1.0)
        reasons = {0x08: "hardware_slowdown", 0x20: "software_heat", 0x40: "hardware_heat", 0x80: "power_brake"}
        for bit, name in reasons.items():
            nvml.gpus[0].reasons = bit
            found = gpus.read(2.0).machine
            assert found['gpu.throttled{device="0"}'] == 1.0
            assert [one for one in reasons.values() if found[f'gpu.throttle.{one}{{device="0"}}']] == [name]


ERRORS = (pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_UNKNOWN, pynvml.NVML_ERROR_NO_PERMISSION)


@pytest.mark.parametrize("error", ERRORS, ids=["not-supported", "lost", "unknown", "no-permission"])
def test_each_call_that_fails_is_a_gap_in_its_readings_alone(error: int) -> None:
    """NVML's calls fail one after the other, for one device: what that call reads of it is missing, everything else is there and as it was, and no zero stands in for it."""
    with installed(library()) as whole:
        gpus = Gpus()
        full = gpus.read(1.0).machine | gpus.read(2.0).machine
        calls = {name for name, place in whole.calls if place is not None}
    assert len(calls) >= 16
    lost: dict[str, set[str]] = {}
    for call in calls:
        nvml = library()
        nvml.failing[call, 0] = error
        with installed(nvml):
            gpus = Gpus()
            found = gpus.read(1.0).machine | gpus.read(2.0).machine
        # Throughput without its counter is what NVML measures.
        assert {name: value for name, value in found.items() if "gpu.pcie" not in name}.items() <= full.items()
        lost[call] = {name.partition("{")[0] for name in set(full) - set(found)}
        assert all('device="0"' in name for name in set(full) - set(found))
    assert lost["nvmlDeviceGetHandleByIndex_v2"] == {name.partition("{")[0] for name in full}
    assert lost["nvmlDeviceGetUtilizationRates"] == {"gpu.utilization", "gpu.memory.utilization"}
    assert lost["nvmlDeviceGetMemoryInfo"] == {f"gpu.memory.{name}" for name in ("used_bytes", "total_bytes", "used_percent")}
    assert lost["nvmlDeviceGetTemperature"] == {"gpu.temperature_c"}
    assert lost["nvmlDeviceGetTotalEccErrors"] == {"gpu.ecc.corrected", "gpu.ecc.uncorrected"}
    assert lost["nvmlDeviceGetComputeRunningProcesses_v3"] == {"gpu.processes"}
    assert {name.partition(".")[0] for name in lost["nvmlDeviceGetFieldValues"]} == {"gpu"}
    assert "gpu.pcie.send_bytes_per_s" not in lost["nvmlDeviceGetFieldValues"]
    assert lost["nvmlDeviceGetUUID"] == lost["nvmlDeviceGetName"] == lost["nvmlDeviceGetMigMode"] == set()


def test_each_field_fails_alone() -> None:
    """Of the fields that one call asks for, one that a device does not have is missing, and the others are there."""
    nvml = library(1)
    nvml.gpus[0].field_errors = {pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION: pynvml.NVML_ERROR_NOT_SUPPORTED}
    with installed(nvml):
        found = Gpus().read(1.0).machine
    assert 'gpu.energy_j{device="0"}' not in found
    assert found['gpu.nvlink.replays{device="0"}'] == 5.0


def test_what_an_old_driver_lacks_is_a_gap_and_not_asked_for_each_time() -> None:
    """A function that the driver's library does not have, or a device does not support, is asked for again only after a while."""
    nvml = library(1)
    nvml.missing = {"nvmlDeviceGetFieldValues", "nvmlDeviceGetMigMode"}
    nvml.failing["nvmlDeviceGetPowerUsage"] = pynvml.NVML_ERROR_NOT_SUPPORTED
    with installed(nvml):
        gpus = Gpus()
        found = gpus.read(1.0).machine
        assert found['gpu.pcie.send_bytes_per_s{device="0"}'] == 1_000_000.0
        assert 'gpu.energy_j{device="0"}' not in found
        nvml.calls.clear()
        gpus.read(2.0)
        assert ("nvmlDeviceGetPowerUsage", 0) not in nvml.calls
        nvml.failing.clear()
        assert 'gpu.power_w{device="0"}' in gpus.read(2.0 + AGAIN_S).machine


def test_a_device_that_is_lost_comes_back_under_its_number() -> None:
    """A GPU that fell off its bus is a gap; NVML is begun anew after a while, which counts the others from 0 on, and each keeps its number. Rates do not reach across the gap."""
    nvml = library(3)
    with installed(nvml):
        gpus = Gpus()
        gpus.read(1.0)
        assert 'gpu.nvlink.send_bytes_per_s{device="1"}' in gpus.read(2.0).machine
        nvml.gpus[1].lost = True
        found = gpus.read(3.0).machine
        assert not [name for name in found if 'device="1"' in name]
        assert 'gpu.power_w{device="2"}' in found
        away = nvml.gpus.pop(1)
        nvml.gpus[1].power_mw = 222_000
        found = gpus.read(3.0 + AGAIN_S).machine
        assert 'gpu.power_w{device="1"}' not in found
        assert found['gpu.power_w{device="2"}'] == 222.0, "what is left is known by its UUID"
        away.lost = False
        away.fields = all_fields(0)
        nvml.gpus.insert(1, away)
        nvml.gpus[0].lost = True  # Whereby NVML is begun anew once more.
        gpus.read(4.0 + AGAIN_S)
        nvml.gpus[0].lost = False
        first, second = gpus.read(5.0 + 2 * AGAIN_S).machine, gpus.read(6.0 + 2 * AGAIN_S).machine
    assert first['gpu.power_w{device="1"}'] == 150.0
    assert 'gpu.nvlink.send_bytes_per_s{device="1"}' not in first
    assert second['gpu.nvlink.send_bytes_per_s{device="1"}'] == 0.0
    assert 'gpu.energy_j{device="1"}' not in first, "its counter began anew"
    assert second['gpu.energy_j{device="1"}'] == 0.0


def test_mig_instances_have_their_memory_and_processes() -> None:
    """Of a device in MIG mode each instance has its own memory and processes, under the number it has; numbers have holes."""
    nvml = library(1)
    nvml.gpus[0].mig = {0: 500, 3: 1500}
    nvml.failing["nvmlDeviceGetUtilizationRates"] = pynvml.NVML_ERROR_NOT_SUPPORTED
    with installed(nvml):
        taken = Gpus().read(1.0)
    assert taken.machine['gpu.memory.used_bytes{device="0",mig="0"}'] == 500.0
    assert taken.machine['gpu.memory.used_percent{device="0",mig="3"}'] == 75.0
    assert 'gpu.utilization{device="0"}' not in taken.machine
    assert taken.of_run({ME: 0})['process.gpu.memory_bytes{rank="0",device="0",mig="3"}'] == 4096.0
    assert 'gpu.processes{device="0"}' not in taken.machine
    assert_in_table(set(taken.of_run({ME: 0})))


def test_memory_that_the_driver_does_not_tell_is_a_gap() -> None:
    """A process of which NVML does not know the memory is counted and has no reading."""
    nvml = library(1)
    nvml.gpus[0].processes = [(ME, 2**64 - 1)]
    with installed(nvml):
        taken = Gpus().read(1.0)
    assert taken.machine['gpu.processes{device="0"}'] == 1.0
    assert taken.by_pid == {}


def test_a_driver_that_hangs_keeps_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """While a call of NVML does not return, everything else is read, GPUs are a gap, and it is told once what hangs; when it returns they are read again."""
    nvml = library(1)
    free = threading.Event()

    def hangs(name: str) -> None:
        if name == "nvmlDeviceGetTemperature":
            free.wait(20)

    nvml.before = hangs
    with installed(nvml):
        sampler = Sampler()
        try:
            sampler.begin(1.0, ())
            assert sampler.taken(1.0, 0.2) is None, "the round is not over"
            late = sampler.taken(1.0 + LATE_S, 0.0)
            sampler.begin(5.0, ())
            meanwhile = sampler.taken(5.0, 5.0)
            free.set()
            wait_for(lambda: not any(source.busy for source in sampler._sources), 10, "the call to return")
            after = sampler.read(9.0, {})
        finally:
            free.set()
            sampler.close()
    assert late is not None
    assert meanwhile is not None
    for taken in (late, meanwhile):
        assert "memory.used_bytes" in taken.machine
        assert not [name for name in taken.machine if name.startswith("gpu.")]
    assert after['gpu.temperature_c{device="0"}'] == 60.0
    [told] = [record.getMessage() for record in caplog.records if "does not answer" in record.getMessage()]
    assert "gpu.temperature_c" in told


def test_a_source_that_breaks_leaves_the_rest(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a library raises, the other sources are read, and it is told once."""

    def breaks(*_: object) -> None:
        raise KeyError("a mistake")

    with installed(Library(NO_GPUS)):
        sampler = Sampler()
        monkeypatch.setattr(Gpus, "_begin", breaks)
        try:
            assert "memory.used_bytes" in sampler.read(1.0, {})
            assert "memory.used_bytes" in sampler.read(2.0, {})
        finally:
            sampler.close()
    assert len([record for record in caplog.records if "a mistake" in record.getMessage()]) == 1


# ---- InfiniBand ------------------------------------------------------------------------------------------------------------------------------


def test_ports_are_read_from_their_files(tmp_path: Path) -> None:
    """Traffic is bytes a second, errors are totals, state and speed are as they are now; every reading of the table is there."""
    files = {f"counters/{name}": "7\n" for name in ("symbol_error", "link_downed", "link_error_recovery", "port_rcv_errors", "port_xmit_discards")}
    files |= {f"counters/port_{way}_{what}": "100\n" for way in ("rcv", "xmit") for what in ("data", "packets")}
    files |= {"counters/port_xmit_wait": "0", "hw_counters/out_of_sequence": "1", "hw_counters/local_ack_timeout_err": "2"}
    root = ports(tmp_path, files | {"state": "4: ACTIVE\n", "rate": "200 Gb/sec (4X HDR)\n"})
    fabric = Infiniband(str(root))
    fabric.read(10.0)
    ports(root, {"counters/port_rcv_data": "350\n"})
    found = fabric.read(12.0).machine
    assert {name.partition("{")[0] for name in found} == {one.name for one in TABLE if one.name.startswith("infiniband.")}
    label = '{device="mlx5_0",port="1"}'
    assert found[f"infiniband.receive_bytes_per_s{label}"] == 500.0
    assert found[f"infiniband.send_bytes_per_s{label}"] == 0.0
    assert found[f"infiniband.symbol_errors{label}"] == 7.0
    assert found[f"infiniband.active{label}"] == 1.0
    assert found[f"infiniband.link_bits_per_s{label}"] == 2e11
    assert_in_table(set(found))


@pytest.mark.parametrize("text", ["", "N/A (no PMA)\n", "\udcff", "12 34"], ids=["empty", "no-pma", "binary", "two"])
def test_a_counter_that_disappears_is_a_gap(tmp_path: Path, text: str) -> None:
    """A file that is gone, or holds no number, leaves its reading out; when it is back, its rate is one again after two readings."""
    root = ports(tmp_path, {"counters/port_rcv_data": "100", "counters/port_xmit_data": "100", "counters/symbol_error": "1"})
    fabric = Infiniband(str(root))
    fabric.read(1.0)
    (root / "mlx5_0/ports/1/counters/port_rcv_data").write_bytes(text.encode("utf-8", "surrogateescape"))
    (root / "mlx5_0/ports/1/counters/symbol_error").unlink()
    label = '{device="mlx5_0",port="1"}'
    assert fabric.read(2.0).machine == {f"infiniband.send_bytes_per_s{label}": 0.0}
    ports(root, {"counters/port_rcv_data": "200"})
    assert f"infiniband.receive_bytes_per_s{label}" not in fabric.read(3.0).machine
    assert fabric.read(4.0).machine[f"infiniband.receive_bytes_per_s{label}"] == 0.0


def test_a_node_without_infiniband_has_no_ports(tmp_path: Path) -> None:
    """No folder is no error."""
    assert Infiniband(str(tmp_path / "none")).read(1.0) == Taken()


# ---- for which runs --------------------------------------------------------------------------------------------------------------------------


def rank(run_id: str, number: int, pid: int, **environment: str) -> Identity:
    """A living rank."""
    return replace(identity(run_id=run_id), rank=number, pid=pid, environment=environment)


ONE, OTHER = "0193a1f0-0000-7000-8000-000000000001", "0193a1f0-0000-7000-8000-000000000002"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy with other tests may take its time for a round."""
    monkeypatch.setattr("runstream_producers.readings.WAIT_S", 20.0)


def readings_of(folder: Path, run_id: str) -> list[dict[str, float]]:
    """The rows of a run's readings."""
    found: list[dict[str, float]] = []
    for one in folder.glob("w-*"):
        who = Identity.from_json((one / "writer.json").read_text())
        if who.run_id == run_id:
            found += [{name: struct.unpack("<d", value)[0] for name, value in row.values.items()} for row in read_back(one, who.writer)]
    return found


@pytest.mark.usefixtures("patient")
def test_each_run_is_read_as_often_as_it_wants(tmp_path: Path) -> None:
    """Two runs of one node share rounds where both are due; one that wants none has no journal, and one that says nothing is read as often as the agent was told."""
    with installed(Library(NO_GPUS)):
        agent = Readings(tmp_path, Sampler(infiniband=Infiniband(str(tmp_path / "none"))), 0.0)
        try:
            ranks = [rank(ONE, 0, ME, hardware_interval_s="1"), rank(OTHER, 0, ME, hardware_interval_s="5"), rank(ONE[:-1] + "9", 0, ME)]
            for tick in range(44):
                agent.take(ranks, 100.0 + tick / 4)
        finally:
            agent.close()
    assert len(readings_of(tmp_path, ONE)) == 11
    assert len(readings_of(tmp_path, OTHER)) == 3
    assert len(list(tmp_path.glob("w-*"))) == 2


@pytest.mark.usefixtures("patient")
def test_processes_are_those_of_ranks_that_this_agent_can_know(tmp_path: Path) -> None:
    """A forked helper is not taken for its rank, and a rank in a container with ids of its own is a gap instead of some process that happens to have its number."""
    child = os.getppid()
    with installed(Library(NO_GPUS)):
        agent = Readings(tmp_path, Sampler(infiniband=Infiniband(str(tmp_path / "none"))), 1.0)
        try:
            agent.take([rank(ONE, 0, ME), rank(ONE, 0, child, forked="true"), rank(ONE, 1, child, pid_namespace="pid:[7]")], 100.0)
        finally:
            agent.close()
    [row] = readings_of(tmp_path, ONE)
    assert {name for name in row if name.startswith("process.memory")} == {'process.memory.rss_bytes{rank="0"}'}
    assert row['process.memory.rss_bytes{rank="0"}'] == pytest.approx(psutil.Process(ME).memory_info().rss, rel=0.2)
