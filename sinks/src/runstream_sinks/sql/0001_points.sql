-- Metric and hardware points. The identity of a point is its sort key; a repeat is byte for byte the same row, so no version is needed.
-- `started` is the writer's, so a repeated row always meets itself in one partition.
CREATE TABLE IF NOT EXISTS metric_points
(
    run_id UUID COMMENT 'run; all zeros for points without a run',
    subject LowCardinality(String) COMMENT 'what the value is about; empty is the run itself',
    name LowCardinality(String) COMMENT 'metric name, nested names joined with /',
    context LowCardinality(String) COMMENT 'phase such as training or validation; may be empty',
    rank UInt32 COMMENT 'global rank',
    step Int64 COMMENT 'step as logged, or the writer''s own counter' CODEC(DoubleDelta, ZSTD(1)),
    time DateTime64(3, 'UTC') COMMENT 'the producer''s clock' CODEC(Delta, ZSTD(1)),
    writer UInt64 COMMENT 'one process start' CODEC(Delta, ZSTD(1)),
    attempt LowCardinality(String) COMMENT 'key of the attempt',
    started DateTime('UTC') COMMENT 'start of the writer, held within 2000 to 2049; chooses the partition' CODEC(Delta, ZSTD(1)),
    seq UInt64 COMMENT 'the writer''s count of everything it logs' CODEC(DoubleDelta, ZSTD(1)),
    value Float64 COMMENT 'the value; NaN and infinities are values' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(started)
ORDER BY (run_id, name, context, subject, rank, step, writer, seq)
COMMENT 'one row a logged value, repeats not yet collapsed: query the view metrics';

CREATE TABLE IF NOT EXISTS hardware_points
(
    run_id UUID COMMENT 'run; all zeros for readings without a run',
    subject LowCardinality(String) COMMENT 'what the value is about; empty is the run itself',
    name LowCardinality(String) COMMENT 'reading, with the device in its labels',
    context LowCardinality(String) COMMENT 'context; may be empty',
    rank UInt32 COMMENT 'global rank',
    step Int64 COMMENT 'the sampler''s counter' CODEC(DoubleDelta, ZSTD(1)),
    time DateTime64(3, 'UTC') COMMENT 'the sampler''s clock' CODEC(Delta, ZSTD(1)),
    writer UInt64 COMMENT 'the agent''s process start' CODEC(Delta, ZSTD(1)),
    attempt LowCardinality(String) COMMENT 'key of the attempt',
    started DateTime('UTC') COMMENT 'start of the writer, held within 2000 to 2049; chooses the partition' CODEC(Delta, ZSTD(1)),
    seq UInt64 COMMENT 'the writer''s count of everything it logs' CODEC(DoubleDelta, ZSTD(1)),
    value Float64 COMMENT 'the reading' CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(started)
ORDER BY (run_id, name, context, subject, rank, step, writer, seq)
COMMENT 'one row a hardware reading, repeats not yet collapsed: query the view hardware';

CREATE OR REPLACE VIEW metrics AS SELECT * FROM metric_points FINAL;

CREATE OR REPLACE VIEW hardware AS SELECT * FROM hardware_points FINAL;
