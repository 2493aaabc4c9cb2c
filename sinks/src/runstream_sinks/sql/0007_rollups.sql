-- Rollups of metrics: each series in blocks of 4,096 of its writer's seqs. A block is always computed whole, from FINAL, and replaces what was there if it has seen as many points or more:
-- so repeats, late rows and passes that overtake one another all come to the same. Which blocks are stale is known by when rows of them were inserted and when they were last computed.
CREATE TABLE IF NOT EXISTS rollup_blocks
(
    run_id UUID COMMENT 'the run' CODEC(ZSTD(1)),
    writer UInt64 COMMENT 'process start whose seqs are counted' CODEC(Delta, ZSTD(1)),
    block UInt64 COMMENT 'seq divided by 4,096' CODEC(DoubleDelta, ZSTD(1)),
    written SimpleAggregateFunction(max, DateTime64(3, 'UTC')) COMMENT 'when rows of it were last inserted, by the server''s clock' CODEC(Delta, ZSTD(1)),
    computed SimpleAggregateFunction(max, DateTime64(3, 'UTC')) COMMENT 'when the newest rollup of it began, by the server''s clock' CODEC(Delta, ZSTD(1))
)
ENGINE = AggregatingMergeTree
ORDER BY (run_id, writer, block)
COMMENT 'when each block was last written and last rolled up: query the view rollup_stale';

-- Marks what is written: it neither sums nor counts, and marking twice is marking once.
CREATE MATERIALIZED VIEW IF NOT EXISTS rollup_marks TO rollup_blocks
(
    run_id UUID COMMENT 'the run',
    writer UInt64 COMMENT 'process start whose seqs are counted',
    block UInt64 COMMENT 'seq divided by 4,096',
    written DateTime64(3, 'UTC') COMMENT 'when rows of it are inserted'
)
AS SELECT run_id, writer, intDiv(seq, 4096) AS block, now64(3, 'UTC') AS written
FROM metric_points
GROUP BY run_id, writer, block
COMMENT 'marks the blocks that rows are inserted into';

CREATE TABLE IF NOT EXISTS metric_rollups
(
    run_id UUID COMMENT 'run; all zeros for points without a run' CODEC(ZSTD(1)),
    subject LowCardinality(String) COMMENT 'what the values are about; empty is the run itself' CODEC(ZSTD(1)),
    name LowCardinality(String) COMMENT 'metric name, nested names joined with /' CODEC(ZSTD(1)),
    context LowCardinality(String) COMMENT 'phase such as training or validation; may be empty' CODEC(ZSTD(1)),
    rank UInt32 COMMENT 'global rank' CODEC(ZSTD(1)),
    writer UInt64 COMMENT 'the process start that logged them' CODEC(Delta, ZSTD(1)),
    block UInt64 COMMENT 'seq divided by 4,096' CODEC(DoubleDelta, ZSTD(1)),
    attempt LowCardinality(String) COMMENT 'key of the attempt' CODEC(ZSTD(1)),
    started DateTime('UTC') COMMENT 'start of the writer; chooses the partition and the end of retention' CODEC(Delta, ZSTD(1)),
    count UInt64 COMMENT 'values, non-finite ones included; of two rollups of one block the one with more holds' CODEC(Delta, ZSTD(1)),
    non_finite UInt64 COMMENT 'of those, NaN and infinities' CODEC(ZSTD(1)),
    sum Float64 COMMENT 'of the finite values' CODEC(ZSTD(1)),
    min Float64 COMMENT 'least finite value; NaN without one' CODEC(ZSTD(1)),
    max Float64 COMMENT 'greatest finite value; NaN without one' CODEC(ZSTD(1)),
    last Float64 COMMENT 'value of the greatest seq' CODEC(ZSTD(1)),
    first_step Int64 COMMENT 'least step' CODEC(Delta, ZSTD(1)),
    last_step Int64 COMMENT 'greatest step' CODEC(Delta, ZSTD(1)),
    first_time DateTime64(3, 'UTC') COMMENT 'earliest time' CODEC(Delta, ZSTD(1)),
    last_time DateTime64(3, 'UTC') COMMENT 'latest time' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(count)
PARTITION BY toYYYYMM(started)
ORDER BY (run_id, name, context, subject, rank, writer, block)
COMMENT 'rolled-up blocks, some of them replaced by later ones or stale: query the view rollups';

-- Two minutes: longer than an insert may take from its mark to its last row, and than clocks of a cluster differ.
CREATE OR REPLACE VIEW rollup_stale
(
    run_id UUID COMMENT 'the run',
    writer UInt64 COMMENT 'process start whose seqs are counted',
    block UInt64 COMMENT 'seq divided by 4,096'
)
AS SELECT run_id, writer, block
FROM rollup_blocks
GROUP BY run_id, writer, block
HAVING max(written) + INTERVAL 2 MINUTE >= max(computed)
COMMENT 'blocks with rows that the newest rollup may not have seen';

CREATE OR REPLACE VIEW rollups_now
(
    metric_rollups.*
)
AS SELECT
    run_id, subject, name, context, rank, writer, intDiv(seq, 4096) AS block, any(points.attempt) AS attempt, any(points.started) AS started,
    count() AS count, countIf(NOT isFinite(value)) AS non_finite, sumIf(value, isFinite(value)) AS sum,
    ifNull(minOrNullIf(value, isFinite(value)), nan) AS min, ifNull(maxOrNullIf(value, isFinite(value)), nan) AS max, argMax(value, seq) AS last,
    min(step) AS first_step, max(step) AS last_step, min(time) AS first_time, max(time) AS last_time
FROM metric_points AS points FINAL
GROUP BY run_id, subject, name, context, rank, writer, block
COMMENT 'what a rollup of every block comes to now, from its points: query the view rollups';

CREATE OR REPLACE VIEW rollups
(
    metric_rollups.*
)
AS SELECT * FROM metric_rollups FINAL
WHERE (run_id, writer, block) GLOBAL NOT IN (SELECT run_id, writer, block FROM rollup_stale)
UNION ALL
SELECT * FROM rollups_now
WHERE (run_id, writer, block) GLOBAL IN (SELECT run_id, writer, block FROM rollup_stale)
COMMENT 'each series in blocks of 4,096 log calls of its process: count, sum, extremes; exact at any moment, for series too long to read point by point';
