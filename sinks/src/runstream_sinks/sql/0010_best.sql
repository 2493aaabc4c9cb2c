-- A goal is said of a metric's name or of a pattern: its own name goes before patterns, and a longer pattern before a shorter one.
CREATE OR REPLACE VIEW summaries_best
(
    summary_series.*,
    stddev Float64 COMMENT 'standard deviation of the finite values; NaN without one',
    goal String COMMENT 'min or max, as it was said of the metric or of a pattern that fits it',
    best Float64 COMMENT 'least value where the goal is min, greatest where it is max; NaN without a finite value',
    best_step Int64 COMMENT 'step of the best'
)
AS
SELECT summaries.*,
    arrayFirst(one -> summaries.name LIKE one.2, said.goals).1 AS goal,
    if(goal = 'min', summaries.min, summaries.max) AS best,
    if(goal = 'min', summaries.min_step, summaries.max_step) AS best_step
FROM summaries
INNER JOIN
(
    SELECT
        run_id,
        arraySort(one -> (one.3, one.4), groupArray((goal, fitting, position(name, '*') > 0 OR position(name, '?') > 0, -length(name)))) AS goals
    FROM
    (
        SELECT run_id, name, goal, replaceAll(replaceAll(replaceRegexpAll(name, '([%_\\\\])', '\\\\\\1'), '*', '%'), '?', '_') AS fitting
        FROM metric_definitions
        WHERE goal IN ('min', 'max')
    )
    GROUP BY run_id
) AS said ON summaries.run_id = said.run_id
WHERE goal != ''
COMMENT 'summaries of metrics that have a goal, with the best value that it makes: the least or the greatest';
