-- Metric and hardware points. The identity of a point is its sort key; a repeat is byte for byte the same row, so no version is needed.
-- `started` is the writer's, so a repeated row always meets itself in one partition.
-- A point's subject is fixed by its identity, so the key does without it: each column there is compared for each row that FINAL reads.
-- Codecs are measured: differences before ZSTD(3) for time and value save a tenth and cost no speed that shows; steps and seqs are read twice as fast this way (docs/decisions).
CREATE TABLE IF NOT EXISTS metric_points
(
    run_id UUID COMMENT 'run; all zeros for points without a run' CODEC(ZSTD(1)),
    subject LowCardinality(String) COMMENT 'what the value is about, such as model/NAME/VERSION; empty is the run itself' CODEC(ZSTD(1)),
    name LowCardinality(String) COMMENT 'metric name, nested names joined with /' CODEC(ZSTD(1)),
    context LowCardinality(String) COMMENT 'phase such as training or validation; may be empty' CODEC(ZSTD(1)),
    rank UInt32 COMMENT 'global rank' CODEC(ZSTD(1)),
    step Int64 COMMENT 'step as logged, or the writer''s own counter' CODEC(Delta, LZ4HC),
    time DateTime64(3, 'UTC') COMMENT 'the producer''s clock' CODEC(Delta, ZSTD(3)),
    writer UInt64 COMMENT 'the process start that logged it' CODEC(Delta, ZSTD(1)),
    attempt LowCardinality(String) COMMENT 'key of the attempt, the same on all ranks of one start' CODEC(ZSTD(1)),
    started DateTime('UTC') COMMENT 'start of the writer, held within 2000 to 2049; chooses the partition and the end of retention' CODEC(Delta, ZSTD(1)),
    seq UInt64 COMMENT 'the writer''s count of everything it logs' CODEC(Delta, LZ4HC),
    value Float64 COMMENT 'the value; NaN and infinities are values' CODEC(Delta, ZSTD(3)),
    INDEX seqs seq TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(started)
ORDER BY (run_id, name, context, rank, step, writer, seq)
COMMENT 'one row a logged value, repeats not yet collapsed: query the view metrics';

CREATE TABLE IF NOT EXISTS hardware_points
(
    run_id UUID COMMENT 'run; all zeros for readings without a run' CODEC(ZSTD(1)),
    subject LowCardinality(String) COMMENT 'what the reading is about; empty is the run itself' CODEC(ZSTD(1)),
    name LowCardinality(String) COMMENT 'reading, with the device in its labels, such as gpu.utilization{gpu=0}' CODEC(ZSTD(1)),
    context LowCardinality(String) COMMENT 'context; may be empty' CODEC(ZSTD(1)),
    rank UInt32 COMMENT 'global rank' CODEC(ZSTD(1)),
    step Int64 COMMENT 'the sampler''s counter' CODEC(Delta, LZ4HC),
    time DateTime64(3, 'UTC') COMMENT 'the sampler''s clock' CODEC(Delta, ZSTD(3)),
    writer UInt64 COMMENT 'the agent''s writer of this run''s readings' CODEC(Delta, ZSTD(1)),
    attempt LowCardinality(String) COMMENT 'key of the attempt' CODEC(ZSTD(1)),
    started DateTime('UTC') COMMENT 'start of the writer, held within 2000 to 2049; chooses the partition and the end of retention' CODEC(Delta, ZSTD(1)),
    seq UInt64 COMMENT 'the writer''s count of everything it logs' CODEC(Delta, LZ4HC),
    value Float64 COMMENT 'the reading' CODEC(Delta, ZSTD(3))
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(started)
ORDER BY (run_id, name, context, rank, step, writer, seq)
COMMENT 'one row a hardware reading, repeats not yet collapsed: query the view hardware';

CREATE OR REPLACE VIEW metrics
(
    metric_points.*
)
AS SELECT * FROM metric_points FINAL
COMMENT 'every value that was logged, once';

CREATE OR REPLACE VIEW hardware
(
    hardware_points.*
)
AS SELECT * FROM hardware_points FINAL
COMMENT 'every hardware reading, once; the device is in the labels of the name';
