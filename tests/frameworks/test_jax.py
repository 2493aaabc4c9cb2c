"""jax itself: what its arrays are as values, computed or not, and what it says of those that it only traces."""

from __future__ import annotations

import base64
import math

import numpy as np
import pytest

from tests.frameworks.cases import Case
from tests.frameworks.started import needs, run_cases

pytestmark = [needs("jax"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """What became of the cases of the script; no warning of Python's came of it."""
    return run_cases("jax_cases", tmp_path_factory.mktemp("jax"), options=("-W", "error"))


def test_every_dtype_that_holds_a_number(cases: dict[str, Case]) -> None:
    """Floats of 4 to 64 bits, signed and unsigned integers of 2 to 64 bits and bools are the numbers that they hold."""
    case = cases["dtypes"]
    assert (case.error, case.told, case.dropped) == ("", [], {})
    first, second = (values for _, _, values in case.rows)
    assert len(first) == 20
    assert {name: value for name, value in first.items() if value != 1.5} == {name: 1.0 for name in first if "int" in name}
    assert math.isnan(second.pop("nan"))
    assert second == {"bool": 1.0, "inf": -math.inf, "e8m0": 4.0}


def test_one_element_is_a_number_wherever_it_lies(cases: dict[str, Case]) -> None:
    """Any number of axes, and arrays that two devices hold alike; a step may be an array, too."""
    for name in ("shapes", "sharded"):
        case = cases[name]
        assert (case.error, case.told, case.dropped) == ("", [], {})
        assert {value for _, _, row in case.rows for value in row.values()} == {2.5}
    assert sum(len(row) for _, _, row in cases["shapes"].rows) == 8
    assert cases["sharded"].notes["devices"] == 2
    assert [step for step, _, _ in cases["sharded"].rows] == [7]


def test_arrays_as_params(cases: dict[str, Case]) -> None:
    """Arrays of one element are params of the type of what they hold."""
    assert cases["params"].params == {"lr": "float 0.5", "layers": "int 3", "flag": "bool true"}


def test_what_is_not_computed_yet_is_not_waited_for(cases: dict[str, Case]) -> None:
    """Calls return while the arrays are being computed; their rows come with the steps of their calls."""
    case = cases["waiting"]
    assert (case.error, case.told, case.dropped) == ("", [], {})
    assert not case.notes["ready"][-1]
    assert "runstream-device" in case.notes["threads"]
    assert case.rows == [(step, "", {"loss": step + 0.25, "host": float(step)}) for step in range(4)]


def test_a_donated_array_is_refused(cases: dict[str, Case]) -> None:
    """An array that was given away has no value, and the warning says so; the rest of the row is kept."""
    case = cases["donated"]
    assert (case.error, case.dropped, case.notes["deleted"]) == ("", {"bad_value": 1}, True)
    assert case.values == {"kept": -1.0}
    [told] = case.told
    assert "'given'" in told
    assert "deleted" in told


def test_an_array_that_is_gone_before_it_was_read_is_refused(cases: dict[str, Case]) -> None:
    """It is refused by the thread that comes to read it; the rest of its row is kept."""
    case = cases["deleted"]
    assert (case.error, case.dropped) == ("", {"bad_value": 1})
    assert [values for _, _, values in case.rows] == [{"first": 0.25}, {"first": 1.25}, {"first": 2.25}, {"good": 1.0}]
    [told] = case.told
    assert "'last'" in told
    assert "deleted" in told


@pytest.mark.parametrize(("name", "out"), [("jit", [9.0]), ("grad-of-jit", [6.0]), ("vmap", [1.0] * 3), ("scan", [3.0])])
def test_a_tracer_is_refused_with_advice(cases: dict[str, Case], name: str, out: list[float]) -> None:
    """Where jax only traces there is no value: one warning says what to do, the rest of the call is kept once, and the function gives what it would have given."""
    case = cases[f"traced-{name}"]
    assert (case.error, case.dropped, case.notes["out"]) == ("", {"bad_value": 1}, out)
    assert case.values == {"good": 1.0}
    [told] = case.told
    assert "Tracer, which has no value while jax traces" in told
    assert "jax.debug.callback" in told


def test_a_tracer_that_has_a_value_is_logged(cases: dict[str, Case]) -> None:
    """Under jax.grad alone the value is there."""
    case = cases["traced-grad"]
    assert (case.error, case.told, case.notes["out"]) == ("", [], [6.0])
    assert case.values == {"bad": 3.0, "good": 1.0}


def test_a_traced_step_is_told(cases: dict[str, Case]) -> None:
    """A step without a value is told, and its row is kept under the step that comes next."""
    case = cases["traced-step"]
    assert (case.error, case.rows) == ("", [(0, "", {"good": 1.0})])
    [told] = case.told
    assert "step must be an integer" in told


def test_the_advice_works(cases: dict[str, Case]) -> None:
    """Through jax.debug.callback a jitted function logs what it computes."""
    case = cases["callback"]
    assert (case.error, case.told, case.rows, case.notes["out"]) == ("", [], [(5, "", {"loss": 8.0})], [12.0])


@pytest.mark.parametrize(("name", "reason"), [("key", "a PRNGKeyArray"), ("complex", "an ArrayImpl that holds a complex")])
def test_what_is_no_number_is_refused_for_its_name(cases: dict[str, Case], name: str, reason: str) -> None:
    """Random keys and complex numbers are refused with a word on what they are."""
    case = cases[name]
    assert (case.error, case.dropped, case.values) == ("", {"bad_value": 1}, {"good": 1.0})
    [told] = case.told
    assert reason in told


def test_several_elements_are_kept_with_their_type(cases: dict[str, Case]) -> None:
    """An array of several elements is a value of its own, with its type, shape and elements, beside the numbers of the call."""
    case = cases["two"]
    assert (case.error, case.told, case.dropped) == ("", [], {})
    [(dtype, shape, data)] = case.tensors.values()
    assert (dtype, shape) == ("<f8", [2])
    assert np.frombuffer(base64.b64decode(data), dtype="<f8").tolist() == [1.0, 1.0]
