-- Rich values, and the files, models and data sets that runs made or used.
CREATE TABLE IF NOT EXISTS media_log
(
    run_id UUID COMMENT 'the run',
    writer UInt64 COMMENT 'process start that logged it',
    seq UInt64 COMMENT 'the writer''s count of everything it logs',
    rank UInt32 COMMENT 'global rank',
    time DateTime64(3, 'UTC') COMMENT 'the producer''s clock',
    name LowCardinality(String) COMMENT 'what the value is called',
    kind LowCardinality(String) COMMENT 'value, line, bar, table, heatmap, labelmap, evaluation, image, histogram or text',
    context LowCardinality(String) COMMENT 'phase such as training or validation; may be empty',
    subject LowCardinality(String) COMMENT 'what the value is about; empty is the run itself',
    step Nullable(Int64) COMMENT 'step it belongs to, if any',
    series LowCardinality(String) COMMENT 'of several lines under one name, which one; may be empty',
    replaces Bool COMMENT 'true if it begins a new version of what has its name',
    counted Bool COMMENT 'true if the steps of a line''s points go on from the last one before them',
    steps Array(Int64) COMMENT 'steps of a line''s points; empty where they are counted' CODEC(ZSTD(1)),
    points Array(Float64) COMMENT 'values of a line''s points' CODEC(ZSTD(1)),
    value String COMMENT 'the value as JSON text; of an image its width and height where known; empty for lines and what is in the artifact store' CODEC(ZSTD(1)),
    mime_type LowCardinality(String) COMMENT 'type of an image, or of the object in the artifact store',
    data String COMMENT 'the bytes of an image; empty where it is in the artifact store' CODEC(ZSTD(1)),
    uri String COMMENT 'object in the artifact store that holds the value; empty where this row does',
    checksum String COMMENT 'SHA-256 of that object in hexadecimal',
    size UInt64 COMMENT 'bytes of the value',
    received DateTime('UTC') MATERIALIZED now() COMMENT 'when the row was inserted; retention goes by it' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (run_id, name, context, subject, rank, writer, seq)
COMMENT 'rich values, repeats not yet collapsed: query the views media and media_points';

CREATE OR REPLACE VIEW media
(
    media_log.*,
    version UInt64 COMMENT 'from 0; replace=True begins the next one'
)
AS
SELECT *, countIf(replaces) OVER (PARTITION BY run_id, name, context, subject, rank ORDER BY time, writer, seq) AS version
FROM media_log FINAL
COMMENT 'rich values, each once, with the version of its name that it belongs to';

-- A counted step goes on from the last one of the line, whichever process of the rank logged that. What ends a record's points is the greatest step that was given so far and what has been counted
-- since: the running count and, at its greatest, what each given step was ahead of it.
CREATE OR REPLACE VIEW media_points
(
    run_id UUID COMMENT 'the run',
    name LowCardinality(String) COMMENT 'what the value is called',
    series LowCardinality(String) COMMENT 'of several lines under one name, which one; may be empty',
    context LowCardinality(String) COMMENT 'phase such as training or validation; may be empty',
    subject LowCardinality(String) COMMENT 'what the value is about; empty is the run itself',
    rank UInt32 COMMENT 'global rank',
    version UInt64 COMMENT 'from 0; replace=True begins the next one',
    step Int64 COMMENT 'step of the point',
    value Float64 COMMENT 'value of the point',
    time DateTime64(3, 'UTC') COMMENT 'the producer''s clock when it was logged',
    writer UInt64 COMMENT 'process start that logged it',
    seq UInt64 COMMENT 'the writer''s count of everything it logs',
    place UInt64 COMMENT 'place of the point among those of its record, from 1'
)
AS
SELECT
    run_id, name, series, context, subject, rank, version,
    if(counted, counts + greatest(toInt64(-1), ahead) - toInt64(length(points)) + toInt64(place), steps[place]) AS step,
    points[place] AS value,
    time, writer, seq, place
FROM
(
    SELECT
        *,
        max(if(counted, toInt64(-1), arrayMax(steps) - counts)) OVER (PARTITION BY run_id, name, context, subject, rank, version, series ORDER BY time, writer, seq) AS ahead
    FROM
    (
        SELECT
            *,
            sum(if(counted, toInt64(length(points)), toInt64(0))) OVER (PARTITION BY run_id, name, context, subject, rank, version, series ORDER BY time, writer, seq) AS counts
        FROM media
        WHERE kind = 'line' AND notEmpty(points)
    )
)
ARRAY JOIN arrayEnumerate(points) AS place
COMMENT 'points of lines, each once, with the steps that were given or counted';

CREATE TABLE IF NOT EXISTS artifacts_log
(
    artifact_id UUID COMMENT 'made by the client from what it is: the same from every rank and restart',
    run_id UUID COMMENT 'the run',
    writer UInt64 COMMENT 'process start that logged it',
    seq UInt64 COMMENT 'the writer''s count of everything it logs',
    rank UInt32 COMMENT 'global rank',
    time DateTime64(3, 'UTC') COMMENT 'when it was logged',
    kind LowCardinality(String) COMMENT 'file, folder, tracked, model, model_version or dataset',
    relation LowCardinality(String) COMMENT 'output if the run made it, input if the run used it',
    name String COMMENT 'name of the model or data set, or of the file',
    path String COMMENT 'path within its folder; the name of a single file',
    uri String COMMENT 'where it lies, without credentials; empty where nothing is stored',
    mime_type LowCardinality(String) COMMENT 'type of its content; empty if unknown',
    checksum String COMMENT 'SHA-256 of its content in hexadecimal, of a folder that of its list of files; empty if unknown',
    size Int64 COMMENT 'bytes of its content, -1 if unknown',
    parent String COMMENT 'id of the artifact that it is a part of, else of the run',
    project LowCardinality(String) COMMENT 'project of the run',
    context LowCardinality(String) COMMENT 'phase such as training or validation; may be empty',
    subject LowCardinality(String) COMMENT 'what it is about, such as model/net/1; empty is the run itself',
    step Nullable(Int64) COMMENT 'step it belongs to, if any',
    metadata Map(String, String) COMMENT 'what else is known of it, values as JSON text',
    received DateTime('UTC') MATERIALIZED now() COMMENT 'when the row was inserted; retention goes by it' CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (run_id, artifact_id, relation, writer, seq)
COMMENT 'artifacts, repeats not yet collapsed: query the views artifacts, models, model_versions and datasets';

CREATE OR REPLACE VIEW artifacts
(
    artifacts_log.*
)
AS
SELECT *
FROM artifacts_log FINAL
ORDER BY run_id, artifact_id, relation, context, subject, step, time, writer, seq
LIMIT 1 BY run_id, artifact_id, relation, context, subject, step
COMMENT 'files, folders, models and data sets that runs made or used: each once, whichever ranks said so';

CREATE OR REPLACE VIEW models
(
    run_id UUID COMMENT 'the run',
    project LowCardinality(String) COMMENT 'project of the run',
    name String COMMENT 'name of the model',
    framework String COMMENT 'library that it is of; empty if unknown',
    class String COMMENT 'its type',
    parameters Nullable(UInt64) COMMENT 'how many numbers it has that were or could be trained; null if not known',
    trainable Nullable(UInt64) COMMENT 'how many of them are trained',
    bytes Nullable(UInt64) COMMENT 'memory that its parameters and buffers take',
    layers_uri String COMMENT 'where the list of its layers lies; empty if it was not stored',
    time DateTime64(3, 'UTC') COMMENT 'when it was logged',
    metadata Map(String, String) COMMENT 'everything that is known of it, values as JSON text'
)
AS
SELECT
    run_id,
    project,
    name,
    JSONExtractString(metadata['framework']) AS framework,
    JSONExtractString(metadata['class']) AS class,
    toUInt64OrNull(metadata['parameters']) AS parameters,
    toUInt64OrNull(metadata['trainable']) AS trainable,
    toUInt64OrNull(metadata['bytes']) AS bytes,
    uri AS layers_uri,
    time,
    metadata
FROM artifacts_log FINAL
WHERE kind = 'model'
ORDER BY run_id, name, time DESC, seq DESC, writer DESC
LIMIT 1 BY run_id, name
COMMENT 'what is known of the models of runs: the newest of each name';

CREATE OR REPLACE VIEW model_versions
(
    project LowCardinality(String) COMMENT 'project that the name belongs to',
    name String COMMENT 'name of the model',
    number UInt64 COMMENT 'from 0, in the order in which versions were first saved',
    version String COMMENT 'id of the version: SHA-256 of what was saved, in hexadecimal',
    run_id UUID COMMENT 'run that saved it first',
    artifact_id UUID COMMENT 'id of the artifact in that run',
    uri String COMMENT 'where it lies',
    size Int64 COMMENT 'bytes of it',
    context LowCardinality(String) COMMENT 'phase in which it was saved first; may be empty',
    step Nullable(Int64) COMMENT 'step at which it was saved first, if any',
    time DateTime64(3, 'UTC') COMMENT 'when it was saved first',
    saves UInt64 COMMENT 'how often it was saved, by all runs and ranks',
    metadata Map(String, String) COMMENT 'what else is known of it, values as JSON text'
)
AS
SELECT
    project,
    name,
    row_number() OVER (PARTITION BY project, name ORDER BY first.1, version) - 1 AS number,
    version,
    first.4 AS run_id,
    first.5 AS artifact_id,
    first.6 AS uri,
    first.7 AS size,
    first.8 AS context,
    first.9 AS step,
    first.1 AS time,
    saves,
    first.10 AS metadata
FROM
(
    SELECT
        project,
        name,
        checksum AS version,
        arraySort(one -> (one.1, one.2, one.3), groupArray((time, writer, seq, run_id, artifact_id, uri, size, context, step, metadata)))[1] AS first,
        count() AS saves
    FROM artifacts_log FINAL
    WHERE kind = 'model_version' AND relation = 'output'
    GROUP BY project, name, checksum
)
COMMENT 'versions of models, numbered from 0 a project and name as they are read';

CREATE OR REPLACE VIEW datasets
(
    run_id UUID COMMENT 'the run',
    project LowCardinality(String) COMMENT 'project of the run',
    name String COMMENT 'label of the data set',
    framework String COMMENT 'library that it is of; empty if unknown',
    class String COMMENT 'its type',
    samples Nullable(UInt64) COMMENT 'how many samples it has; null if not known',
    batches Nullable(UInt64) COMMENT 'how many batches a pass over it has',
    batch_size Nullable(UInt64) COMMENT 'samples of a batch',
    workers Nullable(UInt64) COMMENT 'processes that load it',
    shuffled Nullable(Bool) COMMENT 'whether its order changes with each pass',
    columns Array(String) COMMENT 'names of its columns',
    rank UInt32 COMMENT 'global rank',
    context LowCardinality(String) COMMENT 'phase that it is for; may be empty',
    time DateTime64(3, 'UTC') COMMENT 'when it was logged',
    metadata Map(String, String) COMMENT 'everything that is known of it, values as JSON text'
)
AS
SELECT
    run_id,
    project,
    name,
    JSONExtractString(metadata['framework']) AS framework,
    JSONExtractString(metadata['class']) AS class,
    toUInt64OrNull(metadata['samples']) AS samples,
    toUInt64OrNull(metadata['batches']) AS batches,
    toUInt64OrNull(metadata['batch_size']) AS batch_size,
    toUInt64OrNull(metadata['workers']) AS workers,
    multiIf(metadata['shuffled'] = 'true', true, metadata['shuffled'] = 'false', false, NULL) AS shuffled,
    JSONExtract(metadata['columns'], 'Array(String)') AS columns,
    rank,
    context,
    time,
    metadata
FROM artifacts_log FINAL
WHERE kind = 'dataset'
ORDER BY run_id, name, context, rank, time DESC, seq DESC, writer DESC
LIMIT 1 BY run_id, name, context, rank
COMMENT 'data sets that runs used: the newest of each label, rank and phase';
