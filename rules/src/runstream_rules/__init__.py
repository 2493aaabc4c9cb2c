"""The pure core of Runstream: alert rules and summaries, without I/O and without a clock."""

from runstream_rules.book import RuleBook, RuleKey, must_wait, pattern
from runstream_rules.core import Gap, Outcome, Policy, decide
from runstream_rules.errors import RuleRefused, RulesError, StateUnreadable
from runstream_rules.recompute import Summary, recompute, summaries_of
from runstream_rules.series import BLOCK_SERIES_MAX, Series
from runstream_rules.shapes import alert_id, summary_frame
from runstream_rules.state import WriterState, dump, load
from runstream_rules.validate import check

__all__ = [
    "BLOCK_SERIES_MAX",
    "Gap",
    "Outcome",
    "Policy",
    "RuleBook",
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
    "load",
    "must_wait",
    "pattern",
    "recompute",
    "summaries_of",
    "summary_frame",
]
