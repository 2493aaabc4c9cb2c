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
from dataclasses import dataclass, field
from pathlib import Path

from clickhouse_connect.driver.exceptions import Error as ClickHouseError

from runstream_local.errors import LocalError
from runstream_local.logs import log_tail
from tests.clock import Clock
from tests.faults.again import Kept, judge_again, judge_strangers, quiet
from tests.faults.again import keep as keep_account
from tests.faults.blows import Blows
from tests.faults.ends import own_ends, unexplained
from tests.faults.findings import Findings
from tests.faults.job import Job, RankFailed
from tests.faults.oracle import SETTLE_S, arrived, judge, settle
from tests.faults.schedule import CLOCKS, KINDS, WORKERS, Blow, Kind, Plan
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
        places: those of `done` by kind and part, such as `cut after request clickhouse`.
        own_ends: how often a worker ended by itself.
        kept: what the views said of its run when it was judged.
        later: whether this is what was found wrong of it at the end of its stage, when it had held before. Its figures are then those alone.
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
    places: Counter[str] = field(default_factory=Counter[str])
    kept: Kept | None = None
    later: bool = False

    @property
    def held(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings.troubles

    def report(self) -> str:
        """What a person needs to know of it; of a failure everything, with how to repeat it."""
        found = self.findings
        repeat = f"  repeat with: .venv/bin/python -m benchmarks faults --seeds {2 if self.later else 1} --first-seed {self.plan.seed}"
        if self.later:
            return "\n".join([f"seed {self.plan.seed}: FAILED at the end of its stage", *(f"  {one}" for one in found.troubles), self.said, repeat])
        head = (
            f"seed {self.plan.seed}: {'held' if self.held else 'FAILED'} in {self.took_s:.0f} s, {self.plan.ranks} ranks, {found.points_logged} points, "
            f"{self.kills} kills, {self.own_ends} own ends of workers, {found.repeats} repeats, {found.alerts_expected} alerts, {found.dropped} dropped: "
            f"{', '.join(map(str, self.plan.blows))}"
        )
        head += f"; NOT SEEN: {', '.join(map(str, self.missed))}" if self.missed else ""
        if self.held:
            return head
        return "\n".join([head, *(f"  {one}" for one in found.troubles), self.said, repeat])


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
    """Lives through plans and yields what became of each as soon as it is known; once more, as `later`, where at the end of its stage something of it is no longer as it was.

    Args:
        plans: what to live through.
        folder: where stacks, journals and ledgers are meanwhile; on a disk, as journals are.
        keep: where logs of failed seeds go; nowhere if None.
        per_stage: how many seeds one stack serves.
    """
    clock = Clock(folder) if any(map(shutil.which, ("cc", "gcc", "clang"))) else None
    with contextlib.ExitStack() as left:
        stage: Stage | None = None
        served: list[Lived] = []
        for plan in plans:
            if stage is None or len(served) == per_stage:
                if stage is not None:
                    yield from _ask_again(stage, served, keep)
                left.close()
                place = Path(left.enter_context(tempfile.TemporaryDirectory(prefix="stage-", dir=folder, ignore_cleanup_errors=True)))
                stage, served = left.enter_context(Stage(place, clocks=clock is not None)), []
            lived = _live_one(stage, plan, stage.folder / f"seed-{len(served)}", clock)
            served.append(lived)
            if not lived.held:
                if keep is not None:
                    _keep(stage, stage.folder / f"seed-{len(served) - 1}", keep / f"seed-{plan.seed}")
                stage = None
            yield lived
        if stage is not None:
            yield from _ask_again(stage, served, keep)


def _ask_again(stage: Stage, served: list[Lived], keep: Path | None) -> Iterator[Lived]:
    """Asks of all runs that a stage has served, which all held, whether they do still. What belongs to none of them is blamed on the last."""
    quiet()
    for number, one in enumerate(served):
        assert one.kept is not None
        findings = Findings()
        try:
            findings = judge_again(stage.answers, one.kept)
            if one is served[-1]:
                strange = judge_strangers(stage.answers, [each.kept.run_id for each in served if each.kept is not None])
                findings.invented += strange.invented
                findings.troubles += strange.troubles
        except (ClickHouseError, OSError) as error:
            findings.troubles.append(f"it could not be asked again: {type(error).__name__}: {error}")
        if findings.troubles:
            if keep is not None:
                _keep(stage, stage.folder / f"seed-{number}", keep / f"seed-{one.plan.seed}")
            yield Lived(one.plan, Counter(), Counter(), (), 0, findings, 0.0, _said(stage), later=True)


def _live_one(stage: Stage, plan: Plan, folder: Path, clock: Clock | None) -> Lived:
    began = time.monotonic()
    folder.mkdir()
    findings, blows, kept = Findings(), None, None
    letters = len(stage.letters)
    has_clock = clock is not None and plan.needs("clock", CLOCKS[:1])
    if clock is not None:
        clock.set(0)
        stage.set_clocks_right()
    log = {part: stage.said(part) for part in ("supervisor", *WORKERS)}
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
                findings = judge(stage, job, blows.full, limit_s=2.0 if trouble else SETTLE_S)
                if trouble:
                    findings.troubles += [trouble, f"the agents said: {job.said()}"]
                codes = [one.process.returncode for one in job.ranks if not one.was_killed]
                if any(codes):
                    findings.troubles.append(f"ranks ended with {codes}")
                kept = keep_account(stage.answers, job.run_id)
        except (RankFailed, LocalError, ClickHouseError, OSError) as error:
            findings.troubles.append(f"{type(error).__name__}: {error}")
    findings.poison = len(stage.letters) - letters
    since = {part: stage.said(part)[len(before) :] for part, before in log.items()}
    ends, strange = own_ends(since["supervisor"]), unexplained(plan, since["supervisor"], {part: since[part] for part in WORKERS})
    findings.own_ends_unexplained = findings.blame(
        strange.total(), f"workers ended by themselves, and nothing in the plan or their logs explains it: {dict(strange)}"
    )
    took_s, said = time.monotonic() - began, _said(stage) if findings.troubles else ""
    if blows is None:
        return Lived(plan, Counter(), Counter(), plan.blows, 0, findings, took_s, said, ends.total())
    return Lived(plan, blows.done, blows.points, tuple(blows.missed), blows.kills, findings, took_s, said, ends.total(), blows.places, kept)


def _said(stage: Stage) -> str:
    """What the parts of a stack said last."""
    return "\n".join(f"  {path.name}: {log_tail(stage.stack.data, path.stem)}" for path in sorted(stage.folder.glob("stack/logs/*.log")))


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
