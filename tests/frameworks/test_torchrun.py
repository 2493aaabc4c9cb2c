"""torchrun itself: which ranks meet in which run, what a restart is, and distributed training that logs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from runstream_schemas.ids import named_uuid
from tests.frameworks.started import Journal, environment, journals, needs, run

pytestmark = [needs("torch"), pytest.mark.timeout(300)]


def torchrun(folder: Path, what: str, *options: str, **environ: str) -> list[Journal]:
    """The journals of two ranks that torchrun starts, and maybe starts again."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *options, "-m", "tests.frameworks.torchrun_rank", what]
    done = run(command, environment(folder, **environ))
    assert done.code == 0, done.err[-4000:]
    found = journals(folder)
    assert {one.identity.world_size for one in found} == {2}
    assert {one.identity.rank for one in found} == {one.identity.local_rank for one in found} == {0, 1}
    return found


def run_ids(found: list[Journal]) -> set[str]:
    """The runs that journals belong to."""
    return {one.identity.run_id for one in found}


def attempts(found: list[Journal]) -> dict[int, set[str]]:
    """The attempts of ranks, by how often torchrun had started them before; a rank that was ended with another may not have come to its first row."""
    out: dict[int, set[str]] = {}
    for one in (one for one in found if one.rows):
        out.setdefault(int(one.rows[0][2]["restarts"]), set()).add(one.identity.attempt)
    return out


def test_plain_torchrun_twice_is_two_runs(tmp_path: Path) -> None:
    """Without any id, the ranks of one torchrun meet in one run, and those of another in another."""
    one, other = (torchrun(tmp_path / name, "log", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0") for name in ("one", "other"))
    for found in (one, other):
        assert [journal.identity.rank for journal in found] == [0, 1]
        assert len(run_ids(found)) == 1
        assert len(attempts(found)[0]) == 1
        assert all(journal.end is not None and journal.end.state == "finished" for journal in found)
    assert run_ids(one) != run_ids(other)


@pytest.mark.parametrize(
    ("options", "environ"),
    [
        # With this variable ranks that are started again meet at another port.
        (("--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"), {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}),
        (("--standalone",), {}),
    ],
    ids=["another-port", "standalone"],
)
def test_a_restart_is_another_attempt_of_the_same_run(tmp_path: Path, options: tuple[str, ...], environ: dict[str, str]) -> None:
    """A rank dies, torchrun starts all of them again: the same run, another attempt of both; the one that died says how."""
    found = torchrun(tmp_path, "die", "--max-restarts", "1", *options, **environ)
    assert len(run_ids(found)) == 1
    by_restart = attempts(found)
    assert by_restart.keys() == {0, 1}
    assert len(by_restart[0]) == len(by_restart[1]) == 1
    assert by_restart[0] != by_restart[1]
    died = [one for one in found if one.identity.rank == 1 and one.rows and one.rows[0][2]["restarts"] == 0]
    assert [one.end.reason for one in died if one.end is not None] == ["exit code 3"]


def test_an_id_of_torchrun_is_the_run_s(tmp_path: Path) -> None:
    """With the same --rdzv-id two launches are the same run."""
    options = ("--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--rdzv-id", "job-1")
    one, again = (run_ids(torchrun(tmp_path / name, "log", *options)) for name in ("one", "again"))
    assert len(one) == 1
    assert one == again == {named_uuid("torchrun", "job-1")}


def test_distributed_training_logs(tmp_path: Path) -> None:
    """Ranks of DDP over gloo log their own loss and the reduced one beside a collective that is under way; of a tensor that is spread over ranks only a whole is a value."""
    found = torchrun(tmp_path, "train", "--standalone")
    assert len(run_ids(found)) == 1
    assert len(found) == 2
    own = [[values["loss"] for _, _, values in one.rows if "loss" in values] for one in found]
    means = [[values["mean"] for _, _, values in one.rows if "mean" in values] for one in found]
    assert len(own[0]) == len(own[1]) == 5
    assert own[0] != own[1]
    assert means[0] == means[1] == pytest.approx([(one + other) / 2 for one, other in zip(*own, strict=True)])
    assert own[0][4] < own[0][0]
    for one in found:
        assert one.rows[-1] == (100, "", {"replicated": 2.5, "summed": 6.0})
        assert one.end is not None
        assert (one.end.state, one.end.dropped) == ("finished", {"bad_value": 1})
