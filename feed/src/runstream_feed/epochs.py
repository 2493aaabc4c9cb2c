"""The one request that aiokafka does not know: where the log of a leader's epoch ended (OffsetForLeaderEpoch, KIP-320).

Whoever has read a record from one leader and is given one by a newer leader asks it where the older one's records end. Is that before what was read, the log was cut meanwhile, and reading
goes on from there.
"""

# aiokafka is typed in part, and declares properties for what all its own classes hold as constants.
# pyright: reportMissingTypeStubs=false, reportIncompatibleMethodOverride=false, reportAssignmentType=false

from __future__ import annotations

from typing import Any, NamedTuple

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int16, Int32, Int64, Schema, String

UNKNOWN = -1


class _Answer(Response):
    API_KEY = 23
    API_VERSION = 2
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                ("partitions", Array(("error_code", Int16), ("partition", Int32), ("leader_epoch", Int32), ("end_offset", Int64))),
            ),
        ),
    )


class _Question(RequestStruct):
    API_KEY = 23
    API_VERSION = 2
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(
        (
            "topics",
            Array(
                ("topic", String("utf-8")),
                ("partitions", Array(("partition", Int32), ("current_leader_epoch", Int32), ("leader_epoch", Int32))),
            ),
        ),
    )


class EpochEnds(Request[_Question]):
    """Asks a leader where the epochs of some of its partitions ended."""

    API_KEY = 23

    def __init__(self, asked: dict[tuple[str, int], int]) -> None:
        """`asked` has an epoch for each topic and partition."""
        self._asked = asked

    def build(self, request_struct_class: type[_Question]) -> _Question:
        """The request as it is sent."""
        return request_struct_class([(topic, [(partition, UNKNOWN, epoch)]) for (topic, partition), epoch in self._asked.items()])


class EpochEnd(NamedTuple):
    """The answer for a partition: Kafka's error code (0 for none), and the offset behind the epoch's last record (-1 where it is not known)."""

    code: int
    offset: int


def ends_of(answer: Any) -> dict[tuple[str, int], EpochEnd]:
    """What a leader has said."""
    return {(topic, partition): EpochEnd(code, end) for topic, partitions in answer.topics for code, partition, _, end in partitions}
