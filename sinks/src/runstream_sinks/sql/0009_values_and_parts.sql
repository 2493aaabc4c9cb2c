-- Values that are no points of numeric series: texts, bytes and tensors of metrics, summary values that users set, and what they say of a metric. Of runs: which are parts of which.
CREATE TABLE IF NOT EXISTS values_log
(
    run_id UUID COMMENT 'the run',
    writer UInt64 COMMENT 'process start that logged it',
    seq UInt64 COMMENT 'the writer''s count of everything it logs',
    rank UInt32 COMMENT 'global rank',
    time DateTime64(3, 'UTC') COMMENT 'the producer''s clock',
    name LowCardinality(String) COMMENT 'metric name, name of the summary value, or what is said of the metrics in value',
    role LowCardinality(String) COMMENT 'metric, summary, step_metric, goal, unit or source',
    context LowCardinality(String) COMMENT 'phase such as training or validation; may be empty',
    subject LowCardinality(String) COMMENT 'what the value is about; empty is the run itself',
    step Nullable(Int64) COMMENT 'step of a metric''s value',
    kind LowCardinality(String) COMMENT 'null, bool, int, float, string, list, bytes or tensor',
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
    source String COMMENT 'library that its values came from; empty is the program itself'
)
AS
SELECT
    run_id,
    metric AS name,
    argMaxIf(said, (time, seq), role = 'step_metric') AS step_metric,
    argMaxIf(said, (time, seq), role = 'goal') AS goal,
    argMaxIf(said, (time, seq), role = 'unit') AS unit,
    argMaxIf(said, (time, seq), role = 'source') AS source
FROM
(
    SELECT run_id, role, time, seq, name AS said, arrayJoin(JSONExtract(value, 'Array(String)')) AS metric
    FROM values_log FINAL
    WHERE role IN ('step_metric', 'goal', 'unit', 'source')
)
GROUP BY run_id, metric
COMMENT 'what is said of metrics: over what they are drawn, which way they should go, their unit, where they come from';

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

-- A writer does not count for the run's state once another process of its rank began after its last sign of life: a later attempt took its place.
-- Nor does a forked helper that crashed or was killed: what its death means for the run, the process that forked it knows.
-- What is said and what was written are put together by GROUP BY and not by a join, so that a question about one run reads that run alone.
CREATE OR REPLACE VIEW runs
(
    run_id UUID COMMENT 'the run',
    project LowCardinality(String) COMMENT 'project it belongs to',
    name String COMMENT 'name for people',
    owner String COMMENT 'whose run it is',
    namespace String COMMENT 'team or tenant',
    external_id String COMMENT 'the id another system knows the run by',
    framework String COMMENT 'what it trains with',
    task String COMMENT 'what it trains for',
    notes String COMMENT 'words of its people',
    tags Array(String) COMMENT 'tags that hold now',
    metadata Map(String, String) COMMENT 'newest value of each key, as JSON text',
    parent_run_id Nullable(UUID) COMMENT 'the run that it is a part of; null if none',
    run_group String COMMENT 'group of runs that it belongs to; empty if none',
    state LowCardinality(String) COMMENT 'running while any rank does, else failed, killed, crashed or preempted if any rank ended so, else finished; empty without ranks',
    started Nullable(DateTime64(3, 'UTC')) COMMENT 'start of its first process',
    ended Nullable(DateTime64(3, 'UTC')) COMMENT 'last sign of life of its last process; null while it runs',
    updated Nullable(DateTime64(3, 'UTC')) COMMENT 'when it last gave a sign of life or something was said of it',
    writers UInt64 COMMENT 'processes that logged, all attempts counted',
    points UInt64 COMMENT 'metric values that its processes say they logged',
    points_logged UInt64 COMMENT 'the same as points'
)
AS
WITH
    said AS
    (
        SELECT
            run_id,
            argMax(project, (time, seq)) AS project,
            argMax(name, (time, seq)) AS name,
            argMax(owner, (time, seq)) AS owner,
            argMax(namespace, (time, seq)) AS namespace,
            argMax(external_id, (time, seq)) AS external_id,
            argMax(framework, (time, seq)) AS framework,
            argMax(task, (time, seq)) AS task,
            argMax(notes, (time, seq)) AS notes,
            argMaxIf(tags, (time, seq), has_tags) AS tags,
            arrayFold((merged, change) -> mapUpdate(merged, change.3), arraySort(change -> (change.1, change.2), groupArray((time, seq, metadata))), CAST(map(), 'Map(String, String)')) AS metadata,
            min(time) AS said_first,
            max(time) AS said_last
        FROM run_changes FINAL
        GROUP BY run_id
    ),
    ranks AS
    (
        SELECT
            *,
            kind = 'rank' AND NOT (environment['forked'] = 'true' AND state IN ('crashed', 'killed')) AS speaks,
            speaks AND heartbeat >= max(if(speaks, started, toDateTime64(0, 3, 'UTC'))) OVER (PARTITION BY run_id, rank) AS counts
        FROM writers
    ),
    wrote AS
    (
        SELECT
            run_id,
            any(project) AS project,
            multiIf(
                countIf(counts) = 0, '',
                countIf(counts AND state = 'running') > 0, 'running',
                countIf(counts AND state = 'failed') > 0, 'failed',
                countIf(counts AND state = 'killed') > 0, 'killed',
                countIf(counts AND state = 'crashed') > 0, 'crashed',
                countIf(counts AND state = 'preempted') > 0, 'preempted',
                'finished') AS state,
            minOrNullIf(started, kind = 'rank') AS started,
            maxOrNullIf(heartbeat, kind = 'rank') AS updated,
            countIf(kind = 'rank') AS writers,
            sumIf(points_logged, kind = 'rank') AS points
        FROM ranks
        GROUP BY run_id
    ),
    sides AS
    (
        SELECT
            run_id, project, name, owner, namespace, external_id, framework, task, notes, tags, metadata, said_first, said_last,
            '' AS project_wrote, '' AS state, NULL AS started, NULL AS updated, 0 AS writers, 0 AS points, 1 AS side
        FROM said
        UNION ALL
        SELECT
            run_id, '', NULL, NULL, NULL, NULL, NULL, NULL, NULL, [], map(), NULL, NULL,
            project, state, started, updated, writers, points, 0 AS side
        FROM wrote
    )
SELECT
    run_id,
    if(max(sides.project) != '', max(sides.project), max(project_wrote)) AS project,
    ifNull(max(sides.name), '') AS name,
    ifNull(max(sides.owner), '') AS owner,
    ifNull(max(sides.namespace), '') AS namespace,
    ifNull(max(sides.external_id), '') AS external_id,
    ifNull(max(sides.framework), '') AS framework,
    ifNull(max(sides.task), '') AS task,
    ifNull(max(sides.notes), '') AS notes,
    argMax(sides.tags, side) AS tags,
    mapFilter((key, value) -> NOT startsWith(key, 'runstream.'), argMax(sides.metadata, side) AS everything) AS metadata,
    toUUIDOrNull(JSONExtractString(everything['runstream.parent'])) AS parent_run_id,
    JSONExtractString(everything['runstream.group']) AS run_group,
    max(sides.state) AS state,
    coalesce(max(sides.started), max(said_first)) AS started,
    if(state IN ('', 'running'), NULL, max(sides.updated)) AS ended,
    greatest(coalesce(max(sides.updated), max(said_last)), coalesce(max(said_last), max(sides.updated))) AS updated,
    max(sides.writers) AS writers,
    max(sides.points) AS points,
    points AS points_logged
FROM sides
WHERE run_id != toUUID('00000000-0000-0000-0000-000000000000')
GROUP BY run_id
COMMENT 'one row a run: what people say of it, and how it is';
