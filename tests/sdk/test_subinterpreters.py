"""Subinterpreters of one process: each that logs is a writer of its own, whether it may start threads and processes or not, and none disturbs another."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runstream_producers.journal import format as fmt
from tests.producers.cluster import Place, settle
from tests.sdk.conftest import Offline

MODULE = "_xxsubinterpreters"  # What Python 3.11 and 3.12 have; later ones name it otherwise and give it to users in another form.

pytestmark = pytest.mark.skipif(importlib.util.find_spec(MODULE) is None, reason=f"this Python has no {MODULE}")

SCRIPT = """
import sys
import _xxsubinterpreters as interpreters
import runstream

INSIDE = '''
import sys
sys.path[:] = {path!r}
import runstream
run = runstream.init("p", id="shared", name="inside")
for step in range(5):
    run.log({{"inside": float(step)}}, step=step)
{end}
'''

isolated, end = sys.argv[1] == "isolated", sys.argv[2]
run = runstream.init("p", id="shared")
for number in range(3):
    run.log({"outside": float(number)})
    one = interpreters.create(isolated=isolated)
    interpreters.run_string(one, INSIDE.format(path=sys.path, end=end))
    interpreters.destroy(one)
run.log({"outside": 3.0})
run.finish(0.5)
"""


def run_script(environ: dict[str, str], isolated: bool, end: str) -> str:
    """Runs the script, which must end well, and gives what it wrote to its errors."""
    arguments = ["isolated" if isolated else "sharing", end]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A place whose Kafka is not there; what agents were started are ended."""
    place = settle("127.0.0.1:9", tmp_path, monkeypatch)
    try:
        yield place
    finally:
        place.kill_agents()


@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "sharing"])
@pytest.mark.parametrize("end", ["run.finish(0)", ""], ids=["finished", "left-open"])
def test_each_subinterpreter_is_a_writer(offline: Offline, isolated: bool, end: str) -> None:
    """They join the run by its id as writers of their own and end well, also when they end without a word; the main interpreter's run goes on."""
    assert run_script(offline.place.environ, isolated, end) == ""
    folders = offline.folders()
    identities = [fmt.Identity.from_json((folder / "writer.json").read_text()) for folder in folders]
    assert len({one.writer for one in identities}) == len(identities) == 4
    assert len({one.pid for one in identities}) == len({one.run_id for one in identities}) == 1
    rows = sorted(tuple(sorted(name for row in offline.rows_at(folder) for name in row.values)) for folder in folders)
    assert rows == [("inside",) * 5] * 3 + [("outside",) * 4]
    assert {fmt.End.from_json((folder / "end.json").read_text()).state for folder in folders} == {"finished"}


@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "sharing"])
def test_an_agent_is_no_matter_of_subinterpreters(nowhere: Place, isolated: bool) -> None:
    """Online, too, they begin and end without taking the process with them, though an isolated one may start no thread to watch the agent, which it says."""
    said = run_script(nowhere.environ, isolated, "run.finish(0.1)")
    assert ("not watched" in said) == isolated
    assert len(list(nowhere.folder.glob("w-*"))) == 4
    nowhere.wait_for_agent()


def test_an_isolated_one_that_is_alone_says_that_it_starts_no_agent(nowhere: Place) -> None:
    """Where nobody else has started an agent, an isolated subinterpreter says that its rows stay where they are, and logs on."""
    script = SCRIPT.replace('run = runstream.init("p", id="shared")\nfor', "run = runstream.init('p', mode='disabled')\nfor")
    done = subprocess.run(
        [sys.executable, "-c", script, "isolated", "run.finish(0.1)"], env=nowhere.environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "the agent could not be started" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(list(nowhere.folder.glob("w-*"))) == 3
