-- Values that are no points of numeric series: texts, bytes and tensors of metrics, summary values that users set, and what they say of a metric.
CREATE TABLE IF NOT EXISTS values_log
(
    run_id UUID COMMENT 'the run',
    writer UInt64 COMMENT 'process start that logged it',
    seq UInt64 COMMENT 'the writer''s count of everything it logs',
    rank UInt32 COMMENT 'global rank',
    time DateTime64(3, 'UTC') COMMENT 'the producer''s clock',
    name LowCardinality(String) COMMENT 'metric name, name of the summary value, or what is said of the metrics in value',
    role LowCardinality(String) COMMENT 'metric, summary, step_metric, goal, unit, source or type',
    context LowCardinality(String) COMMENT 'phase such as training or validation; may be empty',
    subject LowCardinality(String) COMMENT 'what the value is about; empty is the run itself',
    step Nullable(Int64) COMMENT 'step of a metric''s value',
    kind LowCardinality(String) COMMENT 'null, bool, int, float, string, list, dict, bytes or tensor',
    value String COMMENT 'the value as JSON text; empty for bytes and tensors' CODEC(ZSTD(1)),
    str Nullable(String) COMMENT 'the value of kind string' CODEC(ZSTD(1)),
    i64 Nullable(Int64) COMMENT 'the value of kind int where 64 bits hold it',
    f64 Nullable(Float64) COMMENT 'the value of kinds int and float',
    bool Nullable(Bool) COMMENT 'the value of kind bool',
    dtype LowCardinality(String) COMMENT 'type of a tensor''s elements as numpy writes it, such as <f4',
    shape Array(Int64) COMMENT 'shape of a tensor',
    data String COMMENT 'the bytes, or a tensor''s elements in C order' CODEC(ZSTD(1)),
    received DateTime('UTC') MATERIALIZED now() COMMENT 'when the row was inserted; retention goes by it' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (run_id, role, name, context, subject, rank, writer, seq)
COMMENT 'typed values, repeats not yet collapsed: query the views metric_values, run_summary and metric_definitions';

CREATE OR REPLACE VIEW metric_values
(
    values_log.*
)
AS SELECT * FROM values_log FINAL WHERE role = 'metric'
COMMENT 'values of metrics that are no numbers: texts, bytes and tensors, each once';

CREATE OR REPLACE VIEW run_summary
(
    values_log.*
)
AS
SELECT *
FROM values_log FINAL
WHERE role = 'summary'
ORDER BY run_id, name, time DESC, seq DESC, writer DESC
LIMIT 1 BY run_id, name
COMMENT 'summary values that users set: the newest of each name';

CREATE OR REPLACE VIEW metric_definitions
(
    run_id UUID COMMENT 'the run',
    name String COMMENT 'metric name, or a pattern with * and ?',
    step_metric String COMMENT 'metric that it is drawn over; empty is the step',
    goal String COMMENT 'min or max: which way it should go; empty if nobody said',
    unit String COMMENT 'unit of its values; empty if nobody said',
    source String COMMENT 'library that its values came from; empty is the program itself',
    type String COMMENT 'int or bool where it was begun with such values, in whatever context and by whatever process; float where those differ; empty is float'
)
AS
SELECT
    run_id,
    metric AS name,
    argMaxIf(said, (time, seq), role = 'step_metric') AS step_metric,
    argMaxIf(said, (time, seq), role = 'goal') AS goal,
    argMaxIf(said, (time, seq), role = 'unit') AS unit,
    argMaxIf(said, (time, seq), role = 'source') AS source,
    if(uniqExactIf(said, role = 'type') > 1, 'float', maxIf(said, role = 'type')) AS type
FROM
(
    SELECT run_id, role, time, seq, name AS said, arrayJoin(JSONExtract(value, 'Array(String)')) AS metric
    FROM values_log FINAL
    WHERE role IN ('step_metric', 'goal', 'unit', 'source', 'type')
)
GROUP BY run_id, metric
COMMENT 'what is said of metrics: over what they are drawn, which way they should go, their unit, where they come from, their type';

CREATE OR REPLACE VIEW param_conflicts
(
    run_id UUID COMMENT 'the run',
    key String COMMENT 'dotted key',
    context LowCardinality(String) COMMENT 'phase such as training; may be empty',
    value_by_rank Map(UInt32, String) COMMENT 'newest value of each rank, as JSON text'
)
AS
SELECT run_id, key, context, CAST((groupArray(rank), groupArray(newest)), 'Map(UInt32, String)') AS value_by_rank
FROM
(
    SELECT run_id, key, context, rank, argMax(value, (time, seq, writer)) AS newest
    FROM params_log FINAL
    GROUP BY run_id, key, context, rank
    ORDER BY run_id, key, context, rank
)
GROUP BY run_id, key, context
HAVING uniqExact(newest) > 1
COMMENT 'params of which ranks hold different values';
