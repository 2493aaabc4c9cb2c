"""The records that decisions become: alerts of transitions, and the summaries of a block."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from runstream_rules import summary
from runstream_rules.text import message
from runstream_schemas.ids import named_uuid
from runstream_schemas.records import Alert, SummaryFrame

if TYPE_CHECKING:
    from runstream_rules.book import RuleKey
    from runstream_rules.series import Series
    from runstream_rules.state import WriterState
    from runstream_schemas.records import AlertState, Rule


class Opening(NamedTuple):
    """What opened an episode: the writer, the seq of the row (across ranks, the step), and its time."""

    writer: int
    seq: int
    time_ms: int


class Moment(NamedTuple):
    """What a transition is about: rank, step and time, the figure that is shown, and what it was compared with."""

    rank: int
    step: int
    time_ms: int
    value: float
    baseline: float | None


class Decision(NamedTuple):
    """When it is decided, and from which time on rows are not late; both epoch milliseconds."""

    now_ms: int
    late_before_ms: int


def alert(
    rule: Rule, state: AlertState, run_id: str, project: str, series: Series, opening: Opening, moment: Moment, decision: Decision, alert_id: str
) -> Alert:
    """The record of one transition."""
    text = message(
        rule,
        state,
        series=series,
        rank=moment.rank,
        step=moment.step,
        value=moment.value,
        baseline=moment.baseline,
        run_id=run_id,
        project=project,
    )
    return Alert(
        alert_id=alert_id,
        version=0 if state == "firing" else 1,
        state=state,
        rule_id=rule.rule_id,
        rule_version=rule.version,
        rule_name=rule.name,
        kind=rule.kind,
        severity=rule.severity,
        run_id=run_id,
        writer=opening.writer,
        seq=opening.seq,
        rank=moment.rank,
        metric=series.metric,
        context=series.context,
        subject=series.subject,
        step=moment.step,
        time_ms=moment.time_ms,
        value=moment.value,
        operator=rule.operator,
        threshold=rule.threshold,
        text=text,
        late=moment.time_ms < decision.late_before_ms,
        decided_ms=decision.now_ms,
        channels=tuple(rule.channels),
        project=project,
        labels=dict(rule.labels),
        baseline=moment.baseline,
        opened_ms=opening.time_ms,
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
