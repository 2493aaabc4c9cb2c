"""A hundred rules of mixed kinds for a fleet's topics, of which ten match what one run logs: the load of the benchmark `process`.

Of the ten, one watches every series (nothing may be NaN), one every tenth or so, and eight one series each, as people write them. The other ninety name metrics, projects and
contexts that are not there, so that they cost what it takes to know that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runstream_schemas.records import Rule

if TYPE_CHECKING:
    from collections.abc import Mapping

WATCHED = "train/loss"
_RULES = 100
# None of them ever fires on readings about 1 with a deviation of 0.1: alerts are the benchmark `alert_latency`'s.
_MATCHING: tuple[Mapping[str, Any], ...] = (
    {"kind": "non_finite", "metric": "*"},
    {"kind": "threshold", "metric": "train/layer_*5/grad_norm", "operator": ">", "threshold": 50.0},
    {"kind": "threshold", "metric": WATCHED, "operator": ">", "threshold": 50.0, "clear": 40.0, "for_s": 30.0},
    {"kind": "aggregate", "metric": WATCHED, "operator": ">", "threshold": 50.0, "aggregate": "mean", "window": 50},
    {"kind": "aggregate", "metric": WATCHED, "operator": ">", "threshold": 50.0, "aggregate": "max", "window_s": 60.0},
    {"kind": "change", "metric": WATCHED, "threshold": 0.9, "direction": "up"},
    {"kind": "zscore", "metric": WATCHED, "threshold": 50.0},
    {"kind": "plateau", "metric": WATCHED, "goal": "min", "window": 100_000_000},
    {"kind": "divergence", "metric": WATCHED, "window": 500},
    {"kind": "throughput", "metric": WATCHED, "threshold": 0.9},
)
_ELSEWHERE: tuple[Mapping[str, Any], ...] = (
    {"metric": "validation/bleu_{}"},
    {"metric": "*/attention_{}/entropy"},
    {"metric": "*", "project": "another-{}"},
    {"metric": "*", "context": "evaluation-{}"},
    {"metric": "train/*", "run_id": "00000000-0000-0000-0000-{:012}"},
)
_KINDS: tuple[Mapping[str, Any], ...] = (
    {"kind": "threshold", "operator": ">", "threshold": 5.0},
    {"kind": "non_finite"},
    {"kind": "zscore", "threshold": 6.0},
    {"kind": "change", "threshold": 0.5},
    {"kind": "aggregate", "operator": "<", "threshold": 0.1, "aggregate": "median", "window": 20},
    {"kind": "straggler", "threshold": 1.5},
)


def rules() -> list[Rule]:
    """The hundred rules."""
    chosen = [dict(one) for one in _MATCHING]
    number = 0
    while len(chosen) < _RULES:
        place, kind = _ELSEWHERE[number % len(_ELSEWHERE)], _KINDS[number % len(_KINDS)]
        chosen.append({**kind, **{field: text.format(number) for field, text in place.items()}})
        number += 1
    return [Rule(rule_id=f"rule-{at:03}", version=1, time_ms=0, name=f"rule {at}", **fields) for at, fields in enumerate(chosen)]
