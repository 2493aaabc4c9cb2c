"""Stale rules: judged at a writer's heartbeat, which says how far it had logged and when.

A heartbeat speaks for all rows below its `next_seq`. Once these are in, a series whose newest point is much older than the heartbeat has been silent, whatever clock the processor
has and however far it is behind.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from runstream_rules import summary
from runstream_rules.episodes import FIRING, NEVER, RESTING, Episode, pace_of
from runstream_rules.shapes import Moment, Opening, alert, alert_id
from runstream_rules.state import Block, WriterState

if TYPE_CHECKING:
    from runstream_rules.book import RuleBook, RuleKey
    from runstream_rules.core import Policy
    from runstream_rules.tracks import Track
    from runstream_schemas.records import Alert


def stale_keys(state: WriterState, book: RuleBook) -> list[RuleKey]:
    """The stale rules that watch series of a writer."""
    keys = {key for block in state.blocks for key in block.tracks}
    return sorted(key for key in keys if (rule := book.rule(key)) is not None and rule.kind == "stale")


def pulse(
    state: WriterState, heartbeat_ms: int, next_seq: int, book: RuleBook, now_ms: int, policy: Policy, *, alive: bool = True
) -> tuple[WriterState, list[Alert], list[int]]:
    """Judges stale rules at a heartbeat: the new state, alerts, and the blocks that changed. Where rows below `next_seq` are still to come, nothing is said.

    Args:
        state: of the writer. It is not changed.
        heartbeat_ms: when the writer gave its sign of life, epoch milliseconds.
        next_seq: all seqs that it had given out by then are below.
        book: the rules.
        now_ms: the processor's clock, for what alerts say of their decision.
        policy: the deployment's bounds.
        alive: False at the writer's end, which resolves what is stale.
    """
    keys = stale_keys(state, book)
    if not keys or state.head.mark < next_seq:
        return state, [], []
    blocks, changed = list(state.blocks), list[int]()
    alerts: list[Alert] = []
    for number, block in enumerate(blocks):
        after, found = _judged(state, block, keys, heartbeat_ms, book, now_ms, policy, alive=alive)
        if found:
            blocks[number] = after
            alerts += found
            changed.append(number)
    return (replace(state, blocks=tuple(blocks)), alerts, changed) if changed else (state, [], [])


def _judged(
    state: WriterState, block: Block, keys: list[RuleKey], heartbeat_ms: int, book: RuleBook, now_ms: int, policy: Policy, *, alive: bool
) -> tuple[Block, list[Alert]]:
    head = state.head
    episodes = dict(block.episodes)
    alerts: list[Alert] = []
    for key in keys:
        rule, track = book.rule(key), block.tracks.get(key)
        if rule is None or track is None:
            continue
        pace = pace_of(rule)
        own = dict(episodes.get(key, {}))
        for place, seq in _last_seqs(track):
            last_ms = int(block.longs[summary.LAST_TIME, place])
            episode = own.get(place)
            firing = episode is not None and episode.status == FIRING
            silent = heartbeat_ms - last_ms >= rule.window_s * 1000.0
            fired_ms = NEVER if episode is None else min(episode.fired_ms, heartbeat_ms)
            if alive and silent and not firing and heartbeat_ms - fired_ms >= pace.cooldown_ms:
                episode = own[place] = Episode(FIRING, seq, last_ms, heartbeat_ms)
            elif firing and not alive:
                own[place] = Episode(RESTING, 0, 0, fired_ms)
            else:
                continue
            assert episode is not None, "what fires or resolves has an episode"
            series = block.series[place]
            moment = Moment(head.rank, int(block.longs[summary.LAST_STEP, place]), heartbeat_ms, (heartbeat_ms - last_ms) / 1000.0, None)
            opening = Opening(state.writer, episode.seq, episode.since_ms)
            named = alert_id(key, head.run_id, state.writer, series, episode.seq)
            decision = policy.decision(now_ms)
            alerts.append(alert(rule, "firing" if alive else "resolved", head.run_id, head.project, series, opening, moment, decision, named))
        episodes[key] = own
    return replace(block, episodes=episodes), alerts


def _last_seqs(track: Track) -> list[tuple[int, int]]:
    """Place and last seq of each series of a stale rule's track."""
    places: list[int] = track.places.tolist()
    seqs: list[float] = track.data[:, 0].tolist()
    return [(place, int(seq)) for place, seq in zip(places, seqs, strict=True)]
