"""What the leader of a consumer group must know before it shares the partitions out.

Faust shares them out by what the leader knows of the cluster. A broker that has just come back may not know its topics yet; Faust then leaves them out, nobody has their
partitions, and everybody is content (tried: for good). So a leader that does not know a topic ends, and the partitions are shared out again.
"""

# Faust's own annotations leave most types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeStubs=false, reportAny=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runstream_processors.errors import EngineFailed

if TYPE_CHECKING:
    from collections.abc import Callable


def guard(assignor: Any, topics: set[str], fail: Callable[[BaseException], None]) -> None:
    """Makes Faust's assignor call `fail` with an EngineFailed that names the topics it would leave out, in the thread in which Faust speaks with Kafka."""
    share_out = assignor.assign

    def assign(cluster: Any, members: Any) -> Any:
        unknown = sorted(topic for topic in topics if not cluster.partitions_for_topic(topic))
        if unknown:
            fail(EngineFailed(f"Kafka did not know {', '.join(unknown)} when partitions were shared out, so that nobody has them"))
        return share_out(cluster, members)

    assignor.assign = assign
