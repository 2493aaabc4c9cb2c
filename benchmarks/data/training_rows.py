"""Rows as the ranks of a training log them: readings that never repeat, prepared before anything is timed.

A column is one series of `metric_mix`, of the four kinds that training itself logs: loss, gradient norm and tokens a second are float32 noise around a curve, the learning rate is a
smooth schedule. Hardware readings, which pack far better, are not among them: agents log those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.data.metric_mix import KINDS, series

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TRAINING = KINDS[:4]
_LOW = "grad_norm"  # Far below the bound of any rule of ours.


def rows(names: int, calls: int, rank: int, low: int) -> NDArray[np.float64]:
    """Values of so many calls, float64[calls, names]; the same arguments give the same. The first `low` columns stay below 50."""
    out = np.empty((calls, names))
    for name in range(names):
        out[:, name] = series(_LOW if name < low else _TRAINING[name % len(_TRAINING)], calls, rank * names + name)[2]
    return out
