-- What `runstream migrate --retain` was told, and what that means for the account. Every change is kept, since rows that an earlier, shorter retention took stay away.
CREATE TABLE IF NOT EXISTS retention_log
(
    name LowCardinality(String) COMMENT 'view whose rows are meant',
    since DateTime64(3, 'UTC') COMMENT 'from when on it holds, by the server''s clock',
    days UInt32 COMMENT 'days that rows are kept; 0 is for ever'
)
ENGINE = ReplacingMergeTree
ORDER BY (name, since)
COMMENT 'changes of retention: query the view retention';

-- The horizon is the latest moment up to which any retention so far may have taken rows: a retention of N days that ended at T reached back to T minus N days.
CREATE OR REPLACE VIEW retention
(
    name LowCardinality(String) COMMENT 'view whose rows are meant',
    days UInt32 COMMENT 'days that rows are kept now; 0 is for ever',
    since DateTime64(3, 'UTC') COMMENT 'from when on that holds',
    horizon DateTime64(3, 'UTC') COMMENT 'rows of processes that started before it, or that were received before it, may have been retired; 1970 if none were'
)
AS
SELECT
    name,
    argMax(kept.days, kept.since) AS days,
    max(kept.since) AS since,
    maxIf(kept.until - toIntervalDay(kept.days), kept.days > 0) AS horizon
FROM
(
    SELECT name, since, days, leadInFrame(since, 1, now64(3, 'UTC')) OVER (PARTITION BY name ORDER BY since ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS until
    FROM retention_log FINAL
) AS kept
GROUP BY name
COMMENT 'how long rows are kept; a view that is not here is kept for ever';

-- The account of each writer: what it logged has been shipped and is stored or retired, to the last point; what it dropped was never accepted and is shown by reason.
CREATE OR REPLACE VIEW account
(
    run_id UUID COMMENT 'the run',
    writer UInt64 COMMENT 'one process start',
    kind LowCardinality(String) COMMENT 'rank for a training process, hardware for the readings of its node, client for a process that has no run, console for the output of one that has',
    rank UInt32 COMMENT 'global rank',
    state LowCardinality(String) COMMENT 'running, finished, failed, killed, preempted or crashed',
    rows_logged UInt64 COMMENT 'calls and records logged',
    rows_shipped UInt64 COMMENT 'rows acknowledged by Kafka',
    points_logged UInt64 COMMENT 'metric values accepted by log calls',
    points_dropped Map(String, UInt64) COMMENT 'metric values given up, by reason',
    points_dropped_total UInt64 COMMENT 'metric values given up, whatever the reason',
    points_shipped UInt64 COMMENT 'metric values acknowledged by Kafka',
    points_stored UInt64 COMMENT 'metric values in the views metrics and hardware',
    points_retired UInt64 COMMENT 'metric values that retention took: those shipped and not stored of a process that started before the horizon',
    balanced Bool COMMENT 'logged = shipped = stored + retired; while a run goes on it may be a heartbeat behind'
)
AS
WITH
    (SELECT max(horizon) FROM retention WHERE name = 'metrics') AS metrics_horizon,
    (SELECT max(horizon) FROM retention WHERE name = 'hardware') AS hardware_horizon
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
    if(toDateTime(writers.started) < ifNull(if(writers.kind = 'hardware', hardware_horizon, metrics_horizon), toDateTime64(0, 3, 'UTC')) AND points_shipped > points_stored, points_shipped - points_stored, 0) AS points_retired,
    (writers.points_logged = writers.points_shipped AND writers.points_shipped = points_stored + points_retired)::Bool AS balanced
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
) AS stored ON writers.run_id = stored.run_id AND writers.writer = stored.writer
COMMENT 'does everything add up? one row a process start';
