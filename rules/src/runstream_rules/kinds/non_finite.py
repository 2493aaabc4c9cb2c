"""Non-finite rules: NaN or an infinity fires, the next finite value resolves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from runstream_rules.kinds.base import Seen
from runstream_rules.regions import Bounds, Region

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runstream_rules.summary import Rows
    from runstream_schemas.records import Rule

    Doubles = NDArray[np.float64]

_GREATEST = float(np.finfo(np.float64).max)


class NonFinite:
    """This kind has no fields of its own."""

    finite = False
    plain = True

    def bounds(self, rule: Rule) -> Bounds:  # noqa: ARG002  # the protocol's signature
        """Whatever is not a finite number."""
        return Bounds(Region(-_GREATEST, _GREATEST, outside=True, nan=True), Region(-_GREATEST, _GREATEST))

    def fresh(self, rule: Rule) -> Doubles:  # noqa: ARG002  # the protocol's signature
        """No state."""
        return np.empty(0)

    def look(self, rule: Rule, state: Doubles, rows: Rows) -> Seen:  # noqa: ARG002  # the protocol's signature
        """The values themselves."""
        return Seen(rows.values, rows.values)
