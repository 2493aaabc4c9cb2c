"""The README's example runs as it stands there, and each of its SQL statements answers with rows about it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.answers import Answers
from tests.waiting import wait_for

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
STATEMENTS = re.findall(r"```sql\n(.*?)```", README, re.DOTALL)


def example() -> str:
    """The Python example of the README."""
    found = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(found) == 1
    return found[0]


@pytest.fixture(scope="module")
def done() -> list[str]:
    """Ids of the runs that this module's example made."""
    return []


@pytest.fixture
def run_id(done: list[str], environment: dict[str, str], answers: Answers, tmp_path: Path) -> str:
    """The run of the README's example, stored and accounted for."""
    if not done:
        script = tmp_path / "example.py"
        script.write_text(example(), encoding="utf-8")
        ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
        assert ran.returncode == 0, ran.stderr
        assert ran.stderr == ""
        made, points = ran.stdout.split()[:2]
        assert points == "202"
        assert "all shipped" in ran.stdout
        wait_for(
            lambda: answers.rows("SELECT balanced FROM account WHERE run_id = {run:UUID} AND kind = 'rank'", run=made) == [{"balanced": True}],
            30,
            "the example's account to balance",
        )
        wait_for(lambda: answers.count("events", made) == 1 and answers.count("runs", made) == 1, 30, "the example's event and run")
        done.append(made)
    return done[0]


def test_the_example_has_about_fifteen_lines() -> None:
    """An example that grew is no example."""
    assert len([line for line in example().splitlines() if line.strip()]) <= 16


def test_there_are_statements_to_run() -> None:
    """The pattern above finds what is in the README."""
    assert len(STATEMENTS) >= 4


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda text: " ".join(str(text).split())[:40])
def test_each_statement_of_the_readme_answers(statement: str, run_id: str, answers: Answers) -> None:
    """Each SQL statement runs; those that are not about alerts have rows, since the example fires none."""
    rows = answers.rows(statement)
    assert rows or "FROM alerts" in statement
