"""torch itself: what its tensors are as values, and what torch.compile makes of a log call."""

from __future__ import annotations

import base64
import math

import numpy as np
import pytest

from tests.frameworks.cases import Case
from tests.frameworks.started import needs, run_cases

pytestmark = [needs("torch"), pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """What became of the cases of the script; no warning of Python's came of it."""
    return run_cases("torch_cases", tmp_path_factory.mktemp("torch"), options=("-W", "error"))


def test_every_dtype_that_holds_a_number(cases: dict[str, Case]) -> None:
    """Floats of 8 to 64 bits, signed and unsigned integers and bools are the numbers that they hold, NaN, infinities and the largest integers included."""
    case = cases["dtypes"]
    assert (case.error, case.told, case.dropped) == ("", [], {})
    first, second, third = (values for _, _, values in case.rows)
    assert {name: value for name, value in first.items() if value != 1.5} == {name: 1.0 for name in first if "int" in name}
    assert len(first) == 16
    assert math.isnan(second.pop("nan"))
    assert second == {"bool": 1.0, "big": 2.0**53 - 1, "inf": -math.inf}
    assert third == {"last-of-uint64": 2.0**64, "e8m0": 4.0}


def test_one_element_is_a_number_whatever_it_is_stored_in(cases: dict[str, Case]) -> None:
    """Any number of axes, parameters, subclasses, sparse, strided, expanded and conjugated tensors."""
    case = cases["shapes"]
    assert (case.error, case.told, case.dropped) == ("", [], {})
    values = {name: value for _, _, row in case.rows for name, value in row.items()}
    assert len(values) == 10
    assert set(values.values()) == {2.5}


def test_gradients_are_no_hindrance(cases: dict[str, Case]) -> None:
    """Tensors with a graph, leaves, inference mode, autocast, and tensors within torch.func.grad are read without a warning."""
    case = cases["modes"]
    assert (case.error, case.told, case.dropped) == ("", [], {})
    values = {name: value for _, _, row in case.rows for name, value in row.items()}
    assert values == {"grad": 2.5, "leaf": 1.25, "inference": 1.25 * 2, "autocast": 2.0, "inside-grad": 1.25, "gradient": 2.5}


def test_the_value_is_that_of_the_call(cases: dict[str, Case]) -> None:
    """A tensor that is changed in its place afterwards is logged as it was."""
    assert cases["in-place"].series("loss") == [1.0, 2.0, 3.0]
    assert cases["in-place"].series("twice") == [2.0, 4.0, 6.0]


def test_nested_rows_steps_and_times(cases: dict[str, Case]) -> None:
    """Dictionaries of any kind flatten, and steps and times may be tensors."""
    case = cases["nested"]
    assert (case.error, case.told, case.dropped) == ("", [], {})
    assert case.rows == [
        (7, "training", {"train/loss": 0.5, "train/layers/0/norm": 1.5, "train/layers/1/norm": 2.5, "lr": 0.1}),
        (8, "", {"lr": 0.2}),
    ]


def test_the_host_s_tensors_are_read_in_the_call(cases: dict[str, Case]) -> None:
    """No thread is started for tensors of the CPU."""
    assert cases["threads"].series("loss") == [float(step) for step in range(20)]
    assert "runstream-device" not in cases["threads"].notes["threads"]


def test_a_call_keeps_nothing_of_a_tensor(cases: dict[str, Case]) -> None:
    """A loss and its graph are freed with the training's own reference, also where the call refused another value."""
    assert cases["kept"].error == ""
    assert cases["kept"].notes["gone"]


def test_tensors_as_params(cases: dict[str, Case]) -> None:
    """Tensors of one element are params of the type of what they hold."""
    assert (cases["params"].error, cases["params"].told) == ("", [])
    assert cases["params"].params == {"lr": "float 0.5", "layers": "int 3", "flag": "bool true", "betas": "list [0.5]"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("complex", "a Tensor that holds a complex"),
        ("none", "Tensor of shape (0,)"),
        ("meta", "meta tensors"),
        ("uninitialized", "UninitializedParameter"),
        ("jagged", "NestedTensor of shape (1, j1)"),
        ("fake", "a FakeTensor"),
        ("vmap", "vmap"),
    ],
)
def test_what_is_no_number_is_refused_for_its_name(cases: dict[str, Case], name: str, reason: str) -> None:
    """Tensors of no element, complex ones, and those that stand for values are refused with one warning that says what they are; the rest of each row is kept."""
    case = cases[f"refused-{name}"]
    assert case.error == ""
    assert case.rows == [(0, "", {"good": 1.0}), (1, "", {"good": 2.0})]
    assert case.dropped == {"bad_value": 2}
    [told] = case.told
    assert reason in told
    assert "'bad'" in told


def test_vmap_goes_on(cases: dict[str, Case]) -> None:
    """A log call inside of vmap does not disturb it."""
    assert cases["vmap-goes-on"].notes["out"] == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("name", ["compiled", "compiled-module", "compiled-records"])
def test_a_compiled_step_logs_every_time(cases: dict[str, Case], name: str) -> None:
    """Under torch.compile each call is logged with that call's values, and what the step returns is the same."""
    case = cases[name]
    assert (case.error, case.told, case.dropped) == ("", [], {})
    loss = case.notes["expected"]
    assert case.notes["out"] == pytest.approx([3 * loss] * 4)
    assert [step for step, _, _ in case.rows] == [0, 1, 2, 3]
    assert case.series("loss") == pytest.approx([loss] * 4)


@pytest.mark.parametrize("name", ["compiled", "compiled-module", "compiled-records"])
def test_dynamo_keeps_out_of_our_code(cases: dict[str, Case], name: str) -> None:
    """torch.compile breaks its graph at our calls alone and compiles what is around them: none of our own frames, of which it used to compile dozens with a lock held in between."""
    notes = cases[name].notes
    assert all("runstream logs as plain Python" in reason for reason in notes["reasons"])
    assert notes["frames"] <= 8


def test_a_whole_graph_is_told_why_it_is_none(cases: dict[str, Case]) -> None:
    """With fullgraph=True torch raises, as for any call of plain Python, and names us as the reason."""
    assert cases["compiled-fullgraph"].error.startswith("Unsupported")
    assert "runstream logs as plain Python" in cases["compiled-fullgraph"].error


def test_cuda_is_read_by_another_thread(cases: dict[str, Case]) -> None:
    """Tensors on a GPU are logged as they were in the call, with its step, while training changes them."""
    case = cases["cuda"]
    if not case.notes["available"]:
        pytest.skip("torch finds no CUDA device on this machine")
    assert case.error == ""
    assert "runstream-device" in case.notes["threads"]
    rows = {step: values for step, _, values in case.rows}
    assert rows == {step: {"loss": step + 0.5, "host": float(step)} for step in range(100)} | {100: {"good": 1.0}}


def test_several_elements_are_kept_with_their_type(cases: dict[str, Case]) -> None:
    """A tensor of several elements is a value of its own, with its type, shape and elements, beside the numbers of the call."""
    case = cases["refused-two"]
    assert (case.error, case.told, case.dropped) == ("", [], {})
    [(dtype, shape, data)] = case.tensors.values()
    assert (dtype, shape) == ("<f4", [2])
    assert np.frombuffer(base64.b64decode(data), dtype="<f4").tolist() == [1.0, 1.0]
