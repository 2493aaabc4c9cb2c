-- What processors decide. A replay decides again with the same ids but a later clock; `precedence` keeps the first decision, so that latencies stay what they were.
CREATE TABLE IF NOT EXISTS alerts_log
(
    alert_id String COMMENT 'the same however often the points are replayed',
    version UInt64 COMMENT '0 firing, 1 resolved',
    state LowCardinality(String) COMMENT 'firing or resolved',
    rule_id String,
    rule_version UInt64,
    rule_name String,
    kind LowCardinality(String),
    severity LowCardinality(String),
    run_id UUID,
    writer UInt64 COMMENT 'writer of the row that opened the episode, or whose state did',
    seq UInt64 COMMENT 'seq of the row that opened the episode; across ranks its step',
    rank UInt32,
    metric LowCardinality(String),
    context LowCardinality(String),
    subject LowCardinality(String),
    step Int64 COMMENT 'step of the row of this transition',
    time DateTime64(3, 'UTC') COMMENT 'producer time of the row of this transition',
    value Float64 COMMENT 'figure that the rule watches, as of that row',
    operator LowCardinality(String),
    threshold Nullable(Float64),
    text String,
    late Bool COMMENT 'too old to notify anybody',
    decided DateTime64(3, 'UTC') COMMENT 'processor clock at the decision',
    channels Array(String),
    project LowCardinality(String),
    labels Map(String, String) COMMENT 'labels of the rule',
    baseline Nullable(Float64) COMMENT 'what the figure was compared with, where the rule computes it',
    opened DateTime64(3, 'UTC') COMMENT 'producer time of the row that opened the episode',
    silence String COMMENT 'silence or acknowledgement that kept it from notifying anybody',
    precedence UInt64 MATERIALIZED 9223372036854775807 - toUnixTimestamp64Milli(decided) COMMENT 'of several decisions of one transition the first is kept'
)
ENGINE = ReplacingMergeTree(precedence)
ORDER BY (run_id, alert_id, version)
COMMENT 'transitions of alerts, one row each: query the view alerts';

CREATE OR REPLACE VIEW alerts AS
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
GROUP BY run_id, alert_id;

CREATE TABLE IF NOT EXISTS summary_series
(
    run_id UUID,
    name LowCardinality(String),
    context LowCardinality(String),
    subject LowCardinality(String),
    rank UInt32,
    writer UInt64,
    attempt LowCardinality(String),
    started DateTime64(3, 'UTC'),
    block UInt32 COMMENT 'block of the writer''s series it came in',
    next_seq UInt64 COMMENT 'all seqs of the writer below it are in; the greatest holds',
    time DateTime64(3, 'UTC') COMMENT 'producer time of the block''s newest row',
    count UInt64 COMMENT 'values seen, non-finite ones included',
    non_finite UInt64,
    sum Float64 COMMENT 'of the finite values, in seq order',
    mean Float64 COMMENT 'of the finite values; NaN without one',
    m2 Float64 COMMENT 'sum of squared deviations from the mean',
    min Float64,
    min_step Int64,
    max Float64,
    max_step Int64,
    first Float64,
    first_step Int64,
    last Float64,
    last_step Int64,
    first_time DateTime64(3, 'UTC'),
    last_time DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(next_seq)
ORDER BY (run_id, name, context, subject, rank, writer)
COMMENT 'one row a series and writer, the greatest next_seq holds: query the view summaries';

CREATE OR REPLACE VIEW summaries AS
SELECT *, if(count > non_finite, sqrt(m2 / (count - non_finite)), nan) AS stddev
FROM summary_series FINAL;
