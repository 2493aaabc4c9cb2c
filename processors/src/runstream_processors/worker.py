"""The worker process: settings in, rules and summaries out, until a signal.

It reads the rule and schema topics to their ends before it takes the first frame. When something cannot go on it ends with exit code 1 and is started again by its
supervisor; wrong settings end it with 2 and one sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from runstream_feed.connection import Connection, connection_of
from runstream_processors import knowledge as known
from runstream_processors import memory
from runstream_processors.admin import ensure_changelogs, partition_counts
from runstream_processors.errors import EngineFailed, NotReady
from runstream_processors.faust_options import Timing
from runstream_processors.faust_runner import FaustRunner, Source, changelog_of
from runstream_processors.fleet_engine import FleetEngine
from runstream_processors.follower import Follower
from runstream_processors.liveness_engine import LivenessEngine
from runstream_processors.pipeline import Stage
from runstream_processors.series_engine import SeriesEngine
from runstream_processors.watch import Watch
from runstream_rules import Policy
from runstream_rules.lives import Lives, Patience
from runstream_schemas.topics import TOPICS

if TYPE_CHECKING:
    from collections import Counter

    from runstream_processors.letters import Followed
    from runstream_schemas.settings import Settings
    from runstream_schemas.topics import Name

logger = logging.getLogger(__name__)

# The first three are split alike, so that one worker has all that is said of a writer.
OF_WRITERS: tuple[Name, ...] = ("metric", "hardware", "writer")
SOURCES: tuple[Name, ...] = (*OF_WRITERS, "digest")
TOPICS_WAIT_S = 60.0
STOP_TIMEOUT_S = 7.0  # Of the ten seconds in which a part must be gone after SIGTERM.
_LOOK_S = 0.1
_CHECK_S = 5.0
_RENEW_S = 1.0


def group_of(prefix: str) -> str:
    """The consumer group of the workers of one deployment."""
    return f"{prefix}.processor"


def run(settings: Settings, timing: Timing | None = None) -> int:
    """Works until SIGTERM or SIGINT (exit code 0) or until something fails (1). Raises SettingsError or NotReady before the start."""
    timing = timing or Timing()
    connection = connection_of(settings)
    prefix = settings.topic_prefix
    wanted: tuple[Name, ...] = (*SOURCES, *known.TOPICS, "alert", "summary", "dead-letter")
    names: dict[Name, str] = {name: TOPICS[name].full_name(prefix) for name in wanted}
    counts = partition_counts(connection, list(names.values()), TOPICS_WAIT_S)
    if len({counts[names[name]] for name in OF_WRITERS}) > 1:
        split = ", ".join(f"{names[name]} has {counts[names[name]]}" for name in OF_WRITERS)
        raise NotReady(f"metrics, hardware and writers must be split alike, so that one worker has all that is said of a writer, but {split} partitions")
    ensure_changelogs(connection, {changelog_of(group_of(prefix), name): counts[names[name]] for name in SOURCES}, TOPICS_WAIT_S)
    topics: dict[Name, tuple[str, int]] = {name: (topic, counts[topic]) for name, topic in names.items()}
    with tempfile.TemporaryDirectory(prefix="runstream-processor-") as scratch:
        return asyncio.run(_run(settings, timing, connection, topics, Path(scratch)))


async def _run(settings: Settings, timing: Timing, connection: Connection, topics: dict[Name, tuple[str, int]], scratch: Path) -> int:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    knowledge = known.Knowledge(settings.topic_prefix)

    def learn(name: Name, followed: Followed) -> None:
        knowledge.learn(name, followed, now_ms())

    follower = Follower(connection, {topics[name][0]: (topics[name][1], functools.partial(learn, name)) for name in known.TOPICS})
    sources, counts = _sources(settings, knowledge, topics)
    watch = Watch(settings, counts)
    runner = FaustRunner(connection, group_of(settings.topic_prefix), sources, timing, scratch)
    following = asyncio.create_task(follower.run())
    failure: BaseException | None = None
    try:
        failure = await _until_asked(asked, following, follower, runner, _Shown(watch, knowledge, settings.ready_file))
    except BaseException as error:
        failure = error
        raise
    finally:
        _leave_in_time(0 if failure is None else 1)
        await runner.stop(STOP_TIMEOUT_S)
        following.cancel()
        watch.close()
    if failure is None:
        logger.info("stopped")
        return 0
    logger.error("worker ends", extra={"reason": repr(failure)})
    return 1


class _Shown:
    """What is seen of the worker from outside: the page, the ready file, and a line in the log when it takes records."""

    def __init__(self, watch: Watch, knowledge: known.Knowledge, ready_file: Path | None) -> None:
        self._watch = watch
        self._knowledge = knowledge
        self._ready_file = ready_file
        self._renewed_s = 0.0
        self.ready = False

    def waits(self) -> None:
        self._watch.waits("the worker reads the rules before it takes records")

    def turn(self, runner: FaustRunner, *, started: bool) -> None:
        if not started:
            self._watch.waits("the worker joins its group and reads its state before it takes records")
            return
        self._watch.turn(runner, len(self._knowledge.book))
        ready = runner.ready
        if ready and not self.ready:
            self.ready = True
            logger.info("ready")
            if self._ready_file is not None:
                self._ready_file.write_text("ready\n", encoding="utf-8")
        if self.ready and self._ready_file is not None and time.monotonic() - self._renewed_s > _RENEW_S:
            self._renewed_s = time.monotonic()
            renew(self._ready_file)


async def _check(runner: FaustRunner) -> None:
    """What is done every few seconds."""
    await runner.check_progress()
    await asyncio.to_thread(memory.give_back)


async def _until_asked(asked: asyncio.Event, following: asyncio.Task[None], follower: Follower, runner: FaustRunner, shown: _Shown) -> BaseException | None:
    """Starts the runner and watches it; returns None when the process was asked to stop, else why it cannot go on."""
    while not (follower.caught_up.is_set() or asked.is_set() or following.done()):
        shown.waits()
        await asyncio.sleep(_LOOK_S)
    starting: asyncio.Task[None] | None = None
    checking: asyncio.Task[None] | None = None
    checked = 0.0
    while not asked.is_set():
        if following.done():
            return following.exception() or EngineFailed("the followed topics are no longer followed")
        if starting is None:
            starting = asyncio.create_task(runner.start())
        if starting.done() and (error := starting.exception()) is not None:
            return error
        if runner.failed.is_set():
            return runner.failure
        if starting.done() and runner.stopped:
            return EngineFailed("Faust stopped by itself")
        shown.turn(runner, started=starting.done())
        await asyncio.sleep(_LOOK_S)
        runner.pulse()
        if shown.ready and (checking is None or (checking.done() and time.monotonic() - checked > _CHECK_S)):
            checking, checked = asyncio.create_task(_check(runner)), time.monotonic()
    if starting is not None and not starting.done():
        starting.cancel()
    return None


def _sources(settings: Settings, knowledge: known.Knowledge, topics: dict[Name, tuple[str, int]]) -> tuple[list[Source], dict[str, Counter[str]]]:
    """What is read, and what is done with it; and what is counted there, by source."""
    prefix, wait_s = settings.topic_prefix, settings.rules_wait
    policy = Policy(late_ms=int(settings.alert_late_s * 1000))
    metric, hardware = (SeriesEngine(knowledge, policy, prefix, int(wait_s * 1000)) for _ in range(2))
    lives = Lives(Patience(crashed_ms=int(settings.crashed_after * 1000)))
    liveness = LivenessEngine(knowledge, lives, prefix, metric, hardware)
    fleet = FleetEngine(knowledge, policy, prefix)
    sources = [
        Source("metric", *topics["metric"], Stage(metric, knowledge, now_ms, wait_s)),
        Source("hardware", *topics["hardware"], Stage(hardware, knowledge, now_ms, wait_s)),
        Source("writer", *topics["writer"], Stage(liveness, knowledge, now_ms, wait_s)),
        Source("digest", *topics["digest"], Stage(fleet, knowledge, now_ms, wait_s)),
    ]
    counts = {"metric": metric.counts, "hardware": hardware.counts, "writer": liveness.counts, "digest": fleet.counts, "rule": knowledge.counts}
    return sources, counts


def renew(ready_file: Path) -> None:
    """Gives the ready file the time of now: a file that grows old tells the supervisor that the process hangs. Called from the loop that would hang."""
    with contextlib.suppress(FileNotFoundError):  # A supervisor takes it away before it starts the part anew.
        os.utime(ready_file)


def now_ms() -> int:
    """The processor's clock, epoch milliseconds."""
    return time.time_ns() // 1_000_000


def _leave_in_time(code: int) -> None:
    """Whatever hangs on the way out, the process is gone in time; nothing is lost by that, since nothing unfinished was acknowledged."""
    watchdog = threading.Timer(STOP_TIMEOUT_S + 1.0, os._exit, (code,))
    watchdog.daemon = True
    watchdog.start()
