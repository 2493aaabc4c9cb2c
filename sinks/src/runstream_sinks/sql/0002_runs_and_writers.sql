-- What users say of runs, one row a change, and the state of each process that logs.
CREATE TABLE IF NOT EXISTS run_changes
(
    run_id UUID COMMENT 'the run',
    writer UInt64 COMMENT 'process start that said so; 0 for a command',
    seq UInt64 COMMENT 'the writer''s count of everything it logs',
    time DateTime64(3, 'UTC') COMMENT 'client time of the change',
    project LowCardinality(String) COMMENT 'project of the run',
    name Nullable(String) COMMENT 'name for people; null in this and the columns below: this change does not speak of it',
    owner Nullable(String) COMMENT 'whose run it is',
    namespace Nullable(String) COMMENT 'team or tenant',
    external_id Nullable(String) COMMENT 'the id another system knows the run by',
    framework Nullable(String) COMMENT 'what it trains with',
    task Nullable(String) COMMENT 'what it trains for',
    notes Nullable(String) COMMENT 'words of its people',
    has_tags Bool COMMENT 'whether this change speaks of the tags',
    tags Array(String) COMMENT 'all tags, where this change speaks of them',
    metadata Map(String, String) COMMENT 'keys changed, values as JSON text'
)
ENGINE = ReplacingMergeTree
ORDER BY (run_id, writer, seq)
COMMENT 'changes of runs; what holds now is in the view runs';

CREATE TABLE IF NOT EXISTS writer_states
(
    writer UInt64 COMMENT 'one process start',
    run_id UUID COMMENT 'its run; all zeros without one',
    project LowCardinality(String) COMMENT 'project of the run',
    version UInt64 COMMENT 'the writer''s count of its own states; the greatest holds',
    kind LowCardinality(String) COMMENT 'rank for a training process, hardware for the readings of its node, client for a process that has no run, console for the output of one that has',
    rank UInt32 COMMENT 'global rank',
    local_rank UInt32 COMMENT 'rank within the node',
    world_size UInt32 COMMENT 'how many ranks the job has',
    node LowCardinality(String) COMMENT 'name of the node as the scheduler knows it',
    host LowCardinality(String) COMMENT 'the machine''s own name',
    pid Int64 COMMENT 'process id on the host',
    attempt LowCardinality(String) COMMENT 'key of the attempt, the same on all ranks of one start',
    started DateTime64(3, 'UTC') COMMENT 'start of the process',
    state LowCardinality(String) COMMENT 'running, finished, failed, killed, preempted or crashed',
    exit_reason String COMMENT 'why it ended, where it is known',
    heartbeat DateTime64(3, 'UTC') COMMENT 'last sign of life of the process or its journal',
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

CREATE OR REPLACE VIEW writers
(
    writer_states.*,
    points_dropped_total UInt64 COMMENT 'metric values given up, whatever the reason'
)
AS SELECT *, arraySum(mapValues(points_dropped)) AS points_dropped_total
FROM writer_states FINAL
COMMENT 'each process start that logged: where it ran, how it is or ended, and what it says it logged';

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
