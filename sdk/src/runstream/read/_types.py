"""Of which type the numbers of a series were, and giving them back as that: int64 or bool where every process of the series said so and every value fits, else float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Set

    from numpy import bool_, float64, int64
    from numpy.typing import NDArray

    from runstream.read._ask import Store

NumberType = Literal["bool", "int", "float"]
Place = tuple[str, str, str]
"""Name, context and subject of a series."""

# From here on a double may stand for several integers.
_EXACT = 1 << 53
# A type is told once a metric and process, in a list of the metrics that have it.
_SQL = """
SELECT said, toString(context) AS context, toString(subject) AS subject, writer, toString(metric) AS name
FROM
(
    SELECT name AS said, context, subject, writer, rank, arrayJoin(JSONExtract(value, 'Array(String)')) AS metric
    FROM values_log FINAL
    WHERE run_id = {run:UUID} AND role = 'type'
)
WHERE 1
"""


class Types:
    """What processes said of their metrics. Where one said nothing it logged floats."""

    def __init__(self, said: Mapping[tuple[Place, int], Set[str]]) -> None:
        self._said = said

    def __bool__(self) -> bool:
        """Whether anything was said at all."""
        return bool(self._said)

    def of(self, place: Place, writers: Iterable[int]) -> NumberType:
        """The type on which all these writers of a series agree; float where they do not."""
        return agreed(type_ for writer in writers for type_ in self._said.get((place, writer), {"float"}))


def types_of(store: Store, run_id: str, where: str, asked: Mapping[str, object]) -> Types:
    """What is stored of the types of a run's metrics; `where` are conditions on name, context, subject and rank. Raises ReadError."""
    said: dict[tuple[Place, int], set[str]] = {}
    for row in store.rows(_SQL + where, run=run_id, **asked):
        said.setdefault(((row["name"], row["context"], row["subject"]), row["writer"]), set()).add(row["said"])
    return Types(said)


def agreed(types: Iterable[str]) -> NumberType:
    """The one type of several; float where they differ."""
    found = set(types)
    return cast("NumberType", found.pop()) if len(found) == 1 else "float"


def fitted(values: NDArray[float64], type_: NumberType) -> NDArray[float64] | NDArray[int64] | NDArray[bool_]:
    """The values as what they were, where each of them fits that exactly."""
    if type_ == "int" and bool(np.all((np.abs(values) < _EXACT) & (values == np.floor(values)))):
        return values.astype(np.int64)
    if type_ == "bool" and bool(np.all((values == 0.0) | (values == 1.0))):
        return values.astype(np.bool_)
    return values
