"""The records that decisions become: alerts of transitions, and the summaries of a block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from runstream_rules import summary
from runstream_rules.series import Series
from runstream_rules.text import message
from runstream_schemas.ids import named_uuid
from runstream_schemas.records import Alert, SummaryFrame

if TYPE_CHECKING:
    from runstream_rules.book import Pick, RuleKey
    from runstream_rules.columns import Piece
    from runstream_rules.episodes import Transition
    from runstream_rules.state import Head, WriterState


def alert_of(pick: Pick, head: Head, writer: int, piece: Piece, rows: summary.Rows, change: Transition, now_ms: int, late_before_ms: int) -> Alert:
    """The alert of one transition; late when its row is older than `late_before_ms`."""
    rule = pick.rule
    metric = piece.part.names[change.column]
    step, time_ms, value = int(rows.steps[change.row]), int(rows.times[change.row]), float(rows.values[change.row, change.column])
    state = "firing" if change.firing else "resolved"
    text = message(
        rule,
        state,
        metric=metric,
        context=piece.context,
        subject=piece.subject,
        rank=head.rank,
        step=step,
        value=value,
        run_id=head.run_id,
    )
    return Alert(
        alert_id=alert_id(pick.key, head.run_id, writer, Series(metric, piece.context, piece.subject), change.opened_seq),
        version=0 if change.firing else 1,
        state=state,
        rule_id=rule.rule_id,
        rule_version=rule.version,
        rule_name=rule.name,
        kind=rule.kind,
        severity=rule.severity,
        run_id=head.run_id,
        writer=writer,
        seq=change.opened_seq,
        rank=head.rank,
        metric=metric,
        context=piece.context,
        subject=piece.subject,
        step=step,
        time_ms=time_ms,
        value=value,
        operator=rule.operator,
        threshold=rule.threshold,
        text=text,
        late=time_ms < late_before_ms,
        decided_ms=now_ms,
        channels=tuple(rule.channels),
    )


def alert_id(rule: RuleKey, run_id: str, writer: int, series: Series, seq: int) -> str:
    """The id of the episode that row `seq` of a series opened under a rule: the same wherever and however often it is decided."""
    rule_id, version = rule
    return named_uuid("alert", rule_id, str(version), run_id, str(writer), series.metric, series.context, series.subject, str(seq))


def summary_frame(state: WriterState, number: int) -> SummaryFrame:
    """The summaries of one block as a record."""
    block, head = state.blocks[number], state.head
    longs: list[list[int]] = block.longs.tolist()
    none = block.longs[summary.COUNT] == block.longs[summary.NON_FINITE]
    doubles = block.doubles
    if none.any():
        doubles = doubles.copy()
        doubles[summary.MEAN, none] = doubles[summary.MIN, none] = doubles[summary.MAX, none] = np.nan
    figures: list[list[float]] = doubles.tolist()
    return SummaryFrame(
        run_id=head.run_id,
        writer=state.writer,
        block=number,
        next_seq=head.mark,
        rank=head.rank,
        attempt=head.attempt,
        started=head.started,
        time_ms=max(longs[summary.LAST_TIME], default=0),
        names=[series.metric for series in block.series],
        contexts=[series.context for series in block.series],
        subjects=[series.subject for series in block.series],
        counts=longs[summary.COUNT],
        non_finites=longs[summary.NON_FINITE],
        sums=figures[summary.SUM],
        means=figures[summary.MEAN],
        m2s=figures[summary.M2],
        mins=figures[summary.MIN],
        min_steps=longs[summary.MIN_STEP],
        maxs=figures[summary.MAX],
        max_steps=longs[summary.MAX_STEP],
        firsts=figures[summary.FIRST],
        first_steps=longs[summary.FIRST_STEP],
        lasts=figures[summary.LAST],
        last_steps=longs[summary.LAST_STEP],
        first_times=longs[summary.FIRST_TIME],
        last_times=longs[summary.LAST_TIME],
    )
