-- Records that could not be stored. A record read twice is set aside twice; the first time is kept.
CREATE TABLE IF NOT EXISTS dead_letters_log
(
    topic LowCardinality(String) COMMENT 'topic it was on',
    `partition` UInt32 COMMENT 'its partition',
    `offset` UInt64 COMMENT 'its offset',
    sha256 String COMMENT 'of the raw value, hexadecimal',
    time DateTime64(3, 'UTC') COMMENT 'its append time',
    key Nullable(String) COMMENT 'raw bytes',
    value String COMMENT 'raw bytes',
    schema_id Nullable(UInt32) COMMENT 'id in its prefix, if it had one',
    reason String COMMENT 'what is wrong with it, without its values',
    worker LowCardinality(String) COMMENT 'who set it aside',
    set_aside DateTime64(3, 'UTC') COMMENT 'when',
    precedence UInt64 MATERIALIZED 9223372036854775807 - toUnixTimestamp64Milli(set_aside) COMMENT 'of several letters of one record the first is kept',
    received DateTime('UTC') MATERIALIZED now() COMMENT 'when the row was inserted; retention goes by it' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(precedence)
ORDER BY (topic, `partition`, `offset`, sha256)
COMMENT 'records set aside: query the view dead_letters';

CREATE OR REPLACE VIEW dead_letters
(
    dead_letters_log.*
)
AS SELECT * FROM dead_letters_log FINAL
COMMENT 'records that could not be stored, each once: raw bytes, place and reason';
