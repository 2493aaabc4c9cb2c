"""The node agent: a process beside the ranks that ships their journals, samples hardware and writes heartbeats.

One agent owns one journal folder (a POSIX lock says so), however many ranks start at once. It ends itself once nothing has been left to ship for a while; whoever logs next
starts another. `python -m runstream_producers.agent --folder DIR` is how the SDK starts it, with its settings in the environment.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runstream_producers import claims, states
from runstream_producers.errors import JournalError
from runstream_producers.journal import format as fmt
from runstream_producers.journal.segments import held, locked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runstream_producers.claims import Claim
    from runstream_producers.hardware import Sampler
    from runstream_producers.journal.writer import JournalWriter
    from runstream_producers.kafka import Sender
    from runstream_producers.shipper import Shipment
    from runstream_schemas.settings import Settings

_log = logging.getLogger("runstream.agent")

LOCK_NAME = "agent.lock"
LOOP_S = 0.02  # How long the loop waits for answers when there is nothing to send.
LOOK_S = 0.04  # How often the folder is searched for new journals and for ends: what a short run, and every `finish`, waits for.
SCAN_S = 0.25  # How often the writers' locks are tried and the machine's readings are looked after.
FINALS_MAX = 4  # Sends of a writer's last state, each refused by Kafka, before its journal goes without: its rows are stored by then.
FINAL_PAUSE_S = 1.0
KEEP_S = 0.5  # How often an agent that is kept looks whether another one has left the folder to it.


def take_lock(folder: Path) -> int | None:
    """The agent's lock on a folder as a descriptor; None where another agent has it. Tried for a moment, since a rank may be trying it, too."""
    descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(10):
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.03)
        else:
            return descriptor
    os.close(descriptor)
    return None


@dataclass(slots=True)
class _Hand:
    """What the agent has in hand of one writer."""

    shipment: Shipment
    claim: Claim
    heard_ms: int  # The writer's last sign of life.
    alive: bool = True
    end: fmt.End | None = None
    heartbeat_at: float = 0.0
    telling: bool = False  # A record of its state waits for an answer.
    final: str = ""  # "", then "sent", then "stored" or "failed"
    final_failures: int = 0
    final_at: float = 0.0


@dataclass(slots=True)
class _Hardware:
    writer: JournalWriter
    next_at: float


class Agent:
    """The loop of one agent over one folder."""

    def __init__(self, folder: Path, settings: Settings, sender: Sender, sampler: Sampler | None) -> None:
        self._folder = folder
        self._told_trouble: str | None = None
        self._settings = settings
        self._sender = sender
        self._sampler = sampler
        self._hands: dict[str, _Hand] = {}
        self._hardware: dict[str, _Hardware] = {}
        self.broken: set[str] = set()
        self._busy_at = time.monotonic()
        self._look_again_at = 0.0
        self._scan_at = 0.0
        self._ship_at = 0.0
        self.stopping = False

    def run(self) -> None:
        """Works until told to stop, until nothing has been left to do for `agent_idle_timeout` seconds, or until the sender is broken."""
        states.publish_schemas(self._sender, self._settings.topic_prefix)
        claims.sweep(self._folder)
        while not self.stopping and not self._sender.broken:
            now = time.monotonic()
            self.step(now)
            if now - self._busy_at > self._settings.agent_idle_timeout:
                return
            self._sender.poll(LOOP_S)

    def step(self, now: float) -> None:
        """One round: look for journals, sample, ship, tell."""
        if now >= self._look_again_at:
            self._look_again_at = now + LOOK_S
            self._look()
        if now >= self._scan_at:
            self._scan_at = now + SCAN_S
            self._scan()
            self._sample(now)
            self._tell_trouble()
        if self._hands:
            self._busy_at = now
        urgent = any(hand.end is not None or not hand.alive for hand in self._hands.values())
        if now >= self._ship_at or urgent:
            self._ship_at = now + self._settings.batch_interval
            for name, hand in list(self._hands.items()):
                try:
                    self._serve(name, hand, now)
                except (OSError, ValueError, TypeError, KeyError) as error:
                    # One journal that cannot be read must not keep the others.
                    self._give_up(name, hand, error)
        else:
            for hand in self._hands.values():
                hand.shipment.settle(now)

    def _tell_trouble(self) -> None:
        """Leaves in the folder why nothing arrives at present, for `finish` to say."""
        if self._sender.trouble != self._told_trouble:
            self._told_trouble = self._sender.trouble
            states.tell_trouble(self._folder, self._sender.trouble)

    # ---- journals ----------------------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Finds journals that are new, and the ends that writers have left."""
        for entry in list(os.scandir(self._folder)):
            if entry.name.startswith("w-") and entry.name not in self._hands and entry.name not in self.broken:
                self._take_up(entry.name)
        for name, hand in self._hands.items():
            if hand.end is None and hand.alive and (self._folder / name / "end.json").exists():
                self._read_end(name, hand)

    def _scan(self) -> None:
        """As `_look`, and finds the writers that have died."""
        self._look()
        for name, hand in self._hands.items():
            if hand.end is None and hand.alive:
                self._look_at(name, hand)

    def _take_up(self, name: str) -> None:
        from runstream_producers.shipper import Shipment

        folder = self._folder / name
        try:
            claim = claims.claim(folder)
            if claim is None:
                return  # `runstream sync` is at it: it may leave something to do.
        except OSError as error:
            self.broken.add(name)
            _log.error("journal cannot be written to folder=%s error=%s", folder, error)
            return
        try:
            identity = fmt.Identity.from_json((folder / "writer.json").read_text(encoding="utf-8"))
            shipment = Shipment(folder, identity, self._sender, self._settings.topic_prefix, self._settings.batch_size)
        except (OSError, ValueError, TypeError) as error:
            claim.release()
            self.broken.add(name)
            _log.error("journal cannot be read folder=%s error=%s", folder, error)
            return
        if shipment.ack.done:  # The agent before was killed between the writer's last state and the removal.
            shipment.close()
            claims.remove(folder)
            claim.release()
            return
        self._hands[name] = _Hand(shipment, claim, states.last_sign_ms(folder, identity.started_ms))
        _log.info("journal taken up writer=%d run=%s rank=%d kind=%s", identity.writer, identity.run_id, identity.rank, identity.kind)

    def _look_at(self, name: str, hand: _Hand) -> None:
        """Finds out whether a writer has ended, and how."""
        folder = self._folder / name
        if hand.shipment.identity.writer not in held and not locked(folder / "lock"):
            hand.alive = False
        self._read_end(name, hand)

    def _read_end(self, name: str, hand: _Hand) -> None:
        folder = self._folder / name
        with contextlib.suppress(OSError, ValueError, TypeError):
            hand.end = fmt.End.from_json((folder / "end.json").read_text(encoding="utf-8"))

    def _serve(self, name: str, hand: _Hand, now: float) -> None:
        shipment = hand.shipment
        until = hand.end.next_seq if hand.end is not None else None
        moved = shipment.step(now, until)
        ended = (hand.end is not None or not hand.alive) and shipment.drained and not moved
        if hand.final == "stored" or hand.final_failures >= FINALS_MAX:
            self._let_go(name, hand)
        elif ended and hand.final != "sent" and now >= hand.final_at:
            hand.final = "sent"
            hand.final_at = now + FINAL_PAUSE_S
            self._tell(hand, final=True)
        elif not hand.final and not hand.telling and now >= hand.heartbeat_at:
            hand.heartbeat_at = now + self._settings.heartbeat_interval
            self._tell(hand, final=False)

    def _tell(self, hand: _Hand, *, final: bool) -> None:
        """Sends the writer's record: a heartbeat, or its last state."""
        from runstream_schemas import topics, wire

        now_ms = time.time_ns() // 1_000_000
        if hand.alive and hand.end is None:
            hand.heard_ms = now_ms
        else:
            hand.heard_ms = max(hand.heard_ms, states.last_sign_ms(hand.shipment.folder, 0))
        record = states.told(hand.shipment, hand.end, final=final, now_ms=now_ms, alive_ms=hand.heard_ms)

        def answered(failure: object) -> None:
            hand.telling = False
            if final:
                hand.final = "stored" if failure is None else "failed"
                hand.final_failures += failure is not None

        hand.telling = True
        if not self._sender.send(f"{self._settings.topic_prefix}.writer", topics.writer_key(record.writer), wire.encode(record), answered):
            hand.telling = False
            hand.final = "failed" if final else ""

    def _let_go(self, name: str, hand: _Hand) -> None:
        """Everything of this writer is stored in Kafka: its folder goes."""
        hand.shipment.finish()
        hand.shipment.close()
        del self._hands[name]
        claims.remove(self._folder / name)
        hand.claim.release()
        _log.info("journal done writer=%d state=%s rows=%d", hand.shipment.identity.writer, hand.end.state if hand.end else "crashed", hand.shipment.ack.rows)

    def _give_up(self, name: str, hand: _Hand, error: Exception) -> None:
        _log.error("journal cannot be shipped any further folder=%s error=%r", self._folder / name, error)
        hand.shipment.close()
        hand.claim.release()
        del self._hands[name]
        self.broken.add(name)

    # ---- hardware ----------------------------------------------------------------------------------------------------------------------

    def _sample(self, now: float) -> None:
        """Reads the machine for each run that has live ranks here; a run's readings end with its last rank."""
        if self._sampler is None:
            return
        ranks: dict[str, list[fmt.Identity]] = {}
        for hand in self._hands.values():
            identity = hand.shipment.identity
            if identity.kind == "rank" and hand.alive and hand.end is None:
                ranks.setdefault(identity.run_id, []).append(identity)
        for run_id in [run_id for run_id in self._hardware if run_id not in ranks]:
            self._hardware.pop(run_id).writer.close("finished", "the last rank of the run on this node ended")
        due: dict[str, _Hardware] = {}
        for run_id, identities in ranks.items():
            hardware = self._hardware.get(run_id) or self._begin_hardware(run_id, identities[0], now)
            if hardware is not None and now >= hardware.next_at:
                hardware.next_at = now + self._settings.hardware_interval
                due[run_id] = hardware
        if due:
            machine = self._sampler.machine(now)
            self._sampler.forget({one.pid for identities in ranks.values() for one in identities})
            for run_id, hardware in due.items():
                hardware.writer.log(machine | self._sampler.processes({one.pid: one.rank for one in ranks[run_id]}))

    def _begin_hardware(self, run_id: str, rank: fmt.Identity, now: float) -> _Hardware | None:
        from runstream_producers.journal.writer import JournalWriter
        from runstream_schemas import ids

        def identity() -> fmt.Identity:
            started_ms = time.time_ns() // 1_000_000
            return replace(rank, writer=ids.new_writer(), kind="hardware", host=socket.gethostname(), pid=os.getpid(), started_ms=started_ms, environment={})

        def report(_key: str, sentence: str) -> None:
            _log.warning("hardware readings: %s", sentence)

        try:
            writer = JournalWriter(self._folder, identity, segment_bytes=1 << 20, bytes_max=64 << 20, report=report)
        except (OSError, JournalError) as error:
            _log.warning("hardware readings have no journal error=%s", error)
            return None
        hardware = self._hardware[run_id] = _Hardware(writer, now)
        return hardware

    def close(self, timeout_s: float) -> None:
        """Ends the hardware journals and waits for answers; what is left stays in the journals for the next agent."""
        self._sampler = None
        for hardware in self._hardware.values():
            hardware.writer.close("finished", "the agent ended")
        self._hardware.clear()
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self._scan_at = 0.0
            self.step(time.monotonic())
            self._sender.poll(LOOP_S)
            if not self._sender.waiting():
                break
        for hand in self._hands.values():
            hand.shipment.settle(time.monotonic())
            hand.shipment.close()
            hand.claim.release()


def serve(folder: Path, settings: Settings, begun: Callable[[Agent], None], close_s: float = 5.0) -> int:
    """Runs an agent on a folder if there is none; 0 in either case, 2 where the settings give no producer.

    Args:
        folder: the journal folder.
        settings: where to ship, and how.
        begun: gets each agent as it begins, for whoever may stop it: after a fatal error of the producer another goes on.
        close_s: seconds for the last answers at the end.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = take_lock(folder)
    if lock is None:
        return 0
    from runstream_producers.hardware import Sampler as HardwareSampler
    from runstream_producers.kafka import Sender as KafkaSender
    from runstream_producers.kafka import SenderError, producer_options

    sampler = HardwareSampler() if settings.hardware_interval > 0 else None
    try:
        while True:
            sender = KafkaSender(producer_options(settings, f"runstream-agent-{socket.gethostname()}"))
            agent = Agent(folder, settings, sender, sampler)
            begun(agent)
            _log.info("agent begins folder=%s kafka=%s", folder, settings.kafka)
            agent.run()
            agent.close(0.0 if sender.broken else close_s)
            # Give up the lock, then look once more: a rank that saw it held and so started no agent has made its folder before that.
            os.close(lock)
            lock = -1
            if agent.stopping or not any(entry.name.startswith("w-") and entry.name not in agent.broken for entry in list(os.scandir(folder))):
                _log.info("agent ends")
                return 0
            lock = take_lock(folder)
            if lock is None:
                return 0
    except FileNotFoundError:
        _log.warning("agent ends, since its folder was removed folder=%s", folder)
        return 0
    except SenderError as error:
        _log.error("agent cannot begin: %s", error)
        states.tell_trouble(folder, str(error))
        return 2
    finally:
        if lock is not None and lock >= 0:
            os.close(lock)


def keep(folder: Path, settings: Settings, begun: Callable[[Agent], None], stopped: Callable[[], bool]) -> int:
    """Runs agents on a folder until `stopped`, for ever idle if need be; while another one holds the folder, waits for its end."""
    settings = settings.model_copy(update={"agent_idle_timeout": float("inf")})
    code = 0
    while not stopped() and code == 0:
        code = serve(folder, settings, begun)
        time.sleep(KEEP_S)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m runstream_producers.agent`."""
    from runstream_producers.paths import agent_folder
    from runstream_schemas.settings import SettingsError, load

    parser = argparse.ArgumentParser(prog="python -m runstream_producers.agent", description="Ships the journals in a folder to Kafka until none is left.")
    parser.add_argument("--folder", type=Path, help="journal folder that this agent owns; the one that runs with these settings use, unless given")
    parser.add_argument("--keep", action="store_true", help="go on when nothing is left, until SIGTERM: for a sidecar, or one agent for all jobs of a host")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    # Ctrl-C in a terminal is meant for the training, and the terminal's end is none of the agent's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stopped = False
    agents: list[Agent] = []

    def begun(agent: Agent) -> None:
        agents[:] = [agent]
        agent.stopping = stopped

    def stop(_number: int, _frame: object) -> None:
        nonlocal stopped
        stopped = True
        for agent in agents:
            agent.stopping = True

    signal.signal(signal.SIGTERM, stop)
    try:
        settings = load()
        folder = args.folder or agent_folder(settings)
        return keep(folder, settings, begun, lambda: stopped) if args.keep else serve(folder, settings, begun)
    except SettingsError as error:
        _log.error("%s", error)
        return 2


if __name__ == "__main__":
    sys.exit(main())
