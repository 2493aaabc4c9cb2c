-- What happened, what was set, and the rules that watch.
CREATE TABLE IF NOT EXISTS events_log
(
    event_id UUID COMMENT 'made by the client',
    run_id UUID COMMENT 'run; all zeros for events without a run',
    writer UInt64 COMMENT 'process start that logged it; 0 for a command',
    seq UInt64 COMMENT 'the writer''s count of everything it logs',
    rank UInt32 COMMENT 'global rank',
    time DateTime64(3, 'UTC') COMMENT 'when it happened',
    name LowCardinality(String) COMMENT 'what happened, such as checkpoint_finished',
    source LowCardinality(String) COMMENT 'which part of the program says so',
    subject String COMMENT 'what it is about; empty is the run itself',
    step Nullable(Int64) COMMENT 'step it belongs to, if any',
    metadata Map(String, String) COMMENT 'values as JSON text',
    received DateTime('UTC') MATERIALIZED now() COMMENT 'when the row was inserted; retention goes by it' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (run_id, writer, seq, event_id)
COMMENT 'events, repeats not yet collapsed: query the view events';

CREATE OR REPLACE VIEW events
(
    events_log.*
)
AS SELECT * FROM events_log FINAL
COMMENT 'what happened, each event once';

CREATE TABLE IF NOT EXISTS params_log
(
    run_id UUID COMMENT 'the run',
    writer UInt64 COMMENT 'process start that logged it',
    seq UInt64 COMMENT 'the writer''s count of everything it logs',
    rank UInt32 COMMENT 'global rank; other ranks than 0 log a param only where theirs differs',
    time DateTime64(3, 'UTC') COMMENT 'when it was logged',
    key String COMMENT 'dotted key, such as optimizer.lr',
    context LowCardinality(String) COMMENT 'phase such as training; may be empty',
    kind LowCardinality(String) COMMENT 'null, bool, int, float, string, list or dict, which is empty',
    value String COMMENT 'the value as JSON text; NaN, Infinity and -Infinity by name',
    str Nullable(String) COMMENT 'the value of kind string',
    i64 Nullable(Int64) COMMENT 'the value of kind int where 64 bits hold it',
    f64 Nullable(Float64) COMMENT 'the value of kinds int and float',
    bool Nullable(Bool) COMMENT 'the value of kind bool',
    received DateTime('UTC') MATERIALIZED now() COMMENT 'when the row was inserted; retention goes by it' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (run_id, key, context, rank, writer, seq)
COMMENT 'every value of every param: query the views params and params_history';

CREATE OR REPLACE VIEW params_history
(
    params_log.*
)
AS SELECT * FROM params_log FINAL
COMMENT 'every value that every param had';

CREATE OR REPLACE VIEW params
(
    params_log.*
)
AS
SELECT *
FROM params_log FINAL
ORDER BY run_id, key, context, rank, time DESC, seq DESC, writer DESC
LIMIT 1 BY run_id, key, context, rank
COMMENT 'params: the newest value of each key, by rank and context';

CREATE TABLE IF NOT EXISTS rules_log
(
    rule_id String COMMENT 'stable id of the rule',
    version UInt64 COMMENT 'grows with each change',
    time DateTime64(3, 'UTC') COMMENT 'client time of the change',
    name String COMMENT 'name for people',
    kind LowCardinality(String) COMMENT 'threshold, aggregate, change ...: docs/rules.md',
    metric String COMMENT 'metric name, or a pattern with * and ?',
    run_id String COMMENT 'only this run; empty is any',
    project String COMMENT 'only this project; empty is any',
    context String COMMENT 'only this context; empty is any',
    rank Nullable(UInt32) COMMENT 'only this rank; null is any',
    operator LowCardinality(String) COMMENT 'one of < <= > >= == != for threshold and aggregate rules',
    threshold Nullable(Float64) COMMENT 'what the watched figure is compared with',
    severity LowCardinality(String) COMMENT 'info, warning or critical',
    text String COMMENT 'message template',
    channels Array(String) COMMENT 'notifier channels; empty is all',
    writer UInt64 COMMENT 'writer that registered it, 0 if none',
    ordinal UInt32 COMMENT 'how many rules that writer had registered with this one',
    deleted Bool COMMENT 'true withdraws the rule',
    seq Int64 COMMENT 'seq at which its writer registered it; -1 if none did',
    active DateTime64(3, 'UTC') COMMENT 'rows of writers that did not register it count from this time on',
    clear Nullable(Float64) COMMENT 'bound at which it resolves; null is the threshold',
    for_s Float64 COMMENT 'seconds that the condition must hold before it fires',
    cooldown_s Float64 COMMENT 'least seconds between two firings of one series',
    aggregate LowCardinality(String) COMMENT 'min, max, mean, median or last for aggregate rules',
    window UInt32 COMMENT 'points that it looks at, or steps of a block across ranks',
    window_s Float64 COMMENT 'seconds that it looks at',
    baseline UInt32 COMMENT 'points of the past that the window is compared with',
    measure LowCardinality(String) COMMENT 'relative or absolute; value or interval for straggler rules',
    direction LowCardinality(String) COMMENT 'up, down or either',
    goal LowCardinality(String) COMMENT 'min or max: which way the metric should go',
    states Array(String) COMMENT 'states that a run_state rule waits for',
    labels Map(String, String) COMMENT 'labels that its alerts carry'
)
ENGINE = ReplacingMergeTree
ORDER BY (rule_id, version, writer)
COMMENT 'every version of every rule, as each writer registered it: query the view rules';

CREATE OR REPLACE VIEW rules
(
    rules_log.*
)
AS
SELECT *
FROM rules_log FINAL
ORDER BY rule_id, version DESC, writer
LIMIT 1 BY rule_id
COMMENT 'alert rules: the newest version of each; a withdrawn one says deleted';

CREATE TABLE IF NOT EXISTS silences_log
(
    silence_id String COMMENT 'stable id of the silence',
    version UInt64 COMMENT 'grows with each change',
    time DateTime64(3, 'UTC') COMMENT 'client time of the change',
    author String COMMENT 'who asked for it',
    comment String COMMENT 'why',
    starts DateTime64(3, 'UTC') COMMENT 'from when it holds',
    ends DateTime64(3, 'UTC') COMMENT 'until when it holds; 1970 is for ever',
    alert_id String COMMENT 'only this alert, which it acknowledges; empty is any',
    rule_id String COMMENT 'only alerts of this rule; empty is any',
    run_id String COMMENT 'only alerts of this run; empty is any',
    project String COMMENT 'only alerts of this project; empty is any',
    metric String COMMENT 'only alerts on metrics of this name or pattern; empty is any',
    labels Map(String, String) COMMENT 'only alerts with all of these labels',
    deleted Bool COMMENT 'true ends it'
)
ENGINE = ReplacingMergeTree
ORDER BY (silence_id, version)
COMMENT 'silences and acknowledgements of alerts: query the view silences';

CREATE OR REPLACE VIEW silences
(
    silences_log.*
)
AS
SELECT *
FROM silences_log FINAL
ORDER BY silence_id, version DESC
LIMIT 1 BY silence_id
COMMENT 'silences and acknowledgements of alerts: the newest version of each';
