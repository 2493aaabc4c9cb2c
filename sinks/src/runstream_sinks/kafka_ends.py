"""Asks Kafka where partitions end and what the group has committed, without ever waiting: the answers are there at a later look."""

# pyright: reportPrivateImportUsage=false, reportUnknownMemberType=false
# (confluent-kafka leaves out of its list of names what its documentation names, and the answers of its futures open.)

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from runstream_feed.records import Place
from runstream_sinks.kafka_config import common_config
from runstream_sinks.log import logger

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from confluent_kafka.admin import ListOffsetsResultInfo

    from runstream_schemas.settings import Settings

ASK_INTERVAL_S = 5.0
ANSWER_TIMEOUT_S = 10.0


class Ends:
    """One question at a time; a question that is not answered in time is asked again."""

    def __init__(self, settings: Settings, group: str) -> None:
        self._admin = AdminClient({**common_config(settings), **settings.kafka_options}, logger=logger)
        self._group = group
        self._ask_at = 0.0
        self._ends: dict[Place, Future[ListOffsetsResultInfo]] = {}
        self._committed: Future[ConsumerGroupTopicPartitions] | None = None

    def ask(self, places: Sequence[Place], now: float) -> None:
        """Asks about these partitions, if it is time to."""
        if now < self._ask_at or self._ends or not places:
            return
        self._ask_at = now + ASK_INTERVAL_S
        asked = {TopicPartition(*place): cast("OffsetSpec", OffsetSpec.latest()) for place in places}
        ends = cast("dict[TopicPartition, Future[ListOffsetsResultInfo]]", self._admin.list_offsets(asked, request_timeout=ANSWER_TIMEOUT_S))
        self._ends = {Place(one.topic, one.partition): future for one, future in ends.items()}
        group = ConsumerGroupTopicPartitions(self._group, [TopicPartition(*place) for place in places])
        answers = cast("dict[str, Future[ConsumerGroupTopicPartitions]]", self._admin.list_consumer_group_offsets([group], request_timeout=ANSWER_TIMEOUT_S))
        self._committed = answers[self._group]

    def answers(self) -> tuple[dict[Place, int], dict[Place, int]] | None:
        """Where partitions end, and the group's offsets (0 where it has none); None while there is no answer. Partitions that Kafka did not answer for are left out."""
        self._admin.poll(0)
        committed = self._committed
        if committed is None or not committed.done() or not all(one.done() for one in self._ends.values()):
            return None
        asked, self._ends, self._committed = self._ends, {}, None
        try:
            offsets = {Place(one.topic, one.partition): max(0, one.offset) for one in committed.result().topic_partitions or () if one.error is None}
        except KafkaException:
            return None
        return {place: one.result().offset for place, one in asked.items() if one.exception() is None}, offsets
