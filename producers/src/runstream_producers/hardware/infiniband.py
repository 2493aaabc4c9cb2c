"""Counters of InfiniBand and RoCE ports from sysfs, as the kernel shows them; none where there are no such devices. A file that is missing or says `N/A` is a gap."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from runstream_producers.hardware.taken import Rates, Taken, Totals

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = "/sys/class/infiniband"
# File of a port, the reading, and what one count of it stands for.
_RATES = (
    ("counters/port_rcv_data", "infiniband.receive_bytes_per_s", 4),
    ("counters/port_xmit_data", "infiniband.send_bytes_per_s", 4),
    ("counters/port_rcv_packets", "infiniband.receive_packets_per_s", 1),
    ("counters/port_xmit_packets", "infiniband.send_packets_per_s", 1),
    ("counters/port_xmit_wait", "infiniband.send_wait_per_s", 1),
)
_TOTALS = (
    ("counters/symbol_error", "infiniband.symbol_errors"),
    ("counters/link_downed", "infiniband.link_downs"),
    ("counters/link_error_recovery", "infiniband.link_recoveries"),
    ("counters/port_rcv_errors", "infiniband.receive_errors"),
    ("counters/port_xmit_discards", "infiniband.send_discards"),
    ("hw_counters/out_of_sequence", "infiniband.out_of_sequence"),
    ("hw_counters/local_ack_timeout_err", "infiniband.ack_timeouts"),
)


class Infiniband:
    """Readings of every port below `root`."""

    def __init__(self, root: str = ROOT) -> None:
        self._root = root
        self._rates = Rates()
        self._totals = Totals()

    def read(self, now: float) -> Taken:
        """Traffic, errors and state of each port at `now` in seconds."""
        counters: dict[str, float] = {}
        totals: dict[str, float] = {}
        taken = Taken()
        for folder, labels in self._ports():
            for file, name, size in _RATES:
                value = _number(f"{folder}/{file}")
                if value is not None:
                    counters[name + labels] = value * size
            for file, name in _TOTALS:
                value = _number(f"{folder}/{file}")
                if value is not None:
                    totals[name + labels] = value
            state = _text(f"{folder}/state")
            if state:
                taken.machine[f"infiniband.active{labels}"] = float("ACTIVE" in state)
            speed = _speed(_text(f"{folder}/rate"))
            if speed is not None:
                taken.machine[f"infiniband.link_bits_per_s{labels}"] = speed
        taken.machine.update(self._rates.of(counters, now))
        taken.machine.update(self._totals.of(totals))
        return taken

    def _ports(self) -> Iterator[tuple[str, str]]:
        for device in _listed(self._root):
            for port in _listed(f"{self._root}/{device}/ports"):
                yield f"{self._root}/{device}/ports/{port}", f'{{device="{device}",port="{port}"}}'


def _listed(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - names are all that is wanted
    except OSError:
        return []


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123 - a path object takes longer than the reading
            return file.read(256)
    except OSError:
        return ""


def _number(path: str) -> float | None:
    try:
        return float(int(_text(path)))
    except ValueError:
        return None


def _speed(text: str) -> float | None:
    """Bits a second of `200 Gb/sec (4X HDR)`."""
    number, _, unit = text.partition(" ")
    try:
        return float(number) * 1e9 if unit.startswith("Gb/sec") else None
    except ValueError:
        return None
