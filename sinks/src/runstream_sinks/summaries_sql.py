"""The SQL that computes the summaries of a run anew from its stored points and holds them against the stored ones. Only a text is made here; `verify_summaries` asks.

Values never leave the engine unless they differ. Points are read once through the views, and groups spill to disk, so a run of any size is compared in bounded memory.
"""

# ruff: noqa: S608
# (The names are ours; whatever people say goes through parameters.)

from __future__ import annotations

from runstream_sinks.checksums import GROUP_BYTES_MAX

EXAMPLES = 1000
TOLERANCE = 1e-9
"""How far floats may be apart. Sums in another order differ in their last bits, by a share of what is summed: so sum and mean go by the series' greatest magnitude, and the variance by that
and its own size. Values that are copied (least, greatest, first, last) must be equal."""

RUNS = """
SELECT toString(run_id)
FROM (SELECT run_id FROM summary_series UNION DISTINCT SELECT run_id FROM metric_points UNION DISTINCT SELECT run_id FROM hardware_points)
"""

# Squares of greater values overflow a double, or may on the way.
_SQUARE_MAX = 1e150
_COLUMNS = (
    "count", "non_finite", "min", "min_step", "max", "max_step", "mean", "variance", "sum", "first", "first_step", "last", "last_step", "first_time", "last_time"
)  # fmt: skip
_EXACT = ("count", "non_finite", "min", "min_step", "max", "max_step", "first", "first_step", "last", "last_step", "first_time", "last_time")
_SERIES = "name, context, subject, rank, writer"


def _same(column: str) -> str:
    """Whether a column is the same on both sides. What overflows a double in one order of summing need not in another, so it is not compared."""
    here, there = (f"{side}.{_COLUMNS.index(column) + 1}" for side in ("stored", "computed"))
    if column in _EXACT:
        numbers = f"{here} = {there}"
        return numbers if column not in ("min", "max", "first", "last") else f"({numbers} OR (isNaN({here}) AND isNaN({there})))"
    unlike = f"abs({here} - {there})"
    bound = {
        "mean": f"{TOLERANCE} * size",
        "sum": f"{TOLERANCE} * size * computed.1",
        "variance": f"{TOLERANCE} * (there + size * sqrt(there)) + {TOLERANCE} * size * {TOLERANCE} * size",
    }[column].replace("there", there)
    return f"({here} = {there} OR NOT isFinite({there}) OR size >= {_SQUARE_MAX} OR {unlike} <= {bound})"


COMPARED = f"""
WITH
    points AS (SELECT {_SERIES}, step, time, seq, value FROM metrics WHERE run_id = {{run:UUID}}
        UNION ALL SELECT {_SERIES}, step, time, seq, value FROM hardware WHERE run_id = {{run:UUID}}),
    sides AS
    (
        SELECT {_SERIES}, 1 AS side, max(seq) + 1 AS until,
            tuple(
                count(), countIf(NOT isFinite(value)),
                ifNull(minOrNullIf(value, isFinite(value)), nan), argMinIf(step, (value, seq), isFinite(value)),
                ifNull(maxOrNullIf(value, isFinite(value)), nan), argMaxIf(step, (value, -toInt64(seq)), isFinite(value)),
                sumKahanIf(value, isFinite(value)) / countIf(isFinite(value)), varPopStableIf(value, isFinite(value)), sumKahanIf(value, isFinite(value)),
                argMin(value, seq), argMin(step, seq), argMax(value, seq), argMax(step, seq),
                toUnixTimestamp64Milli(argMin(time, seq)), toUnixTimestamp64Milli(argMax(time, seq))
            ) AS figures
        FROM points GROUP BY {_SERIES}
        UNION ALL
        SELECT {_SERIES}, 0 AS side, next_seq AS until,
            tuple(
                count, non_finite, min, min_step, max, max_step, mean, if(count > non_finite, m2 / (count - non_finite), nan), sum,
                first, first_step, last, last_step, toUnixTimestamp64Milli(first_time), toUnixTimestamp64Milli(last_time)
            ) AS figures
        FROM summaries WHERE run_id = {{run:UUID}}
    ),
    series AS
    (
        SELECT {_SERIES},
            countIf(side = 0) > 0 AS has_summary, countIf(side = 1) > 0 AS has_points,
            maxIf(until, side = 0) AS seen, maxIf(until, side = 1) AS wanted,
            anyIf(figures, side = 0) AS stored, anyIf(figures, side = 1) AS computed,
            max(maxIf(until, side = 0)) OVER (PARTITION BY writer) AS writer_seen
        FROM sides GROUP BY {_SERIES}
    ),
    judged AS
    (
        SELECT *,
            greatest(abs(computed.3), abs(computed.5)) AS size,
            multiIf(
                NOT has_points, 'no points',
                has_summary AND seen < wanted, 'behind',
                NOT has_summary AND writer_seen < wanted, 'behind',
                NOT has_summary, 'no summary',
                '') AS what,
            if(what != '', [], arrayFilter(one -> NOT one.2, [{", ".join(f"('{column}', toBool({_same(column)}))" for column in _COLUMNS)}]).1) AS unlike
        FROM series
    )
SELECT
    count(), countIf(what = 'behind'), countIf(what = 'no points'), countIf(what = 'no summary' OR notEmpty(unlike)),
    arraySort(groupArrayIf({EXAMPLES})(
        ({_SERIES}, what, unlike, [{", ".join(f"toString(stored.{place})" for place in range(1, len(_COLUMNS) + 1))}],
            [{", ".join(f"toString(computed.{place})" for place in range(1, len(_COLUMNS) + 1))}]),
        what = 'no summary' OR notEmpty(unlike)))
FROM judged
SETTINGS max_bytes_before_external_group_by = {GROUP_BYTES_MAX}, max_bytes_before_external_sort = {GROUP_BYTES_MAX}
"""
COLUMNS = _COLUMNS
