"""The table of hardware readings: every name with its labels, unit, kind, source and meaning. docs/hardware.md shows it, and a test holds what is read against it.

Names end in their unit where it is no percentage or count, as `_bytes`, `_bytes_per_s`, `_c` (degrees Celsius), `_w` (watts), `_j` (joules), `_mhz`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# gauge: as it is at the moment. rate: growth of a counter a second since the reading before. total: a counter as its device keeps it.
Kind = Literal["gauge", "rate", "total"]


@dataclass(frozen=True, slots=True)
class Named:
    """One reading: its name, the labels it carries, its unit, kind, source and meaning."""

    name: str
    labels: tuple[str, ...]
    unit: str
    kind: Kind
    source: str
    meaning: str


_PSUTIL, _PROCESS, _NVML, _FIELD, _SYSFS = "psutil", "psutil, each rank", "NVML", "NVML field", "sysfs"
_GPU, _MIG, _PORT = ("device",), ("device", "mig"), ("device", "port")

TABLE: tuple[Named, ...] = (
    Named("cpu.utilization", (), "percent of all cores", "gauge", _PSUTIL, "time that was not idle since the reading before"),
    Named("cpu.iowait", (), "percent of all cores", "gauge", _PSUTIL, "idle time in which a disk was waited for"),
    Named("cpu.load_1m", (), "processes", "gauge", "system", "load average of a minute"),
    Named("memory.used_bytes", (), "bytes", "gauge", _PSUTIL, "memory that programs cannot get any more: total less available"),
    Named("memory.total_bytes", (), "bytes", "gauge", _PSUTIL, "memory of the node"),
    Named("memory.utilization", (), "percent", "gauge", _PSUTIL, "share of the memory that is in use"),
    Named("memory.swap_used_bytes", (), "bytes", "gauge", _PSUTIL, "swap in use"),
    Named("disk.read_bytes_per_s", (), "bytes a second", "rate", _PSUTIL, "read from all disks"),
    Named("disk.write_bytes_per_s", (), "bytes a second", "rate", _PSUTIL, "written to all disks"),
    Named("disk.reads_per_s", (), "requests a second", "rate", _PSUTIL, "reads of all disks"),
    Named("disk.writes_per_s", (), "requests a second", "rate", _PSUTIL, "writes of all disks"),
    Named("disk.used_bytes", ("path",), "bytes", "gauge", "system", "used of the file system at `/`, and of the journals' own"),
    Named("disk.total_bytes", ("path",), "bytes", "gauge", "system", "size of that file system"),
    Named("disk.utilization", ("path",), "percent", "gauge", "system", "share of it that is used"),
    Named("network.receive_bytes_per_s", (), "bytes a second", "rate", _PSUTIL, "received by all interfaces but the loopback"),
    Named("network.send_bytes_per_s", (), "bytes a second", "rate", _PSUTIL, "sent by them"),
    Named("network.errors_per_s", (), "packets a second", "rate", _PSUTIL, "packets with errors, both ways"),
    Named("network.drops_per_s", (), "packets a second", "rate", _PSUTIL, "packets thrown away, both ways"),
    Named("infiniband.receive_bytes_per_s", _PORT, "bytes a second", "rate", _SYSFS, "port_rcv_data, which counts 4 bytes each"),
    Named("infiniband.send_bytes_per_s", _PORT, "bytes a second", "rate", _SYSFS, "port_xmit_data, likewise"),
    Named("infiniband.receive_packets_per_s", _PORT, "packets a second", "rate", _SYSFS, "port_rcv_packets"),
    Named("infiniband.send_packets_per_s", _PORT, "packets a second", "rate", _SYSFS, "port_xmit_packets"),
    Named("infiniband.send_wait_per_s", _PORT, "ticks a second", "rate", _SYSFS, "port_xmit_wait: data waited and could not be sent (congestion)"),
    Named("infiniband.symbol_errors", _PORT, "errors", "total", _SYSFS, "symbol_error"),
    Named("infiniband.link_downs", _PORT, "times", "total", _SYSFS, "link_downed: the link failed for good"),
    Named("infiniband.link_recoveries", _PORT, "times", "total", _SYSFS, "link_error_recovery"),
    Named("infiniband.receive_errors", _PORT, "packets", "total", _SYSFS, "port_rcv_errors"),
    Named("infiniband.send_discards", _PORT, "packets", "total", _SYSFS, "port_xmit_discards"),
    Named("infiniband.out_of_sequence", _PORT, "packets", "total", _SYSFS, "out_of_sequence of hw_counters"),
    Named("infiniband.ack_timeouts", _PORT, "times", "total", _SYSFS, "local_ack_timeout_err of hw_counters"),
    Named("infiniband.active", _PORT, "1 or 0", "gauge", _SYSFS, "whether the port's state is ACTIVE"),
    Named("infiniband.link_bits_per_s", _PORT, "bits a second", "gauge", _SYSFS, "speed that the link has now"),
    Named("gpu.utilization", _GPU, "percent", "gauge", _NVML, "time in which a kernel ran"),
    Named("gpu.memory.utilization", _GPU, "percent", "gauge", _NVML, "time in which memory was read or written, not how full it is"),
    Named("gpu.memory.used_bytes", _MIG, "bytes", "gauge", _NVML, "memory in use, of the device or of a MIG instance"),
    Named("gpu.memory.total_bytes", _MIG, "bytes", "gauge", _NVML, "its memory"),
    Named("gpu.memory.used_percent", _MIG, "percent", "gauge", _NVML, "how full it is"),
    Named("gpu.memory.temperature_c", _GPU, "degrees Celsius", "gauge", _FIELD, "temperature of the memory"),
    Named("gpu.temperature_c", _GPU, "degrees Celsius", "gauge", _NVML, "temperature of the chip"),
    Named("gpu.power_w", _GPU, "watts", "gauge", _NVML, "power it draws"),
    Named("gpu.power_limit_w", _GPU, "watts", "gauge", _NVML, "power it may draw"),
    Named("gpu.energy_j", _GPU, "joules", "total", _FIELD, "energy since the driver was loaded"),
    Named("gpu.sm_clock_mhz", _GPU, "megahertz", "gauge", _NVML, "clock of its processors"),
    Named("gpu.memory_clock_mhz", _GPU, "megahertz", "gauge", _NVML, "clock of its memory"),
    Named("gpu.throttled", _GPU, "1 or 0", "gauge", _NVML, "heat or failing power slow it down; the power limit, usual under load, does not count"),
    Named("gpu.throttle.power_cap", _GPU, "1 or 0", "gauge", _NVML, "its power limit slows it down"),
    Named("gpu.throttle.hardware_slowdown", _GPU, "1 or 0", "gauge", _NVML, "the hardware slows it down, for heat or power"),
    Named("gpu.throttle.software_heat", _GPU, "1 or 0", "gauge", _NVML, "the driver slows it down for heat"),
    Named("gpu.throttle.hardware_heat", _GPU, "1 or 0", "gauge", _NVML, "the hardware slows it down for heat"),
    Named("gpu.throttle.power_brake", _GPU, "1 or 0", "gauge", _NVML, "the power supply asks it to slow down"),
    Named("gpu.throttle.sync_boost", _GPU, "1 or 0", "gauge", _NVML, "another device of its sync boost group holds it back"),
    Named("gpu.ecc.corrected", _GPU, "errors", "total", _NVML, "memory errors that were corrected, since the driver was loaded"),
    Named("gpu.ecc.uncorrected", _GPU, "errors", "total", _NVML, "memory errors that could not be"),
    Named("gpu.remapped_rows.corrected", _GPU, "rows", "total", _FIELD, "rows of memory replaced for corrected errors"),
    Named("gpu.remapped_rows.uncorrected", _GPU, "rows", "total", _FIELD, "rows of memory replaced for uncorrected errors"),
    Named("gpu.remapped_rows.pending", _GPU, "1 or 0", "gauge", _FIELD, "a replacement waits for a reset"),
    Named("gpu.remapped_rows.failed", _GPU, "1 or 0", "gauge", _FIELD, "a replacement failed: the device should be exchanged"),
    Named(
        "gpu.pcie.receive_bytes_per_s",
        _GPU,
        "bytes a second",
        "rate",
        "NVML field, else NVML",
        "received over PCIe; without the counter, what NVML measures in 20 ms",
    ),
    Named("gpu.pcie.send_bytes_per_s", _GPU, "bytes a second", "rate", "NVML field, else NVML", "sent over PCIe, likewise"),
    Named("gpu.pcie.replays", _GPU, "times", "total", _FIELD, "packets that were sent again"),
    Named("gpu.pcie.generation", _GPU, "generation", "gauge", _NVML, "PCIe generation of the link now"),
    Named("gpu.pcie.width", _GPU, "lanes", "gauge", _NVML, "lanes of the link now"),
    Named("gpu.nvlink.receive_bytes_per_s", _GPU, "bytes a second", "rate", _FIELD, "data received over all links"),
    Named("gpu.nvlink.send_bytes_per_s", _GPU, "bytes a second", "rate", _FIELD, "data sent over all links"),
    Named("gpu.nvlink.crc_errors", _GPU, "errors", "total", _FIELD, "flits with a wrong checksum"),
    Named("gpu.nvlink.replays", _GPU, "times", "total", _FIELD, "packets that were sent again"),
    Named("gpu.nvlink.recoveries", _GPU, "times", "total", _FIELD, "links that had to be recovered"),
    Named("gpu.processes", _MIG, "processes", "gauge", _NVML, "processes that compute on it, whosever they are"),
    Named(
        "process.cpu.utilization",
        ("rank",),
        "percent of one core",
        "gauge",
        _PROCESS,
        "processor time since the reading before; above 100 with several threads",
    ),
    Named("process.memory.rss_bytes", ("rank",), "bytes", "gauge", _PROCESS, "memory it holds"),
    Named("process.threads", ("rank",), "threads", "gauge", _PROCESS, "its threads"),
    Named("process.read_bytes_per_s", ("rank",), "bytes a second", "rate", _PROCESS, "read from disks for it"),
    Named("process.write_bytes_per_s", ("rank",), "bytes a second", "rate", _PROCESS, "written to disks for it"),
    Named("process.gpu.memory_bytes", ("rank", "device", "mig"), "bytes", "gauge", "NVML, each rank", "GPU memory it holds on a device"),
)

NAMES: frozenset[str] = frozenset(one.name for one in TABLE)
