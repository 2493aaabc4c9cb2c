"""Tensors as values: those at hand are read at once, those on a device by another thread, and neither makes training wait or a row disappear without a word."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import runstream
from runstream_producers.journal import format as fmt
from runstream_producers.journal import late
from runstream_producers.journal.devices import reader_of
from tests.producers.journals import bits
from tests.sdk.conftest import Offline


@dataclass
class Device:
    """A torch device by its looks."""

    type: str


@dataclass
class Tensor:
    """A tensor of torch by its looks. Reading it waits for `gate`, as for a device; a copy keeps the value that it was made with."""

    value: Any
    kind: str = "cuda"
    shape: tuple[int, ...] = ()
    gate: threading.Event = field(default_factory=threading.Event)
    reads: list[str] = field(default_factory=list[str])

    @property
    def device(self) -> Device:
        """Where it is."""
        return Device(self.kind)

    def detach(self) -> Tensor:
        """Without its graph."""
        return self

    def clone(self) -> Tensor:
        """A copy on the device."""
        return Tensor(self.value, self.kind, self.shape, self.gate, self.reads)

    def item(self) -> Any:
        """Its value, once the device has come to it."""
        self.reads.append(threading.current_thread().name)
        if self.kind != "cpu":
            assert self.gate.wait(20)
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


class EagerTensor:
    """A tensor of tensorflow by its looks."""

    def __init__(self, value: float, device: str) -> None:
        self.device = f"/job:localhost/replica:0/task:0/device:{device}:0"
        self.shape = ()
        self._value = value

    def numpy(self) -> Any:
        """Its value as numpy has it."""
        return np.float32(self._value)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the SDK warned of."""
    return [record.getMessage() for record in caplog.records if record.name == "runstream"]


def test_tensors_at_hand_are_read_at_once(offline: Offline, caplog: pytest.LogCaptureFixture) -> None:
    """One element on the CPU is a number however many axes it has; more are refused."""
    run = runstream.init("p")
    data = {"a": Tensor(0.5, "cpu"), "b": Tensor(1.5, "cpu", (1, 1)), "c": EagerTensor(2.5, "CPU"), "d": Tensor(1, "cpu", (2,)), "e": EagerTensor(3.5, "GPU")}
    run.log({name: data[name] for name in "abcd"}, step=1)
    [row] = offline.rows(run)
    assert row.values == {"a": bits(0.5), "b": bits(1.5), "c": bits(2.5)}
    assert len(warnings_of(caplog)) == 1
    run.log({"e": data["e"]}, step=2)
    run.finish(5)
    assert offline.rows(run)[1].values == {"e": bits(3.5)}


def test_a_device_is_waited_for_by_another_thread(offline: Offline) -> None:
    """log returns while the device works; the row comes with the step and time of its call, the value as it was then, and a seq of when it was written."""
    run = runstream.init("p")
    loss = Tensor(0.25)
    run.log({"before": 1.0})
    began = time.time()
    run.log({"train": {"loss": loss}, "lr": 0.1}, context="training")
    called = time.time()
    loss.value = 99.0  # Training goes on with the same tensor.
    run.log({"acc": 1.0}, context="training")
    assert called - began < 1.0
    assert [set(row.values) for row in offline.rows(run)] == [{"before"}, {"acc"}]
    loss.gate.set()
    done = run.finish(10)
    assert done.rows_left == 4
    before, acc, row = offline.rows(run)
    assert row.values == {"train/loss": bits(0.25), "lr": bits(0.1)}
    assert list(row.values) == ["train/loss", "lr"]
    assert (row.step, acc.step, row.context) == (0, 1, "training")
    assert (before.seq, acc.seq, row.seq) == (1, 2, 3)
    assert began <= row.time_s <= called
    assert set(loss.reads) == {"runstream-device"}


def test_rows_of_a_device_keep_their_order(offline: Offline) -> None:
    """Rows that wait for devices are written in the order of their calls, and none is lost."""
    run = runstream.init("p")
    gate = threading.Event()
    for step in range(500):
        run.log({"loss": Tensor(float(step), gate=gate), "x": step}, step=step)
    gate.set()
    run.finish(20)
    rows = offline.rows(run)
    assert [row.step for row in rows] == list(range(500))
    assert [row.values["loss"] for row in rows] == [bits(float(step)) for step in range(500)]
    assert (run.points_logged, run.points_dropped) == (1000, {})


def test_a_full_queue_drops_and_counts(offline: Offline, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound rows are dropped with one warning and keep their seqs; what is never read within the time of finish is counted, too."""
    monkeypatch.setattr(late, "ROWS_MAX", 10)
    run = runstream.init("p")
    gate = threading.Event()
    for step in range(15):
        run.log({"loss": Tensor(1.0, gate=gate), "x": 1.0}, step=step)
    assert dict(run.points_dropped) == {"device_queue_full": 10}
    began = time.monotonic()
    run.finish(0.5)
    assert time.monotonic() - began < 2
    assert dict(run.points_dropped) == {"device_queue_full": 10, "device_not_read": 20}
    end = fmt.End.from_json((offline.journal(run)[0] / "end.json").read_text())
    assert (end.next_seq, end.points, end.dropped) == (1 + 5 + 10, 0, {"device_queue_full": 10, "device_not_read": 20})
    assert len([one for one in warnings_of(caplog) if "device" in one]) == 1
    gate.set()


def test_what_a_device_refuses_is_told(offline: Offline, caplog: pytest.LogCaptureFixture) -> None:
    """A value that cannot be read is refused for its name, and the rest of its row is kept."""
    run = runstream.init("p")
    for bad in (Tensor(RuntimeError("deleted")), Tensor(1 + 2j), Tensor("text")):
        bad.gate.set()
        run.log({"loss": bad, "lr": 0.1})
    only = Tensor(RuntimeError("gone"))
    only.gate.set()
    run.log({"alone": only})
    run.finish(5)
    assert [row.values for row in offline.rows(run)] == [{"lr": bits(0.1)}] * 3
    assert dict(run.points_dropped) == {"bad_value": 4}
    assert [one for one in warnings_of(caplog) if "'loss'" in one and "device" in one]


def test_a_name_twice_is_refused_wherever_it_lives(offline: Offline) -> None:
    """Two values of one name are refused, on a device or not."""
    run = runstream.init("p")
    one = Tensor(1.0)
    one.gate.set()
    run.log({"a/b": one, "a": {"b": 2.0}, "c": 3.0})
    run.finish(5)
    [row] = offline.rows(run)
    assert row.values == {"c": bits(3.0)}


def test_a_tensor_that_becomes_a_number_again(offline: Offline) -> None:
    """The same names may hold floats at first and tensors later, and back."""
    run = runstream.init("p")
    for step in range(30):
        one = Tensor(float(step))
        one.gate.set()
        run.log({"a": one if step % 3 == 1 else float(step), "b": 1}, step=step)
    run.finish(10)
    assert {(row.step, row.values["a"]) for row in offline.rows(run)} == {(step, bits(float(step))) for step in range(30)}


def test_a_fork_leaves_waiting_rows_to_the_parent(offline: Offline) -> None:
    """A forked child neither writes nor waits for rows that its parent's device holds, and reads its own."""
    run = runstream.init("p")
    slow = Tensor(1.0)
    run.log({"parent": slow})
    child = os.fork()
    if child == 0:
        code = 1
        try:
            mine = Tensor(2.0)
            mine.gate.set()
            run.log({"child": mine})
            began = time.monotonic()
            run.finish(5)
            code = 0 if run.points_logged == 1 and time.monotonic() - began < 2 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    slow.gate.set()
    run.finish(5)
    [row] = offline.rows(run)
    assert row.values == {"parent": bits(1.0)}


def test_a_killed_process_loses_what_was_not_read(offline: Offline) -> None:
    """Rows of numbers whose calls returned survive; those that still wait for a device do not, and nothing else is lost with them."""
    run = runstream.init("p")
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        run.log({"loss": Tensor(1.0)})
        run.log({"plain": 1.0})
        os.write(write_end, b"x")
        time.sleep(20)
        os._exit(0)
    os.read(read_end, 1)
    os.kill(child, 9)
    os.waitpid(child, 0)
    os.close(read_end)
    os.close(write_end)
    journal = next(folder for folder in offline.folders() if fmt.Identity.from_json((folder / "writer.json").read_text()).pid == child)
    rows = offline.rows_at(journal)
    assert [set(row.values) for row in rows] == [{"plain"}]


def test_many_threads_log_tensors(offline: Offline) -> None:
    """Threads that log tensors and numbers at once lose none."""
    run = runstream.init("p")

    def work(thread: int) -> None:
        for step in range(50):
            one = Tensor(1.0)
            one.gate.set()
            run.log({f"t{thread}": one}, step=step)
            run.log({f"n{thread}": 1.0}, step=step)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.finish(10)
    rows = offline.rows(run)
    assert len(rows) == 400
    assert [row.seq for row in rows] == list(range(1, 401))


@pytest.mark.parametrize("value", [1.0, 3, True, None, "x", [1], np.float32(1), np.zeros(3), np.float64(2), object(), Tensor(1.0, "cpu")])
def test_what_is_at_hand_has_no_reader(value: Any) -> None:
    """Only values on a device are handed over."""
    assert reader_of(value) is None
