"""Who this process is among the ranks of a job, by the environment that launchers set. Pure.

torchrun, Slurm, MPI (OpenMPI, MPICH and Intel's, MVAPICH, PALS), Ray and plain variables are known. Ranks share a run through `RUNSTREAM_RUN_ID`, or through a launcher's id
that is truly unique; where there is none, a job of several processes is told to set it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runstream._ray import RayPlace
from runstream_schemas.ids import named_uuid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Slurm last: under mpirun its variables tell of the step that started mpirun's own daemons. In a batch script without srun they tell of no rank at all.
_RANK = ("RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK", "PALS_RANKID", "PMIX_RANK", "PMI_RANK")
_LOCAL_RANK = ("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_RANK", "PALS_LOCAL_RANKID", "MPI_LOCALRANKID")
_WORLD_SIZE = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "PMI_SIZE")
_MPI_LOCAL_SIZE = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")
_SLURM = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS")
# Slurm's numbers of steps that are no tasks of srun: the batch script, an interactive shell, and so on. Several trainings may run in one of them, one after the other.
_STEPS_SPECIAL = 0xFFFF_FFF0


@dataclass(frozen=True, slots=True)
class Launch:
    """A process's place in its job. `run_id` is empty where the launcher gives no safe one; `attempt` is empty where it counts no restarts."""

    rank: int
    local_rank: int
    world_size: int
    node: str
    run_id: str
    attempt: str

    @property
    def needs_run_id(self) -> bool:
        """Whether ranks of this job have no way to meet in one run."""
        return self.world_size > 1 and not self.run_id


def _no_ray() -> RayPlace | None:
    return None


def launch_of(environ: Mapping[str, str], host: str, launcher: Callable[[], str], ray: Callable[[], RayPlace | None] = _no_ray) -> Launch:
    """The place of a process with this environment.

    Args:
        environ: its environment.
        host: the name of its machine.
        launcher: gives a text that names the start of the process that launched this one, the same for all that it launched on this machine.
        ray: gives its place in Ray.
    """
    worker = ray()
    node = environ.get("SLURMD_NODENAME") or host
    if worker is not None and worker.training:
        # Before all else: its environment tells of the raylet that started it, which may be a task of Slurm's.
        return Launch(worker.rank, worker.local_rank, worker.world_size, node, named_uuid("ray", worker.job, worker.training), worker.attempt)
    by_srun = _step(environ) != ""
    rank_name, local_name, size_name = ((name,) if by_srun else () for name in _SLURM)
    rank = _number(environ, (*_RANK, *rank_name), 0)
    world_size = _number(environ, (*_WORLD_SIZE, *size_name), 1)
    run_id, attempt = _job(environ, host, launcher, "" if worker is None else worker.job, world_size)
    return Launch(rank, _number(environ, (*_LOCAL_RANK, *local_name), 0), world_size, node, run_id, attempt)


def _step(environ: Mapping[str, str]) -> str:
    """The number of the step that srun started, empty outside of one."""
    step = environ.get("SLURM_STEP_ID") or environ.get("SLURM_STEPID", "")
    return step if step.isdecimal() and int(step) < _STEPS_SPECIAL else ""


def _number(environ: Mapping[str, str], names: tuple[str, ...], default: int) -> int:
    for name in names:
        text = environ.get(name, "")
        if text.isdecimal():
            return int(text)
    return default


def _job(environ: Mapping[str, str], host: str, launcher: Callable[[], str], ray_job: str, world_size: int) -> tuple[str, str]:
    """Run id and attempt key by the launcher; empty where it gives none that is safe."""
    elastic = environ.get("TORCHELASTIC_RUN_ID")
    if elastic is not None:
        restart = environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        if elastic not in ("", "none"):
            return named_uuid("torchrun", elastic), f"torchrun-{elastic}-{restart}"
        # "none" is torchrun's default: every plain job would be one run. On one node the launcher's start tells them apart; on several it does not agree,
        # and only a Slurm step that holds them all does.
        if environ.get("LOCAL_WORLD_SIZE") == str(world_size):
            unique = f"{_torchrun_launch(environ)}:{host}:{launcher()}"
            return named_uuid("torchrun", unique), f"torchrun-{launcher()}-{restart}"
    job, step = environ.get("SLURM_JOB_ID"), _step(environ)
    if job and (step or world_size > 1):
        task = environ.get("SLURM_ARRAY_TASK_ID", "")
        array = environ.get("SLURM_ARRAY_JOB_ID") or job
        # Ranks that another launcher started in a batch script have no step in common, but the address at which they meet.
        meeting = () if step else (environ.get("MASTER_ADDR", ""), environ.get("MASTER_PORT", ""))
        unique = (environ.get("SLURM_CLUSTER_NAME", ""), array if task else job, step, task, *meeting)
        restarts = (environ.get("SLURM_RESTART_COUNT") or "0", environ.get("TORCHELASTIC_RESTART_COUNT") or "0")
        return named_uuid("slurm", *unique), f"slurm-{job}-{'-'.join(restarts)}"
    if world_size > 1 and environ.get("MASTER_PORT") and ray_job:
        # A job may hold many trainings, one after the other or at once: the workers of one have the address in common at which they meet.
        return named_uuid("ray", ray_job, environ.get("MASTER_ADDR", ""), environ["MASTER_PORT"]), ""
    if world_size > 1 and _number(environ, _MPI_LOCAL_SIZE, 0) == world_size:
        return named_uuid("mpi", host, launcher()), ""  # All on this node. On several, an mpirun names itself by a process id, which comes again.
    return "", ""


def _torchrun_launch(environ: Mapping[str, str]) -> str:
    """Tells the launches of one process apart that have no id. Each has a new folder for its ranks' errors, with one below it for each restart; the address at which
    ranks meet may change with a restart, and says it only where there is no such folder.
    """
    folder, attempt, _ = environ.get("TORCHELASTIC_ERROR_FILE", "").rpartition("/attempt_")
    return folder if attempt else f"{environ.get('MASTER_ADDR', '')}:{environ.get('MASTER_PORT', '')}"
