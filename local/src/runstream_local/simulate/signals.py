"""What the metrics of a simulated training look like: pure, and the same for the same seed.

Every rank has a loss that falls with noise on it, norms that follow it, a throughput, a step time, memory, and then names of layers until there are as many as were asked for. One rank is a
straggler for a while, one has a loss that is not a number once, and one node is lost in the middle: the job starts again from the last checkpoint, so that steps come twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RANKS_A_NODE = 8
NAMED = ("train/loss", "train/grad_norm", "train/learning_rate", "perf/step_time_s", "perf/tokens_s", "memory/allocated_gib", "data/wait_s")
_KINDS = ("grad_norm", "weight_norm", "update_norm", "activation_mean", "activation_std")
_NOISE_ROWS, _NOISE_ROWS_WIDE = 509, 61  # Primes, so that ranks and steps meet the rows in ever other order; fewer where a row is wide.
_WIDE = 10_000
_BACK_S = 60.0  # Until the job that has lost a node is back.
_CHECKPOINT_SHARE = 0.05  # Of all steps, between checkpoints.


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of the job: the step it begins at, the step at which it ends and why; `lost_node` is the node that is gone then, -1 where the job is done."""

    number: int
    first: int
    end: int
    lost_node: int


@dataclass(frozen=True, slots=True)
class Troubles:
    """What befalls a fleet, for those who look for it in what was stored; None where it does not happen to one so small.

    Attributes:
        nan: rank and step of the loss that is not a number.
        straggler: rank that is slow, the first step at which it is, and the first at which it no more is.
        lost: node that is lost, the step at which the job ends for it, and the step at which it starts again.
    """

    nan: tuple[int, int]
    straggler: tuple[int, int, int] | None
    lost: tuple[int, int, int] | None


class Fleet:
    """The signals of a fleet of `ranks`, each with `metrics` names, over `steps` steps of `step_s` seconds."""

    def __init__(self, ranks: int, metrics: int, steps: int, step_s: float, seed: int) -> None:
        if min(ranks, metrics, steps) < 1 or not step_s > 0:
            raise ValueError(f"expected at least one rank, metric and step and a step of more than 0 s, got {ranks}, {metrics}, {steps} and {step_s:g} s")
        self.ranks = ranks
        self.steps = steps
        self.step_s = step_s
        self.names = names_of(metrics)
        self._noise_rows = _NOISE_ROWS if metrics <= _WIDE else _NOISE_ROWS_WIDE
        random = np.random.default_rng(seed)
        self._noise: NDArray[np.float64] = random.normal(0.0, 1.0, (self._noise_rows, metrics)).astype(np.float32).astype(np.float64)
        self._scale: NDArray[np.float64] = random.lognormal(-1.0, 1.0, metrics)
        self._floor = random.uniform(1.6, 2.2)
        self._rank_speed: NDArray[np.float64] = random.normal(1.0, 0.01, ranks)
        self.straggler = int(random.integers(ranks))
        self._slow_from, self._slow_until = (int(share * steps) for share in (0.25, 0.35))
        self.nan_rank, self.nan_step = int(random.integers(ranks)), int(0.15 * steps)
        self._lost_at = int(random.uniform(0.45, 0.6) * steps)
        self._lost_node = int(random.integers(math.ceil(ranks / RANKS_A_NODE)))

    def attempts(self) -> list[Attempt]:
        """The starts of the job; a job of few steps, or of one node, is not interrupted."""
        every = max(1, int(_CHECKPOINT_SHARE * self.steps))
        if self.ranks <= RANKS_A_NODE or self._lost_at < every:
            return [Attempt(0, 0, self.steps, -1)]
        return [Attempt(0, 0, self._lost_at, self._lost_node), Attempt(1, self._lost_at // every * every, self.steps, -1)]

    @property
    def points(self) -> int:
        """Points of all attempts."""
        return sum(one.end - one.first for one in self.attempts()) * self.ranks * len(self.names)

    def troubles(self) -> Troubles:
        """What happens to it, and where."""
        first, *again = self.attempts()
        slow = (self.straggler, self._slow_from, self._slow_until) if self._slow_from < self._slow_until else None
        return Troubles((self.nan_rank, self.nan_step), slow, (first.lost_node, first.end, again[0].first) if again else None)

    def starts_s(self) -> list[float]:
        """When each attempt starts and, last, when all is over; in simulated seconds from the start of the first."""
        starts_s = [0.0]
        for attempt in (attempts := self.attempts()):
            starts_s.append(starts_s[-1] + (attempt.end - attempt.first) * self.step_s + (0.0 if attempt is attempts[-1] else _BACK_S))
        return starts_s

    def row(self, rank: int, step: int, attempt: int = 0) -> dict[str, float]:
        """What a rank logs at a step; another attempt sees other batches, and so other noise."""
        noise = self._noise[(step * 31 + rank * 7 + attempt * 101) % self._noise_rows]
        falling = self._floor + 8.0 * math.exp(-6.0 * step / self.steps)
        values: list[float] = (self._scale * (1.0 + 0.5 * falling + 0.1 * noise)).tolist()
        slow = 1.6 if rank == self.straggler and self._slow_from <= step < self._slow_until else 1.0
        took_s = self.step_s * slow * float(self._rank_speed[rank]) * (1.0 + 0.02 * float(noise[-1]))
        loss = math.nan if (rank, step, attempt) == (self.nan_rank, self.nan_step, 0) else falling * (1.0 + 0.02 * float(noise[0]))
        warmed = min(1.0, step / max(1.0, 0.02 * self.steps))
        named = (
            loss,
            0.4 * falling * math.exp(0.3 * float(noise[min(1, len(noise) - 1)])),
            3e-4 * warmed * 0.5 * (1.0 + math.cos(math.pi * step / self.steps)),
            took_s,
            131_072.0 / took_s,
            61.0 + 0.2 * math.sin(step / 50.0),
            abs(0.01 * float(noise[-1])),
        )
        values[: len(NAMED)] = named[: len(values)]
        return dict(zip(self.names, values, strict=True))


def names_of(metrics: int) -> list[str]:
    """So many names, the well-known ones first."""
    layers = (f"layer_{number // len(_KINDS)}/{_KINDS[number % len(_KINDS)]}" for number in range(max(0, metrics - len(NAMED))))
    return [*NAMED[:metrics], *layers]
