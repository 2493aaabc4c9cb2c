-- What processors decide. A replay decides again with the same ids but a later clock; `precedence` keeps the first decision, so that latencies stay what they were.
CREATE TABLE IF NOT EXISTS alerts_log
(
    alert_id String COMMENT 'the same however often the points are replayed',
    version UInt64 COMMENT '0 firing, 1 resolved',
    state LowCardinality(String) COMMENT 'firing or resolved',
    rule_id String COMMENT 'rule that decided',
    rule_version UInt64 COMMENT 'its version',
    rule_name String COMMENT 'its name',
    kind LowCardinality(String) COMMENT 'its kind: docs/rules.md',
    severity LowCardinality(String) COMMENT 'info, warning or critical',
    run_id UUID COMMENT 'run; all zeros without one',
    writer UInt64 COMMENT 'writer of the row that opened the episode, or whose state did',
    seq UInt64 COMMENT 'seq of the row that opened the episode; across ranks its step',
    rank UInt32 COMMENT 'rank of the series',
    metric LowCardinality(String) COMMENT 'metric name',
    context LowCardinality(String) COMMENT 'context of the series',
    subject LowCardinality(String) COMMENT 'subject of the series',
    step Int64 COMMENT 'step of the row of this transition',
    time DateTime64(3, 'UTC') COMMENT 'producer time of the row of this transition',
    value Float64 COMMENT 'figure that the rule watches, as of that row',
    operator LowCardinality(String) COMMENT 'operator of the rule, or empty',
    threshold Nullable(Float64) COMMENT 'threshold of the rule',
    text String COMMENT 'message for people',
    late Bool COMMENT 'too old to notify anybody',
    decided DateTime64(3, 'UTC') COMMENT 'processor clock at the decision',
    channels Array(String) COMMENT 'notifier channels; empty is all',
    project LowCardinality(String) COMMENT 'project of the run',
    labels Map(String, String) COMMENT 'labels of the rule',
    baseline Nullable(Float64) COMMENT 'what the figure was compared with, where the rule computes it',
    opened DateTime64(3, 'UTC') COMMENT 'producer time of the row that opened the episode',
    silence String COMMENT 'silence or acknowledgement that kept it from notifying anybody',
    precedence UInt64 MATERIALIZED 9223372036854775807 - toUnixTimestamp64Milli(decided) COMMENT 'of several decisions of one transition the first is kept',
    received DateTime('UTC') MATERIALIZED now() COMMENT 'when the row was inserted; retention goes by it' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(precedence)
ORDER BY (run_id, alert_id, version)
COMMENT 'transitions of alerts, one row each: query the view alerts';

CREATE OR REPLACE VIEW alerts
(
    run_id UUID COMMENT 'run; all zeros without one',
    alert_id String COMMENT 'one episode of one series; the same however often its points are replayed',
    state LowCardinality(String) COMMENT 'firing or resolved',
    rule_id String COMMENT 'rule that decided',
    rule String COMMENT 'its name',
    rule_version UInt64 COMMENT 'its version',
    kind LowCardinality(String) COMMENT 'its kind: docs/rules.md',
    severity LowCardinality(String) COMMENT 'info, warning or critical',
    metric LowCardinality(String) COMMENT 'metric name',
    context LowCardinality(String) COMMENT 'context of the series',
    subject LowCardinality(String) COMMENT 'subject of the series',
    rank UInt32 COMMENT 'rank of the series',
    writer UInt64 COMMENT 'writer of the row that opened the episode, or whose state did',
    seq UInt64 COMMENT 'seq of the row that opened the episode; across ranks its step',
    step Int64 COMMENT 'step at which it fired',
    value Float64 COMMENT 'figure that the rule watches, as it fired',
    operator LowCardinality(String) COMMENT 'operator of the rule, or empty',
    threshold Nullable(Float64) COMMENT 'threshold of the rule',
    baseline Nullable(Float64) COMMENT 'what the figure was compared with, where the rule computes it',
    project LowCardinality(String) COMMENT 'project of the run',
    labels Map(String, String) COMMENT 'labels of the rule',
    silence String COMMENT 'silence or acknowledgement that kept it from notifying anybody; empty if none',
    opened DateTime64(3, 'UTC') COMMENT 'producer time of the row that opened the episode',
    text String COMMENT 'message for people',
    late Bool COMMENT 'too old to notify anybody',
    fired Nullable(DateTime64(3, 'UTC')) COMMENT 'producer time of the row at which it fired',
    fired_decided Nullable(DateTime64(3, 'UTC')) COMMENT 'processor clock when that was decided',
    resolved Nullable(DateTime64(3, 'UTC')) COMMENT 'producer time of the row at which it resolved; null while it fires',
    resolved_decided Nullable(DateTime64(3, 'UTC')) COMMENT 'processor clock when that was decided',
    resolved_step Nullable(Int64) COMMENT 'step at which it resolved',
    resolved_value Nullable(Float64) COMMENT 'figure as it resolved',
    fired_latency_ms Nullable(Int64) COMMENT 'from the log call to the decision that it fires',
    resolved_latency_ms Nullable(Int64) COMMENT 'from the log call to the decision that it resolves',
    open_ms Nullable(Int64) COMMENT 'how long it fired, by producer time',
    rule_removed Bool COMMENT 'its rule was removed since: what then fires has no end'
)
AS
SELECT episodes.*, removed > rule_version AS rule_removed
FROM
(
    SELECT
        run_id,
        alert_id,
        argMax(alerts_log.state, version) AS state,
        any(alerts_log.rule_id) AS rule_id,
        argMax(rule_name, version) AS rule,
        any(alerts_log.rule_version) AS rule_version,
        any(alerts_log.kind) AS kind,
        argMax(alerts_log.severity, version) AS severity,
        any(alerts_log.metric) AS metric,
        any(alerts_log.context) AS context,
        any(alerts_log.subject) AS subject,
        any(alerts_log.rank) AS rank,
        any(alerts_log.writer) AS writer,
        any(alerts_log.seq) AS seq,
        argMin(alerts_log.step, version) AS step,
        argMin(alerts_log.value, version) AS value,
        any(alerts_log.operator) AS operator,
        any(alerts_log.threshold) AS threshold,
        argMin(alerts_log.baseline, version) AS baseline,
        any(alerts_log.project) AS project,
        any(alerts_log.labels) AS labels,
        argMin(alerts_log.silence, version) AS silence,
        any(alerts_log.opened) AS opened,
        argMin(alerts_log.text, version) AS text,
        argMin(alerts_log.late, version) AS late,
        minOrNullIf(time, alerts_log.state = 'firing') AS fired,
        minOrNullIf(decided, alerts_log.state = 'firing') AS fired_decided,
        maxOrNullIf(time, alerts_log.state = 'resolved') AS resolved,
        maxOrNullIf(decided, alerts_log.state = 'resolved') AS resolved_decided,
        maxOrNullIf(alerts_log.step, alerts_log.state = 'resolved') AS resolved_step,
        maxOrNullIf(alerts_log.value, alerts_log.state = 'resolved') AS resolved_value,
        dateDiff('millisecond', fired, fired_decided) AS fired_latency_ms,
        dateDiff('millisecond', resolved, resolved_decided) AS resolved_latency_ms,
        dateDiff('millisecond', fired, resolved) AS open_ms
    FROM alerts_log FINAL
    GROUP BY run_id, alert_id
) AS episodes
LEFT JOIN (SELECT rule_id, maxIf(version, deleted) AS removed FROM rules_log GROUP BY rule_id) AS removals USING (rule_id)
COMMENT 'alerts: one row an episode, with when it fired and when it resolved';

CREATE TABLE IF NOT EXISTS summary_series
(
    run_id UUID COMMENT 'the run',
    name LowCardinality(String) COMMENT 'metric name',
    context LowCardinality(String) COMMENT 'phase such as training; may be empty',
    subject LowCardinality(String) COMMENT 'what the values are about; empty is the run itself',
    rank UInt32 COMMENT 'global rank',
    writer UInt64 COMMENT 'process start whose values these are',
    attempt LowCardinality(String) COMMENT 'key of the attempt',
    started DateTime64(3, 'UTC') COMMENT 'start of the writer',
    block UInt32 COMMENT 'block of the writer''s series it came in',
    next_seq UInt64 COMMENT 'all seqs of the writer below it are in; the greatest holds',
    time DateTime64(3, 'UTC') COMMENT 'producer time of the block''s newest row',
    count UInt64 COMMENT 'values seen, non-finite ones included',
    non_finite UInt64 COMMENT 'of those, NaN and infinities',
    sum Float64 COMMENT 'of the finite values, in seq order',
    mean Float64 COMMENT 'of the finite values; NaN without one',
    m2 Float64 COMMENT 'sum of squared deviations from the mean',
    min Float64 COMMENT 'least finite value; NaN without one',
    min_step Int64 COMMENT 'step of the least',
    max Float64 COMMENT 'greatest finite value; NaN without one',
    max_step Int64 COMMENT 'step of the greatest',
    first Float64 COMMENT 'value of the first row by seq',
    first_step Int64 COMMENT 'its step',
    last Float64 COMMENT 'value of the last row by seq',
    last_step Int64 COMMENT 'its step',
    first_time DateTime64(3, 'UTC') COMMENT 'producer time of the first row',
    last_time DateTime64(3, 'UTC') COMMENT 'producer time of the last row'
)
ENGINE = ReplacingMergeTree(next_seq)
ORDER BY (run_id, name, context, subject, rank, writer)
COMMENT 'one row a series and writer, the greatest next_seq holds: query the view summaries';

CREATE OR REPLACE VIEW summaries
(
    summary_series.*,
    stddev Float64 COMMENT 'standard deviation of the finite values; NaN without one'
)
AS
SELECT *, if(count > non_finite, sqrt(m2 / (count - non_finite)), nan) AS stddev
FROM summary_series FINAL
COMMENT 'per series and process: count, least, greatest, mean, first and last value, kept up to date while it runs';
