"""The pure core of Runstream: alert rules and summaries, without I/O and without a clock."""

from runstream_rules.book import RuleBook, RuleKey, must_wait
from runstream_rules.core import Gap, Outcome, Policy, decide
from runstream_rules.errors import DigestRefused, FileRefused, Problem, RuleFailed, RuleRefused, RulesError, StateUnreadable
from runstream_rules.judge import Item
from runstream_rules.pulse import pulse
from runstream_rules.recompute import Summary, recompute, summaries_of
from runstream_rules.series import BLOCK_SERIES_MAX, Series
from runstream_rules.shapes import alert_id, summary_frame
from runstream_rules.state import WriterState, dump, is_over, let_go, load
from runstream_rules.validate import check
from runstream_schemas.patterns import pattern

__all__ = [
    "BLOCK_SERIES_MAX",
    "DigestRefused",
    "FileRefused",
    "Gap",
    "Item",
    "Outcome",
    "Policy",
    "Problem",
    "RuleBook",
    "RuleFailed",
    "RuleKey",
    "RuleRefused",
    "RulesError",
    "Series",
    "StateUnreadable",
    "Summary",
    "WriterState",
    "alert_id",
    "check",
    "decide",
    "dump",
    "is_over",
    "let_go",
    "load",
    "must_wait",
    "pattern",
    "pulse",
    "recompute",
    "summaries_of",
    "summary_frame",
]
