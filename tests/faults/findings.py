"""What the oracle found about a seed: what it counted, and what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Findings:
    """What was counted, and what is wrong; sentences in `troubles`.

    Attributes:
        wrong: rows that are there once and hold something else than what was logged, in whatever column beside the value of a point.
        drops_wrong: writers who tell of another number of dropped points than their ledger.
        own_ends_unexplained: ends of workers that nobody arranged and nothing explains.
    """

    points_logged: int = 0
    repeats: int = 0
    lost: int = 0
    doubled: int = 0
    invented: int = 0
    wrong: int = 0
    summaries_wrong: int = 0
    alerts_expected: int = 0
    alerts_missing: int = 0
    alerts_twice: int = 0
    letters_wrong: int = 0
    drops_wrong: int = 0
    own_ends_unexplained: int = 0
    dropped: int = 0
    poison: int = 0
    troubles: list[str] = field(default_factory=list[str])

    def blame(self, count: int, sentence: str) -> int:
        """Takes note where a count is not 0; the count."""
        if count:
            self.troubles.append(sentence)
        return count
