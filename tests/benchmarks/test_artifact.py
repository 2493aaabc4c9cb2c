"""The benchmark of a large artifact, with a small one: every promise holds, through `upload_artifact` and `download`, with a SIGKILL in the middle."""

from __future__ import annotations

from benchmarks import artifact


def test_an_artifact_of_a_few_parts() -> None:
    """It survives the kill, is stored once when logged twice, comes back equal, and takes little memory."""
    figures = {one.name: one for one in artifact.measure(60_000_000)}
    assert {name: one.holds for name, one in figures.items() if one.bar is not None} == dict.fromkeys(
        ("peak_rss_mb", "stored_once", "survived_kill", "equal"), True
    )
