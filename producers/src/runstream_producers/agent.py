"""The node agent: a process beside the ranks that ships their journals, samples hardware and writes heartbeats.

One agent owns one journal folder (a POSIX lock says so), however many ranks start at once. It ends itself once nothing has been left to ship for a while; whoever logs next
starts another. `python -m runstream_producers.agent --folder DIR` is how the SDK starts it, with its settings in the environment. What it does all day is `loop`'s matter.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import resource
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from runstream_producers import states

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runstream_producers.loop import Agent
    from runstream_schemas.settings import Settings

_log = logging.getLogger("runstream.agent")

LOCK_NAME = "agent.lock"
_FILES_MAX = 1 << 16
FATAL_PAUSE_S = 0.1  # Between a producer that came to its end and the next: twice as long each time, until one has delivered something.
FATAL_PAUSE_MAX_S = 10.0
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
    # Here and not at the top: training looks at this module for its lock, and shall not load librdkafka.
    from runstream_producers.hardware import Sampler
    from runstream_producers.kafka import Sender, SenderError, producer_options
    from runstream_producers.loop import Agent
    from runstream_producers.readings import Readings
    from runstream_schemas.settings import refreshed

    readings = Readings(folder, Sampler(("/", str(folder))), settings.hardware_interval)
    try:
        sender, pause_s = None, FATAL_PAUSE_S
        while True:
            settings = refreshed(settings)
            sender = Sender(producer_options(settings, f"runstream-agent-{socket.gethostname()}"), sender)
            agent = Agent(folder, settings, sender, readings)
            begun(agent)
            _log.info("agent begins folder=%s kafka=%s", folder, settings.kafka)
            agent.run()
            outdated = sender.outdated and not agent.stopping
            agent.close(0.0 if sender.broken or outdated or agent.moved else close_s)
            if agent.moved:
                sender = None  # What went wrong at the other address is no news of this one.
                continue
            if outdated:
                _log.warning("the clock was set back, so that another producer takes over folder=%s", folder)
                continue
            if sender.broken:  # Where it lies at the rights of this user, the next producer comes to the same end.
                pause_s = FATAL_PAUSE_S if sender.delivered else min(2 * pause_s, FATAL_PAUSE_MAX_S)
                _pause(pause_s, agent)
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
        readings.close()
        if lock is not None and lock >= 0:
            os.close(lock)


def _pause(seconds: float, agent: Agent) -> None:
    """Waits, unless the agent is told to stop."""
    until = time.monotonic() + seconds
    while not agent.stopping and time.monotonic() < until:
        time.sleep(min(0.05, seconds))


def keep(folder: Path, settings: Settings, begun: Callable[[Agent], None], stopped: Callable[[], bool]) -> int:
    """Runs agents on a folder until `stopped`, for ever idle if need be; while another one holds the folder, waits for its end."""
    settings = settings.model_copy(update={"agent_idle_timeout": float("inf")})
    code = 0
    while not stopped() and code == 0:
        code = serve(folder, settings, begun)
        time.sleep(KEEP_S)
    return code


def allow_files() -> None:
    """Allows this process as many open files as it may have, within reason: a journal takes a few, and the usual 1,024 are those of some two hundred ranks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, _FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


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
    allow_files()
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
