"""tensorflow and keras themselves: what their tensors and variables are as values, and what tf.function makes of a log call."""

from __future__ import annotations

import base64
import math

import numpy as np
import pytest

from tests.frameworks.cases import Case
from tests.frameworks.started import needs, run_cases

pytestmark = [needs("tensorflow"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """What became of the cases of the script; no warning of Python's came of it."""
    return run_cases("tensorflow_cases", tmp_path_factory.mktemp("tensorflow"), options=("-W", "error"))


def test_every_dtype_that_holds_a_number(cases: dict[str, Case]) -> None:
    """Floats of 8 to 64 bits, signed and unsigned integers and bools are the numbers that they hold."""
    case = cases["dtypes"]
    assert (case.error, case.told, case.dropped) == ("", [], {})
    first, second, third = (values for _, _, values in case.rows)
    assert len(first) == 12
    assert {name: value for name, value in first.items() if value != 1.5} == {name: 1.0 for name in first if "int" in name}
    assert math.isnan(second.pop("nan"))
    assert second == {"bool": 1.0, "inf": -math.inf}
    assert third == {"float8_e4m3fn": 1.5, "float8_e5m2": 1.5}


def test_one_element_is_a_number_whatever_holds_it(cases: dict[str, Case]) -> None:
    """Any number of axes, variables of tensorflow and of keras; a text is none."""
    case = cases["shapes"]
    assert (case.error, case.dropped) == ("", {"bad_value": 1})
    values = {name: value for _, _, row in case.rows for name, value in row.items()}
    assert len(values) == 7
    assert set(values.values()) == {2.5}


def test_the_value_and_the_step_are_those_of_the_call(cases: dict[str, Case]) -> None:
    """Variables that change afterwards, as losses and as steps, are logged as they were."""
    assert (cases["in-place"].error, cases["in-place"].told) == ("", [])
    assert cases["in-place"].rows == [(10, "", {"loss": 1.0}), (11, "", {"loss": 2.0}), (12, "", {"loss": 3.0})]


def test_tensors_as_params(cases: dict[str, Case]) -> None:
    """Tensors and variables of one element are params of the type of what they hold."""
    assert cases["params"].params == {"lr": "float 0.5", "layers": "int 3", "flag": "bool true"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("complex", "an EagerTensor that holds a complex"),
        ("string", "an EagerTensor that holds a bytes"),
        ("ragged", "RaggedTensor of shape (1, None)"),
        ("sparse", "SparseTensor of shape (1,)"),
        ("keras-tensor", "a KerasTensor, which stands for values of a model that is being built"),
    ],
)
def test_what_is_no_number_is_refused_for_its_name(cases: dict[str, Case], name: str, reason: str) -> None:
    """Each is refused with a word on what it is, and the rest of the row is kept."""
    case = cases[f"refused-{name}"]
    assert (case.error, case.dropped, case.values) == ("", {"bad_value": 1}, {"good": 1.0})
    [told] = case.told
    assert reason in told


@pytest.mark.parametrize("name", ["plain", "xla", "module"])
def test_a_symbolic_tensor_is_refused_with_advice(cases: dict[str, Case], name: str) -> None:
    """Within tf.function there is no value: one warning says what to do, the rest of the call is kept once, and the function gives what it would have given."""
    case = cases[f"graph-{name}"]
    assert (case.error, case.dropped, case.values) == ("", {"bad_value": 1}, {"good": 1.0})
    assert case.notes["out"] == ([1.0] if name == "module" else [6.0, -3.0])
    [told] = case.told
    assert "SymbolicTensor, which has no value while tf.function traces" in told
    assert "tf.py_function" in told


@pytest.mark.parametrize("name", ["plain", "xla"])
def test_autograph_keeps_out_of_our_code(cases: dict[str, Case], name: str) -> None:
    """tf.function rewrites the function that it is given and calls ours as they are; it used to rewrite all of them down to the journal, in six seconds."""
    assert len(set(cases[f"graph-{name}"].notes["generated"])) == 1


def test_a_variable_in_a_graph_is_refused(cases: dict[str, Case]) -> None:
    """Within tf.function a variable has no value either, and the warning has tensorflow's own word for it."""
    case = cases["graph-variable"]
    assert (case.error, case.values, case.notes["out"]) == ("", {"good": 1.0}, [4.0])
    [told] = case.told
    assert "eager" in told


def test_the_advice_works(cases: dict[str, Case]) -> None:
    """Through tf.py_function a compiled function logs what it computes, at each call."""
    assert (cases["graph-py-function"].error, cases["graph-py-function"].told) == ("", [])
    assert cases["graph-py-function"].series("loss") == [1.0, 2.0]


def test_keras_trains(cases: dict[str, Case]) -> None:
    """A callback of keras logs each batch under the optimizer's count, and a metric's result is a value."""
    case = cases["fit"]
    assert (case.error, case.told, case.dropped) == ("", [], {})
    assert [step for step, _, _ in case.rows] == [1, 2, 3, 4, 100]
    assert [set(values) for _, _, values in case.rows[:4]] == [{"loss", "mae"}] * 4
    assert case.rows[4][2] == {"mean": 4.0}


def test_several_elements_are_kept_with_their_type(cases: dict[str, Case]) -> None:
    """A tensor of several elements is a value of its own, with its type, shape and elements, beside the numbers of the call."""
    case = cases["refused-two"]
    assert (case.error, case.told, case.dropped) == ("", [], {})
    [(dtype, shape, data)] = case.tensors.values()
    assert (dtype, shape) == ("<f4", [2])
    assert np.frombuffer(base64.b64decode(data), dtype="<f4").tolist() == [1.0, 2.0]
