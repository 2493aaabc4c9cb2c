-- What users say of runs, one row a change, and the state of each process that logs.
CREATE TABLE IF NOT EXISTS run_changes
(
    run_id UUID,
    writer UInt64 COMMENT 'process start that said so; 0 for a command',
    seq UInt64 COMMENT 'the writer''s count of everything it logs',
    time DateTime64(3, 'UTC') COMMENT 'client time of the change',
    project LowCardinality(String),
    name Nullable(String) COMMENT 'null in this and the columns below: this change does not speak of it',
    owner Nullable(String),
    namespace Nullable(String),
    external_id Nullable(String) COMMENT 'the id another system knows the run by',
    framework Nullable(String),
    task Nullable(String),
    notes Nullable(String),
    has_tags Bool COMMENT 'whether this change speaks of the tags',
    tags Array(String),
    metadata Map(String, String) COMMENT 'keys changed, values as JSON text'
)
ENGINE = ReplacingMergeTree
ORDER BY (run_id, writer, seq)
COMMENT 'changes of runs; what holds now is in the view runs';

CREATE TABLE IF NOT EXISTS writer_states
(
    writer UInt64 COMMENT 'one process start',
    run_id UUID,
    project LowCardinality(String),
    version UInt64 COMMENT 'the greatest holds',
    kind LowCardinality(String) COMMENT 'rank or hardware',
    rank UInt32,
    local_rank UInt32,
    world_size UInt32,
    node LowCardinality(String),
    host LowCardinality(String),
    pid Int64,
    attempt LowCardinality(String),
    started DateTime64(3, 'UTC'),
    state LowCardinality(String) COMMENT 'running, finished, failed, killed, preempted or crashed',
    exit_reason String,
    heartbeat DateTime64(3, 'UTC') COMMENT 'the agent''s clock when this state was written',
    next_seq UInt64 COMMENT 'all seqs below it were given out',
    rows_logged UInt64 COMMENT 'calls and records logged',
    points_logged UInt64 COMMENT 'metric values accepted by log calls',
    points_dropped Map(String, UInt64) COMMENT 'metric values given up, by reason',
    rows_shipped UInt64 COMMENT 'rows acknowledged by Kafka',
    points_shipped UInt64 COMMENT 'metric values acknowledged by Kafka',
    environment Map(String, String) COMMENT 'what was captured of the surroundings at start'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (run_id, writer)
COMMENT 'states of writers: query the view writers';

CREATE OR REPLACE VIEW writers AS
SELECT *, arraySum(mapValues(points_dropped)) AS points_dropped_total
FROM writer_states FINAL;

-- A writer does not count for the run's state once another process of its rank began after its last sign of life: a later attempt took its place.
CREATE OR REPLACE VIEW runs AS
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
            kind = 'rank' AND heartbeat >= max(if(kind = 'rank', started, toDateTime64(0, 3, 'UTC'))) OVER (PARTITION BY run_id, rank) AS counts
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
    )
SELECT
    run_id,
    if(said.project != '', said.project, wrote.project) AS project,
    ifNull(said.name, '') AS name,
    ifNull(said.owner, '') AS owner,
    ifNull(said.namespace, '') AS namespace,
    ifNull(said.external_id, '') AS external_id,
    ifNull(said.framework, '') AS framework,
    ifNull(said.task, '') AS task,
    ifNull(said.notes, '') AS notes,
    said.tags AS tags,
    said.metadata AS metadata,
    wrote.state AS state,
    coalesce(wrote.started, said.said_first) AS started,
    if(wrote.state IN ('', 'running'), NULL, wrote.updated) AS ended,
    greatest(coalesce(wrote.updated, said.said_last), said.said_last) AS updated,
    wrote.writers AS writers,
    wrote.points AS points,
    wrote.points AS points_logged
FROM said
FULL OUTER JOIN wrote USING (run_id)
WHERE run_id != toUUID('00000000-0000-0000-0000-000000000000');

-- The account of each writer: what it logged has been shipped and is stored, to the last point; what it dropped was never accepted and is shown by reason.
CREATE OR REPLACE VIEW account AS
SELECT
    writers.run_id AS run_id,
    writers.writer AS writer,
    writers.kind AS kind,
    writers.rank AS rank,
    writers.state AS state,
    writers.rows_logged AS rows_logged,
    writers.rows_shipped AS rows_shipped,
    writers.points_logged AS points_logged,
    writers.points_dropped AS points_dropped,
    writers.points_dropped_total AS points_dropped_total,
    writers.points_shipped AS points_shipped,
    stored.points AS points_stored,
    (writers.points_logged = writers.points_shipped AND writers.points_shipped = stored.points)::Bool AS balanced
FROM writers
LEFT JOIN
(
    SELECT run_id, writer, sum(points) AS points
    FROM
    (
        SELECT run_id, writer, count() AS points FROM metrics GROUP BY run_id, writer
        UNION ALL
        SELECT run_id, writer, count() AS points FROM hardware GROUP BY run_id, writer
    )
    GROUP BY run_id, writer
) AS stored ON writers.run_id = stored.run_id AND writers.writer = stored.writer;
