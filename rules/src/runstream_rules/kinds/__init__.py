"""The kinds of rules there are, by the name that rules carry."""

from runstream_rules.kinds.base import Kind
from runstream_rules.kinds.non_finite import NonFinite
from runstream_rules.kinds.threshold import Threshold

KINDS: dict[str, Kind] = {"threshold": Threshold(), "non_finite": NonFinite()}

__all__ = ["KINDS", "Kind"]
