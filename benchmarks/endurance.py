"""Memory over a long run: the simulated fleet of `fleet`, a million series, held for a quarter of an hour to a rate at which the cores of this machine find time to rest.

Where `fleet` asks how fast all of it goes, this asks what time leaves behind: after the first quarter every part has met every series, and what grows from then on grows with time.
Figures are those of `fleet`, and `growth_…`: memory over the last quarter of the time in which ranks log over that of the second. `--seconds` above 900 makes it longer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import fleet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.figures import Figure

_POINTS_S = 200_000
_LASTS_S = 900.0


def run(seconds: float) -> Iterator[Figure]:
    """Rate, account and memory."""
    yield from fleet.measure(round(_POINTS_S * max(_LASTS_S, seconds)), _POINTS_S)
