-- What the notifier did with alerts. A notifier that died before it could note a delivery makes it again; one that was delivered holds over one that failed, else the first holds.
CREATE TABLE IF NOT EXISTS deliveries_log
(
    alert_id String COMMENT 'the alert',
    version UInt64 COMMENT 'its transition: 0 firing, 1 resolved',
    channel LowCardinality(String) COMMENT 'name of the channel; empty if nobody was to be notified',
    way LowCardinality(String) COMMENT 'how the channel sends: webhook, or the scheme of its Apprise address',
    outcome LowCardinality(String) COMMENT 'delivered, failed, late, silenced or unrouted',
    reason String COMMENT 'why it failed, or which silence held',
    message_id String COMMENT 'message that told it; empty if none was made',
    alerts UInt32 COMMENT 'how many transitions that message told',
    tries UInt32 COMMENT 'how often it was tried',
    run_id UUID COMMENT 'run; all zeros without one',
    rule_id String COMMENT 'rule that decided',
    severity LowCardinality(String) COMMENT 'info, warning or critical',
    state LowCardinality(String) COMMENT 'firing or resolved',
    time DateTime64(3, 'UTC') COMMENT 'producer time of the row of the transition',
    taken DateTime64(3, 'UTC') COMMENT 'when the notifier read the alert',
    done DateTime64(3, 'UTC') COMMENT 'when the outcome was known',
    precedence UInt64 MATERIALIZED if(outcome = 'delivered', 9223372036854775807, 4611686018427387904) - toUnixTimestamp64Milli(done) COMMENT 'a delivery holds over a failure, else the first outcome holds',
    received DateTime('UTC') MATERIALIZED now() COMMENT 'when the row was inserted; retention goes by it' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree(precedence)
ORDER BY (run_id, alert_id, version, channel)
COMMENT 'what became of alerts on the channels of the notifier: query the view deliveries';

CREATE OR REPLACE VIEW deliveries
(
    deliveries_log.*,
    latency_ms Int64 COMMENT 'from the row of the transition to the outcome'
)
AS SELECT *, dateDiff('millisecond', time, done) AS latency_ms
FROM deliveries_log FINAL
COMMENT 'what became of each alert on each channel: delivered or failed and why, how often it was tried, how long it took';
