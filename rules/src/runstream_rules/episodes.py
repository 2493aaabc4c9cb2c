"""Episodes: a series under a rule is quiet, waits (`for`), fires, and rests (`cooldown`).

The usual case, in which all series are quiet and stay so, costs one comparison of the whole matrix. A writer that ends while a rule fires leaves the episode firing: nothing was seen
that resolves it. Episodes of a rule that was changed or withdrawn end without a word; a new version opens its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from runstream_rules.regions import in_columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from runstream_schemas.records import Rule

    Bools = NDArray[np.bool_]

WAITING, FIRING, RESTING = range(3)
NEVER = -(1 << 62)  # As the time of a last firing: long before any.


class Episode(NamedTuple):
    """Where a series stands: since which row and time it waits or fires (of no meaning while it rests), and when it fired last."""

    status: int
    seq: int
    since_ms: int
    fired_ms: int


class Transition(NamedTuple):
    """One firing or resolving: which column, at which row, and what opened the episode."""

    column: int
    row: int
    opened_seq: int
    opened_ms: int
    firing: bool


class Pace(NamedTuple):
    """How long a condition must hold, and how long a series rests after it fired, in milliseconds."""

    for_ms: int
    cooldown_ms: int


def pace_of(rule: Rule) -> Pace:
    """The rule's."""
    return Pace(round(rule.for_s * 1000.0), round(rule.cooldown_s * 1000.0))


class Signs(NamedTuple):
    """What the rows of [R, C] say: that the condition holds, that it does not, and that all is calm. A row that says none of it changes nothing."""

    hot: Bools
    cold: Bools
    calm: Bools


def advance(
    signs: Signs, seqs: Sequence[int], times: Sequence[int], before: Mapping[int, Episode], places: Sequence[int], pace: Pace
) -> tuple[list[Transition], dict[int, Episode | None]]:
    """What changes over some rows, column by column: transitions in the order of columns and rows, and where series stand now that stood elsewhere (None: quiet).

    Args:
        signs: what the rows say.
        seqs: of the rows.
        times: of the rows, epoch milliseconds.
        before: episodes by place, of series that are not quiet.
        places: place of each column.
        pace: of the rule.
    """
    out: list[Transition] = []
    after: dict[int, Episode | None] = {}
    any_hot, any_calm = in_columns(signs.hot), in_columns(signs.calm)
    for column, place in enumerate(places):
        episode = before.get(place)
        if episode is None:
            if not any_hot[column]:
                continue
        elif episode.status == FIRING and not any_calm[column]:
            continue
        found = _walk(column, _column(signs, column), seqs, times, episode, pace, out)
        if found != episode:
            after[place] = found
    return out, after


def _column(signs: Signs, column: int) -> list[tuple[bool, bool, bool]]:
    hot: list[bool] = signs.hot[:, column].tolist()
    cold: list[bool] = signs.cold[:, column].tolist()
    calm: list[bool] = signs.calm[:, column].tolist()
    return list(zip(hot, cold, calm, strict=True))


def _walk(
    column: int, said: list[tuple[bool, bool, bool]], seqs: Sequence[int], times: Sequence[int], episode: Episode | None, pace: Pace, out: list[Transition]
) -> Episode | None:
    for row, (hot, cold, calm) in enumerate(said):
        time_ms = times[row]
        if episode is not None and episode.status == FIRING:
            if calm:
                out.append(Transition(column, row, episode.seq, episode.since_ms, firing=False))
                episode = _rested(min(episode.fired_ms, time_ms), time_ms, pace)
            continue
        fired_ms = NEVER
        if episode is not None and episode.fired_ms != NEVER:
            # A clock that went back would make a rest last for as long as it went back.
            fired_ms = min(episode.fired_ms, time_ms)
        if hot:
            if episode is None or episode.status == RESTING:
                episode = Episode(WAITING, seqs[row], time_ms, fired_ms)
            episode = Episode(WAITING, episode.seq, min(episode.since_ms, time_ms), fired_ms)
            if time_ms - episode.since_ms >= pace.for_ms and time_ms - fired_ms >= pace.cooldown_ms:
                out.append(Transition(column, row, episode.seq, episode.since_ms, firing=True))
                episode = Episode(FIRING, episode.seq, episode.since_ms, time_ms)
        elif cold or (episode is not None and episode.status == RESTING):
            episode = _rested(fired_ms, time_ms, pace)
    return episode


def _rested(fired_ms: int, time_ms: int, pace: Pace) -> Episode | None:
    """A series that is quiet again: it rests for as long as a new firing would come too soon."""
    if fired_ms == NEVER or time_ms - fired_ms >= pace.cooldown_ms:
        return None
    return Episode(RESTING, 0, 0, fired_ms)
