-- Records that could not be stored. A record read twice is set aside twice; the first time is kept.
CREATE TABLE IF NOT EXISTS dead_letters_log
(
    topic LowCardinality(String),
    `partition` UInt32,
    `offset` UInt64,
    sha256 String COMMENT 'of the raw value, hexadecimal',
    time DateTime64(3, 'UTC') COMMENT 'its append time',
    key Nullable(String) COMMENT 'raw bytes',
    value String COMMENT 'raw bytes',
    schema_id Nullable(UInt32) COMMENT 'id in its prefix, if it had one',
    reason String COMMENT 'what is wrong with it, without its values',
    worker LowCardinality(String) COMMENT 'who set it aside',
    set_aside DateTime64(3, 'UTC') COMMENT 'when',
    precedence UInt64 MATERIALIZED 9223372036854775807 - toUnixTimestamp64Milli(set_aside)
)
ENGINE = ReplacingMergeTree(precedence)
ORDER BY (topic, `partition`, `offset`, sha256)
COMMENT 'records set aside: query the view dead_letters';

CREATE OR REPLACE VIEW dead_letters AS SELECT * FROM dead_letters_log FINAL;
