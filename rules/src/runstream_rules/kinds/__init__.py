"""The kinds of rules there are, by the name that rules carry."""

from runstream_rules.kinds.aggregate import Aggregate
from runstream_rules.kinds.base import BlockKind, Seen, SeriesKind
from runstream_rules.kinds.change import Change
from runstream_rules.kinds.divergence import Divergence
from runstream_rules.kinds.non_finite import NonFinite
from runstream_rules.kinds.plateau import Plateau
from runstream_rules.kinds.ranks import Desync, Disagreement, Straggler
from runstream_rules.kinds.stale import Stale
from runstream_rules.kinds.threshold import Threshold
from runstream_rules.kinds.throughput import Throughput
from runstream_rules.kinds.zscore import ZScore

SERIES_KINDS: dict[str, SeriesKind] = {
    "threshold": Threshold(),
    "aggregate": Aggregate(),
    "change": Change(),
    "zscore": ZScore(),
    "non_finite": NonFinite(),
    "plateau": Plateau(),
    "divergence": Divergence(),
    "throughput": Throughput(),
    "stale": Stale(),
}
BLOCK_KINDS: dict[str, BlockKind] = {"straggler": Straggler(), "desync": Desync(), "disagreement": Disagreement()}

__all__ = ["BLOCK_KINDS", "SERIES_KINDS", "BlockKind", "Seen", "SeriesKind"]
