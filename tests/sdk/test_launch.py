"""Who a process is among the ranks of a job, by the environment of each launcher."""

from __future__ import annotations

import itertools

import pytest

from runstream._launch import Launch, launch_of
from runstream._ray import RayPlace

TORCH = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "node0", "MASTER_PORT": "29500"}
SLURM = {
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "8",
    "SLURM_CLUSTER_NAME": "c",
    "SLURMD_NODENAME": "node7",
}
MPI = {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4"}


def launch(environ: dict[str, str], launcher: str = "4711@1.5") -> Launch:
    """The place of a process with this environment."""
    return launch_of(environ, "host", lambda: launcher)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, (0, 0, 1, "host", False, "", False)),
        ({"RANK": "", "WORLD_SIZE": "x", "LOCAL_RANK": "-1"}, (0, 0, 1, "host", False, "", False)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, (1, 0, 2, "host", False, "", True)),
        (TORCH | {"TORCHELASTIC_RUN_ID": "job-1", "TORCHELASTIC_RESTART_COUNT": "2"}, (3, 1, 4, "host", True, "torchrun-job-1-2", False)),
        (TORCH | {"TORCHELASTIC_RUN_ID": "none"}, (3, 1, 4, "host", True, "torchrun-4711@1.5-0", False)),
        (TORCH | {"TORCHELASTIC_RUN_ID": ""}, (3, 1, 4, "host", True, "torchrun-4711@1.5-0", False)),
        (TORCH | {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "16"}, (3, 1, 16, "host", False, "", True)),
        (TORCH | {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "16", **SLURM}, (3, 1, 16, "node7", True, "slurm-77-0-0", False)),
        (SLURM, (5, 1, 8, "node7", True, "slurm-77-0-0", False)),
        (SLURM | {"SLURM_RESTART_COUNT": "3"}, (5, 1, 8, "node7", True, "slurm-77-3-0", False)),
        # A batch script is no rank of the tasks that it may start with srun, nor is a shell in an allocation.
        ({**SLURM, "SLURM_STEP_ID": "", "SLURM_PROCID": "0"}, (0, 0, 1, "node7", False, "", False)),
        ({**SLURM, "SLURM_STEP_ID": str(0xFFFF_FFFA), "SLURM_PROCID": "0"}, (0, 0, 1, "node7", False, "", False)),
        (MPI, (2, 2, 4, "host", False, "", True)),
        (MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, (2, 2, 4, "host", True, "", False)),
        (MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, (2, 2, 4, "host", False, "", True)),
        ({"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1"}, (1, 1, 2, "host", False, "", True)),
        ({"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}, (1, 1, 2, "host", True, "", False)),
        ({"MV2_COMM_WORLD_RANK": "3", "MV2_COMM_WORLD_LOCAL_RANK": "1", "MV2_COMM_WORLD_SIZE": "4"}, (3, 1, 4, "host", False, "", True)),
        ({"PALS_RANKID": "3", "PALS_LOCAL_RANKID": "1", "PMI_SIZE": "4"}, (3, 1, 4, "host", False, "", True)),
        # Under mpirun, Slurm's numbers are those of mpirun's own daemon on the node.
        (MPI | SLURM | {"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, (2, 2, 4, "node7", True, "slurm-77-0-0", False)),
        ({**SLURM, "SLURM_STEP_ID": "", **TORCH}, (3, 1, 4, "node7", True, "slurm-77-0-0", False)),
    ],
)
def test_the_table_of_launchers(environ: dict[str, str], expected: tuple[int, int, int, str, bool, str, bool]) -> None:
    """Rank, local rank, world size, node, whether there is a safe run id, the attempt key, and whether ranks need to be told."""
    one = launch(environ)
    assert (one.rank, one.local_rank, one.world_size, one.node, bool(one.run_id), one.attempt, one.needs_run_id) == expected


def test_ranks_of_a_job_meet_and_others_do_not() -> None:
    """Ranks and restarts of one job share its run; other jobs, steps, array tasks, clusters and launches have others."""
    elastic = TORCH | {"TORCHELASTIC_RUN_ID": "job-1"}
    plain = TORCH | {"TORCHELASTIC_RUN_ID": "none"}
    batch = {**SLURM, "SLURM_STEP_ID": "", **TORCH}
    array = SLURM | {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3"}
    jobs: list[list[tuple[dict[str, str], str]]] = [
        [(elastic, "a"), (elastic | {"RANK": "0", "TORCHELASTIC_RESTART_COUNT": "4"}, "b")],
        [(elastic | {"TORCHELASTIC_RUN_ID": "job-2"}, "a")],
        [(plain, "a"), (plain | {"RANK": "1"}, "a"), (plain | {"TORCHELASTIC_RESTART_COUNT": "1"}, "a")],
        [(plain, "b")],
        [(plain | {"MASTER_PORT": "29501"}, "a")],
        [(SLURM, "a"), (SLURM | {"SLURM_PROCID": "0", "SLURMD_NODENAME": "node1"}, "b"), (SLURM | {"SLURM_RESTART_COUNT": "1"}, "a")],
        [(SLURM | {"SLURM_STEP_ID": "1"}, "a")],
        [(SLURM | {"SLURM_JOB_ID": "78"}, "a")],
        [(SLURM | {"SLURM_CLUSTER_NAME": "d"}, "a")],
        [(array, "a"), (array | {"SLURM_PROCID": "0"}, "a")],
        [(array | {"SLURM_ARRAY_TASK_ID": "4", "SLURM_JOB_ID": "79"}, "a")],
        [(batch, "a"), (batch | {"RANK": "0"}, "b")],
        [(batch | {"MASTER_PORT": "29501"}, "a")],
    ]
    ids = [{launch(environ, launcher).run_id for environ, launcher in job} for job in jobs]
    assert all(len(one) == 1 for one in ids)
    for one, other in itertools.combinations(ids, 2):
        assert not one & other
    assert "" not in set().union(*ids)


def test_a_restart_is_another_attempt() -> None:
    """Attempt keys tell the restarts of a job apart, and are the same on all its ranks."""
    requeued = SLURM | {"SLURM_RESTART_COUNT": "1"}
    assert launch(SLURM).attempt != launch(requeued).attempt == launch(requeued | {"SLURM_PROCID": "0"}).attempt


def test_workers_of_ray_meet_by_training() -> None:
    """Workers of one training in a job of Ray share a run; trainings of one job, other jobs and other sessions have others; where Ray does not say, ranks are told."""

    def ray(session: str, port: str, rank: str = "0") -> Launch:
        environ = {"RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "node0", "MASTER_PORT": port}
        return launch_of(environ, "host", lambda: "4711@1.5", lambda: RayPlace(session) if session else None)

    assert ray("s1/01", "7000").run_id == ray("s1/01", "7000", "1").run_id != ""
    assert len({ray("s1/01", "7000").run_id, ray("s1/01", "7001").run_id, ray("s2/01", "7000").run_id, ray("s1/02", "7000").run_id}) == 4
    assert ray("", "7000").needs_run_id


def test_workers_of_ray_train_are_what_it_says() -> None:
    """Ray Train's word on ranks, run and restart holds over an environment that tells of the raylet's own step of Slurm, or of the address of one start of its workers."""

    def worker(training: str, attempt: str, rank: int, environ: dict[str, str]) -> Launch:
        return launch_of(environ, "host", lambda: "4711@1.5", lambda: RayPlace("s1/01", training, attempt, rank, rank, 2))

    meeting = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "node0", "MASTER_PORT": "7000"}
    first, other = worker("t1", "a1", 0, SLURM), worker("t1", "a1", 1, meeting)
    assert (first.rank, first.world_size, first.node, other.rank, other.local_rank) == (0, 2, "node7", 1, 1)
    assert first.run_id == other.run_id != ""
    restarted = worker("t1", "a2", 1, meeting | {"MASTER_PORT": "7001"})
    assert restarted.run_id == first.run_id
    assert restarted.attempt != first.attempt == other.attempt
    assert worker("t2", "a1", 0, SLURM).run_id != first.run_id


def test_a_restart_under_plain_torchrun_may_meet_elsewhere() -> None:
    """Ranks that torchrun started again are of the same run though they meet at another port; another launch of the same process is another run."""
    plain = TORCH | {"TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_ERROR_FILE": "/tmp/elastic_a/none_x/attempt_0/1/error.json"}
    restarted = plain | {
        "MASTER_PORT": "29501",
        "TORCHELASTIC_RESTART_COUNT": "1",
        "TORCHELASTIC_ERROR_FILE": "/tmp/elastic_a/none_x/attempt_1/0/error.json",
    }
    assert launch(plain).run_id == launch(restarted).run_id
    assert launch(plain).attempt != launch(restarted).attempt
    assert launch(plain | {"TORCHELASTIC_ERROR_FILE": "/tmp/elastic_a/none_y/attempt_0/1/error.json"}).run_id != launch(plain).run_id


def test_two_containers_are_two() -> None:
    """In containers launchers have the same process ids and may start at the same moment: the machine's name tells them apart."""
    for environ in (TORCH | {"TORCHELASTIC_RUN_ID": "none"}, MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "4"}):
        one, other = (launch_of(environ, host, lambda: "7@1.5") for host in ("pod-a", "pod-b"))
        assert one.run_id != other.run_id


def test_two_runs_of_mpirun_are_two() -> None:
    """On one node the start of mpirun tells two of its jobs apart."""
    environ = MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "4"}
    assert launch(environ, "1@1").run_id == launch(environ | {"OMPI_COMM_WORLD_RANK": "0"}, "1@1").run_id != launch(environ, "1@2").run_id
