"""Lives through seeds, one after the other, on a stage that serves several: starts a job, lets its plan befall it, waits until all is settled, judges.

A failed seed leaves its logs where `keep` says, and the next one begins on a new stage.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from clickhouse_connect.driver.exceptions import Error as ClickHouseError

from runstream_local.errors import LocalError
from runstream_local.logs import log_tail
from tests.clock import Clock
from tests.faults.blows import Blows
from tests.faults.job import Job, RankFailed
from tests.faults.oracle import SETTLE_S, Findings, arrived, judge, settle
from tests.faults.schedule import CLOCKS, KINDS, Blow, Kind, Plan
from tests.faults.stage import Stage

# Seeds for each stage. More save starts; fewer keep the parts of ClickHouse's tables few, which nothing merges here.
PER_STAGE = 10
_SMALL_DISK = "24m"


@dataclass(frozen=True, slots=True)
class Lived:
    """A seed that was lived through: its plan, what was seen to happen to it, what was found, how long it took; where it failed what the parts of the stack said last.

    Attributes:
        done: the blows that were seen to happen, by kind.
        points: how often a part died at each named point, such as `agent answered`.
        missed: the blows that were not seen to happen.
        kills: processes that were ended hard.
        own_ends: how often a worker ended by itself.
    """

    plan: Plan
    done: Counter[str]
    points: Counter[str]
    missed: tuple[Blow, ...]
    kills: int
    findings: Findings
    took_s: float
    said: str = ""
    own_ends: int = 0

    @property
    def held(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings.troubles

    def report(self) -> str:
        """What a person needs to know of it; of a failure everything, with how to repeat it."""
        found = self.findings
        head = (
            f"seed {self.plan.seed}: {'held' if self.held else 'FAILED'} in {self.took_s:.0f} s, {self.plan.ranks} ranks, {found.points_logged} points, "
            f"{self.kills} kills, {self.own_ends} own ends of workers, {found.repeats} repeats, {found.alerts_expected} alerts, {found.dropped} dropped: "
            f"{', '.join(map(str, self.plan.blows))}"
        )
        head += f"; NOT SEEN: {', '.join(map(str, self.missed))}" if self.missed else ""
        if self.held:
            return head
        repeat = f"repeat with: .venv/bin/python -m benchmarks faults --seeds 1 --first-seed {self.plan.seed}"
        return "\n".join([head, *(f"  {one}" for one in found.troubles), self.said, f"  {repeat}"])


def able() -> tuple[tuple[Kind, ...], tuple[str, ...]]:
    """The kinds of blows that this machine can take, and a sentence for each that it cannot."""
    missing: dict[Kind, str] = {}
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        missing["clock"] = "no clock jumps: no C compiler is here to make a clock that can be set"
    with tempfile.TemporaryDirectory() as name:
        if not _mount(Path(name)):
            missing["disk full"] = "no full disks: this user may not mount a small file system"
        else:
            _unmount(Path(name))
    return tuple(kind for kind in KINDS if kind not in missing), tuple(missing.values())


def live(plans: Iterable[Plan], folder: Path, *, keep: Path | None = None, per_stage: int = PER_STAGE) -> Iterator[Lived]:
    """Lives through plans and yields what became of each as soon as it is known.

    Args:
        plans: what to live through.
        folder: where stacks, journals and ledgers are meanwhile; on a disk, as journals are.
        keep: where logs of failed seeds go; nowhere if None.
        per_stage: how many seeds one stack serves.
    """
    clock = Clock(folder) if any(map(shutil.which, ("cc", "gcc", "clang"))) else None
    with contextlib.ExitStack() as left:
        stage: Stage | None = None
        served = 0
        for plan in plans:
            if stage is None or served == per_stage:
                left.close()
                place = Path(left.enter_context(tempfile.TemporaryDirectory(prefix="stage-", dir=folder, ignore_cleanup_errors=True)))
                stage, served = left.enter_context(Stage(place, clocks=clock is not None)), 0
            lived = _live_one(stage, plan, stage.folder / f"seed-{served}", clock)
            served += 1
            if not lived.held:
                if keep is not None:
                    _keep(stage, stage.folder / f"seed-{served - 1}", keep / f"seed-{plan.seed}")
                stage = None
            yield lived


def _live_one(stage: Stage, plan: Plan, folder: Path, clock: Clock | None) -> Lived:
    began = time.monotonic()
    folder.mkdir()
    findings, blows = Findings(), None
    letters, own_ends = len(stage.letters), stage.own_ends()
    has_clock = clock is not None and plan.needs("clock", CLOCKS[:1])
    if clock is not None:
        clock.set(0)
        stage.set_clocks_right()
    with _disk(folder / "disk", small=plan.needs("disk full")) as disk:
        try:
            environ = clock.environ if clock is not None and has_clock else {}
            trapped = plan.needs("die", ("rank", "agent"))
            with Job(folder, stage.environment, ranks=plan.ranks, rate=plan.rate, journals=disk / "journals", environ_of_ranks=environ, trapped=trapped) as job:
                if plan.warm:
                    arrived(stage.answers, job)
                blows = Blows(stage, job, plan, clock)
                blows.live_through()
                stage.stack.wait_healthy(90)
                job.stop()
                trouble = settle(stage.answers, job)
                findings = judge(stage, job, limit_s=2.0 if trouble else SETTLE_S)
                if trouble:
                    findings.troubles += [trouble, f"the agents said: {job.said()}"]
                codes = [one.process.returncode for one in job.ranks if not one.was_killed]
                if any(codes):
                    findings.troubles.append(f"ranks ended with {codes}")
        except (RankFailed, LocalError, ClickHouseError, OSError) as error:
            findings.troubles.append(f"{type(error).__name__}: {error}")
    findings.poison = len(stage.letters) - letters
    said = "\n".join(f"  {path.name}: {log_tail(stage.stack.data, path.stem)}" for path in sorted(stage.folder.glob("stack/logs/*.log")))
    if blows is None:
        return Lived(plan, Counter(), Counter(), plan.blows, 0, findings, time.monotonic() - began, said)
    own_ends = stage.own_ends() - own_ends
    took_s = time.monotonic() - began
    return Lived(plan, blows.done, blows.points, tuple(blows.missed), blows.kills, findings, took_s, said if findings.troubles else "", own_ends)


@contextlib.contextmanager
def _disk(folder: Path, *, small: bool) -> Generator[Path]:
    """A folder for journals, of a file system of its own where it must be small."""
    folder.mkdir()
    if not small:
        yield folder
        return
    if not _mount(folder):
        raise OSError(f"{folder} cannot be mounted; `able` should have said so")
    try:
        yield folder
    finally:
        _unmount(folder)


def _mount(folder: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={_SMALL_DISK},mode=700", "tmpfs", str(folder)]
    return os.geteuid() == 0 and subprocess.run(command, check=False, capture_output=True).returncode == 0


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _keep(stage: Stage, seed: Path, where: Path) -> None:
    """Copies what stack and ranks said."""
    where.mkdir(parents=True, exist_ok=True)
    for path in (*stage.folder.glob("stack/logs/*.log"), *stage.folder.glob("*.log"), *seed.glob("*.log")):
        shutil.copy(path, where / path.name)
    for number, path in enumerate(seed.glob("disk/journals/*/agent.log")):
        shutil.copy(path, where / f"agent-{number}.log")
