"""Ray itself: which runs its actors, its tasks and the workers of Ray Train belong to, and as what they end."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from runstream_schemas.ids import run_id_of
from tests.frameworks.started import Journal, environment, journals, needs, run_module

pytestmark = [needs("ray"), pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Job:
    """What a job of Ray left: which runs it said there were, and its journals."""

    ids: dict[str, list[str]]
    found: list[Journal]

    def named(self, name: str) -> list[Journal]:
        """The journals with rows of a name."""
        return [one for one in self.found if any(name in values for _, _, values in one.rows)]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job that has ended."""
    folder = tmp_path_factory.mktemp("ray")
    quiet = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
    run_module("ray_job", str(folder), environ=environment(folder, **quiet))
    return Job(json.loads((folder / "ids.json").read_text()), journals(folder))


def test_actors_join_a_run_by_its_id(job: Job) -> None:
    """Actors that are given RUNSTREAM_RUN_ID by their runtime environment are writers of one run."""
    assert set(job.ids["actors"]) == {run_id_of("frameworks", "all-actors")}
    actors = job.named("actor")
    assert len(actors) == len({one.identity.pid for one in actors}) == 2
    assert {one.identity.run_id for one in actors} == set(job.ids["actors"])
    assert {one.end.state for one in actors if one.end is not None} == {"finished"}


def test_tasks_that_are_sent_a_run_are_part_of_it(job: Job) -> None:
    """A run that goes with a task's arguments is, in the worker, another writer of the same run; a worker that comes to it again begins another."""
    assert set(job.ids["tasks"]) == set(job.ids["driver"])
    tasks = job.named("task")
    assert sorted(values["task"] for one in tasks for _, _, values in one.rows) == [0.0, 1.0, 2.0]
    assert {one.identity.run_id for one in tasks} == set(job.ids["driver"])
    assert all(one.end is not None and one.end.state == "finished" for one in tasks)
    assert job.ids["driver"] != job.ids["actors"][:1]


def test_workers_of_ray_train_are_ranks_of_one_run(job: Job) -> None:
    """Ranks are what Ray Train says they are; when it starts its workers again they are another attempt of the same run, and who failed says why."""
    trained = job.named("trained")
    assert len(trained) == 4
    assert len({one.identity.run_id for one in trained}) == 1
    assert {one.identity.run_id for one in trained}.isdisjoint(job.ids["driver"] + job.ids["actors"])
    for one in trained:
        assert [values for _, _, values in one.rows] == [{"trained": float(one.identity.rank)}]
        assert one.identity.world_size == 2
    attempts = {one.identity.attempt for one in trained}
    assert len(attempts) == 2
    assert all(sorted(one.identity.rank for one in trained if one.identity.attempt == attempt) == [0, 1] for attempt in attempts)
    ends = {(one.identity.rank, "" if one.end is None else one.end.reason) for one in trained}
    assert (1, "ValueError: once") in ends
