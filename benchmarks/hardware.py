"""What hardware sampling costs on a node with 8 GPUs, 8 InfiniBand ports and 8 ranks: reading, journal, frames and their Avro, as a share of one core at an interval of 5 s.

NVML is a simulated library under the real pynvml, so that a driver's own time does not count; its Python counts in full. Everything else is what an agent does.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import Bar, Figure
from benchmarks.simulated_nvml import Gpu, Library, all_fields, installed
from runstream_producers.hands import take_up
from runstream_producers.hardware import Sampler
from runstream_producers.hardware.infiniband import Infiniband
from runstream_producers.journal.format import Identity
from runstream_producers.kafka import Failure, Sender
from runstream_producers.readings import Readings
from runstream_schemas import ids
from runstream_schemas.settings import load

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

INTERVAL_S = 5.0
_DEVICES = 8
_ROUNDS_MIN, _ROUNDS_MAX = 50, 600
_COUNTERS = ("port_rcv_data", "port_xmit_data", "port_rcv_packets", "port_xmit_packets", "port_xmit_wait", "symbol_error", "link_downed", "port_rcv_errors")


class _Taker(Sender):
    """Takes every record and answers at once: Kafka and librdkafka do not count, the record's bytes do."""

    def __init__(self) -> None:
        self.last_error = self.trouble = ""
        self.broken = False
        self.keeps_order = True
        self.bytes = 0

    def send(self, topic: str, key: bytes, value: bytes, on_answer: Callable[[Failure | None], None]) -> bool:
        self.bytes += len(topic) + len(key) + len(value)
        on_answer(None)
        return True

    def poll(self, timeout_s: float) -> int:  # noqa: ARG002 - everything has been answered
        return 0

    def waiting(self) -> int:
        return 0


@contextmanager
def _ranks(run_id: str) -> Generator[list[Identity]]:
    """Processes that stand for ranks."""
    with ExitStack() as stack:
        found: list[Identity] = []
        for rank in range(_DEVICES):
            child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
            stack.callback(child.wait)
            stack.callback(child.kill)
            found.append(Identity(ids.new_writer(), run_id, "benchmarks", "rank", rank, rank, _DEVICES, "node", "node", child.pid, "a", 1, {}))
        yield found


def _ports(root: Path) -> Path:
    for device in range(_DEVICES):
        folder = root / f"mlx5_{device}" / "ports" / "1"
        (folder / "counters").mkdir(parents=True)
        (folder / "hw_counters").mkdir()
        for name in _COUNTERS:
            (folder / "counters" / name).write_text("1000\n")
        (folder / "hw_counters" / "out_of_sequence").write_text("0\n")
        (folder / "state").write_text("4: ACTIVE\n")
        (folder / "rate").write_text("200 Gb/sec (4X HDR)\n")
    return root


def run(seconds: float) -> Iterator[Figure]:
    """The share of a core, and what a round comes to in readings and bytes."""
    settings = load({"topic_prefix": "benchmark"})
    run_id = ids.new_uuid()
    with tempfile.TemporaryDirectory() as temporary, _ranks(run_id) as ranks, ExitStack() as stack:
        folder = Path(temporary) / "journals"
        folder.mkdir()
        library = Library([Gpu(f"GPU-{number}", fields=all_fields(), processes=[(ranks[number].pid, 1 << 30)]) for number in range(_DEVICES)])
        stack.enter_context(installed(library))
        sampler = Sampler(("/", str(folder)), infiniband=Infiniband(str(_ports(Path(temporary) / "infiniband"))))
        readings = Readings(folder, sampler, INTERVAL_S)
        stack.callback(readings.close)
        sender = _Taker()
        now = 1000.0
        while not (found := list(folder.glob("w-*"))):
            readings.take(ranks, now)
            now += INTERVAL_S
        hand = take_up(found[0], sender, settings)
        if hand is None:
            raise RuntimeError(f"the journal {found[0]} could not be taken in hand")
        stack.callback(hand.drop)
        took_s: list[float] = []
        until = time.monotonic() + seconds
        hand.serve(now)
        sent, before = sender.bytes, hand.shipment.ack.points
        while len(took_s) < _ROUNDS_MIN or (time.monotonic() < until and len(took_s) < _ROUNDS_MAX):
            for gpu in library.gpus:
                gpu.fields.update(all_fields(len(took_s) << 20))
            time.sleep(0.02)  # An agent that comes by every 5 s finds caches cold.
            begun = time.process_time()
            readings.take(ranks, now)
            hand.serve(now)
            took_s.append(time.process_time() - begun)
            now += INTERVAL_S
        rounds = len(took_s)
        yield Figure("core_share", statistics.mean(took_s) / INTERVAL_S, "cores", rounds, Bar("<=", 0.003))
        yield Figure("round_cpu_ms", 1000 * statistics.median(took_s), "ms", rounds)
        yield Figure("readings_a_round", (hand.shipment.ack.points - before) / rounds, "readings", rounds)
        yield Figure("bytes_a_round", (sender.bytes - sent) / rounds, "bytes", rounds)
