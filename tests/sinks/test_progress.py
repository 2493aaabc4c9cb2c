"""How far a long command is: a bar for a terminal, lines for a file, nothing for a script."""

from __future__ import annotations

import os
import signal

import pytest

from runstream_sinks import progress
from runstream_sinks.fill import Progress

HALF = Progress(records=500, records_all=1000, rows=40_000, seconds=2.0)


def test_lines_come_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Not at each turn of the loop."""
    with progress.shown("replay", quiet=False) as told:
        for _ in range(100):
            told(HALF)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "LINE_INTERVAL_S", 0.0)
    with progress.shown("replay", quiet=False) as told:
        told(HALF)
        told(Progress(records=7, records_all=0, rows=0, seconds=0.0))
    assert capsys.readouterr().err == "replay: 500 of 1,000 records, 40,000 rows, 20,000 a second\nreplay: 7 records, 0 rows, 0 a second\n"


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With records, rows and the rate; it is gone at the end."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with progress.shown("replay", quiet=False) as told:
        told(HALF)
    err = capsys.readouterr().err
    assert "500/1000" in err
    assert "40,000 rows" in err
    assert "\x1b[2K" in err


def test_a_script_sees_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Its answer is one object."""
    with progress.shown("replay", quiet=True) as told:
        told(HALF)
    out, err = capsys.readouterr()
    assert (out, err) == ("", "")


def test_signals_ask_and_end_nothing() -> None:
    """What was read is stored first; who asks twice does not wait for that. Afterwards they mean what they meant."""
    before = signal.getsignal(signal.SIGTERM)
    for number in (signal.SIGTERM, signal.SIGINT):
        with progress.until_asked() as asked:
            assert not asked()
            os.kill(os.getpid(), number)
            assert asked()
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
    assert signal.getsignal(signal.SIGTERM) is before
