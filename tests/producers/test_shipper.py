"""One writer's way to Kafka, with Kafka's answers given by the test: order, repeats, refusals, and what is acknowledged when."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from runstream_producers import shipper as shipping
from runstream_producers.journal import format as fmt
from runstream_producers.journal.writer import JournalWriter
from runstream_producers.kafka import Failure
from runstream_producers.shipper import Shipment
from runstream_schemas import records as rec
from tests.producers.journals import make_writer, segments
from tests.producers.ledger import check_account, ledger_of
from tests.producers.senders import TOO_LARGE, UNKNOWN_TOPIC, Answer, ListSender, Sent, frames, others

FRAME_BYTES = 2000


def ship(writer: JournalWriter, sender: ListSender) -> Shipment:
    """A shipment of a writer's journal as an agent takes it up."""
    return Shipment(writer.folder.path, writer.identity, sender, "t", FRAME_BYTES)


def drain(shipment: Shipment, sender: ListSender, *, now: float = 0.0, until: int | None = None) -> None:
    """Steps and answers until the shipment is drained."""
    for _ in range(1000):
        moved = shipment.step(now, until)
        if not sender.settle() and not moved and shipment.drained:
            return
        now += 1.0
    pytest.fail("the shipment was not drained within 1000 rounds")


def log(writer: JournalWriter, rows: int) -> None:
    """Rows of two key sets, and an event among them."""
    for number in range(rows):
        writer.log({"a": float(number)} if number % 2 else {"a": 1.0, "b": 2.0}, step=number)
        if number % 50 == 7:
            writer.record(fmt.Kind.EVENT, {"event_id": str(number), "time_ms": 1, "name": "n"})


def is_frame(sent: Sent) -> bool:
    """Whether a record is a frame."""
    return isinstance(sent.record, rec.MetricFrame)


def test_everything_is_shipped_in_order_and_acknowledged(tmp_path: Path) -> None:
    """Frames account for every seq without a gap, other records come with them, and the acknowledged counts are the writer's."""
    writer, sender = make_writer(tmp_path), ListSender()
    log(writer, 500)
    shipment = ship(writer, sender)
    drain(shipment, sender)
    assert check_account(frames(sender.sent), until=writer.seq) == 0
    assert len(frames(sender.sent)) > 5
    assert len(ledger_of(frames(sender.sent))) == 500
    assert len(others(sender.sent)) == 10
    ack = shipment.ack
    assert (ack.next_seq, ack.rows, ack.points) == (writer.seq, writer.seq, writer.points)
    assert fmt.read_ack((writer.folder.path / "ack").read_bytes()) == ack


def test_nothing_counts_before_its_answer(tmp_path: Path) -> None:
    """The acknowledged position moves over a cut only once every record of it and of those before is answered, in whatever order answers come."""
    writer, sender = make_writer(tmp_path), ListSender()
    log(writer, 200)
    shipment = ship(writer, sender)
    shipment.step(0.0)
    assert shipment.ack.next_seq == 0
    assert not shipment.drained
    first, *rest = [one for one in sender.sent if is_frame(one)]
    for one in reversed(rest):
        one.answer(None)
    shipment.settle(0.0)
    assert shipment.ack.next_seq == 0
    first.answer(None)
    shipment.settle(0.0)
    assert shipment.ack.next_seq == 0  # The event of the first cut is not answered yet.
    for one in sender.sent:
        if not is_frame(one):
            one.answer(None)
    shipment.settle(0.0)
    assert shipment.ack.next_seq == writer.seq


def test_a_new_agent_goes_on_from_the_acknowledged_prefix(tmp_path: Path) -> None:
    """After an agent died with answers missing, another one repeats what was not acknowledged and nothing else; rules keep their ordinals."""
    writer, sender = make_writer(tmp_path), ListSender()
    for number in range(40):
        writer.record(fmt.Kind.RULE, {"rule_id": str(number), "version": 1, "time_ms": 1, "name": "n", "kind": "threshold", "metric": "a", "operator": ">"})
        log(writer, 10)
    before = ship(writer, sender)
    before.step(0.0)
    sent = len(sender.sent)
    for one in sender.sent[: sent // 2]:
        one.answer(None)
    before.settle(0.0)
    reached = before.ack.next_seq
    assert 0 < reached < writer.seq
    before.close()
    sender.forget()
    after = ship(writer, sender)
    drain(after, sender)
    assert check_account(frames(sender.sent[sent:]), first=reached, until=writer.seq) == 0
    assert after.ack.rows == writer.seq
    rules = {record.rule_id: record.ordinal for record in others(sender.sent) if isinstance(record, rec.Rule)}
    assert rules == {str(number): number + 1 for number in range(40)}
    for frame in frames(sender.sent):
        assert frame.rules_seen == sum(one.seq < frame.next_seq for one in _rule_seqs(writer))


def _rule_seqs(writer: JournalWriter) -> list[rec.Event]:
    from tests.producers.journals import raw_rows

    rows = raw_rows(writer.folder.path, writer.identity.writer)
    return [rec.Event("", "", 0, row.seq, 0, "") for row in rows if row.kind == fmt.Kind.RULE]


@pytest.mark.parametrize("failing", range(6))
def test_a_frame_that_fails_is_sent_again_with_all_that_follows(tmp_path: Path, failing: int) -> None:
    """Whichever frame fails, nothing is acknowledged beyond it, what follows is sent again after it, and only once all that was sent before is answered."""
    writer, sender = make_writer(tmp_path), ListSender()
    log(writer, 400)
    shipment = ship(writer, sender)
    shipment.step(0.0)
    sent = list(sender.sent)
    target = [one for one in sent if is_frame(one)][failing]
    sender.forget()
    place = sent.index(target)
    for one in sent[:place]:
        one.answer(None)
    target.answer(Failure(KafkaError(UNKNOWN_TOPIC)))
    assert not shipment.step(0.1)
    assert not shipment.drained
    assert shipment.ack.next_seq <= frames([target])[0].first_seq
    # The pause is over, but what was sent before has no answer yet.
    assert not shipment.step(10.0)
    assert len(sender.sent) == len(sent)
    for one in sent[place + 1 :]:
        one.answer(None)
    assert shipment.step(10.0)
    again = sender.sent[len(sent) :]
    assert frames(again)[0].first_seq == shipment.ack.next_seq
    drain(shipment, sender, now=10.0)
    assert check_account(frames(sender.sent[len(sent) :]), first=frames(again)[0].first_seq, until=writer.seq) == 0
    assert len(ledger_of(frames(sender.sent))) == 400
    assert (shipment.ack.rows, shipment.ack.points) == (writer.seq, writer.points)


def open_frames(sender: ListSender) -> int:
    """How many frames have no answer."""
    return sum(is_frame(one) for one in sender._open)


def test_after_a_failure_frames_go_one_by_one_until_one_has_arrived(tmp_path: Path) -> None:
    """What was wrong may be mended between two frames: the second must not arrive when the first has failed again, or readers would take what is in it for seen."""
    writer, sender = make_writer(tmp_path), ListSender()
    log(writer, 2000)
    shipment = ship(writer, sender)
    shipment.step(0.0)
    assert open_frames(sender) == shipping.FRAMES_MAX
    for round_ in range(3):
        sender.settle(lambda one: UNKNOWN_TOPIC if is_frame(one) else None)
        shipment.step(10.0 * round_)
        shipment.step(10.0 * round_ + 9.0)
        assert open_frames(sender) == 1
    sender.settle()
    shipment.step(100.0)
    assert open_frames(sender) == shipping.FRAMES_MAX


def test_a_producer_that_keeps_no_order_gets_one_frame_at_a_time(tmp_path: Path) -> None:
    """With a time-out of messages, or without idempotence, no frame is sent before the one ahead of it has arrived."""
    writer, sender = make_writer(tmp_path), ListSender()
    sender.keeps_order = False
    log(writer, 500)
    shipment = ship(writer, sender)
    for now in range(1000):
        shipment.step(float(now))
        assert open_frames(sender) <= 1
        if not sender.settle():
            break
    assert shipment.ack.next_seq == writer.seq
    assert check_account(frames(sender.sent), until=writer.seq) == 0


def test_a_frame_that_is_refused_at_once_holds_those_behind_it(tmp_path: Path) -> None:
    """Where librdkafka refuses a frame in the very call, the next is not handed over before it."""

    class Refuses(ListSender):
        """Refuses frames in the call while `refusing`."""

        refusing = True

        def send(self, topic: str, key: bytes, value: bytes, on_answer: Answer) -> bool:
            if self.refusing and topic.endswith(".metric"):
                self.refusing = False
                on_answer(Failure(KafkaError(UNKNOWN_TOPIC)))
                return True
            return super().send(topic, key, value, on_answer)

    writer, sender = make_writer(tmp_path), Refuses()
    log(writer, 500)
    shipment = ship(writer, sender)
    shipment.step(0.0)
    assert frames(sender.sent) == []
    drain(shipment, sender, now=1.0)
    assert check_account(frames(sender.sent), until=writer.seq) == 0


def test_an_outage_sets_nothing_aside(tmp_path: Path) -> None:
    """A record that ran out of time while nothing else arrived is sent again for as long as it takes; it was not refused."""
    writer, sender = make_writer(tmp_path), ListSender()
    log(writer, 10)
    shipment = ship(writer, sender)
    shipment.step(0.0)
    for one in sender._open:
        if is_frame(one):
            one.answer(None)
    waiting = [one for one in sender._open if not is_frame(one)]
    for now in range(1, 40):
        sender.forget()
        for one in waiting:
            one.answer(Failure(KafkaError(KafkaError._MSG_TIMED_OUT), others_arrived=False))
        shipment.step(float(now))
        shipment.step(now + 0.5)
        waiting = list(sender._open)
        assert len(waiting) == 1
    drain(shipment, sender, now=100.0)
    assert (shipment.ack.rows, shipment.ack.rows_aside) == (writer.seq, 0)
    assert not (tmp_path / shipping.ASIDE_NAME).exists()


def test_a_producer_at_its_end_sets_nothing_aside(tmp_path: Path) -> None:
    """Between a fatal error and the next producer every call fails at once: that is no refusal of the record, and nothing is tried again in a circle."""

    class Ended(ListSender):
        """Fails every call, as librdkafka does after a fatal error."""

        calls = 0

        def send(self, topic: str, key: bytes, value: bytes, on_answer: Answer) -> bool:  # noqa: ARG002 - it fails whatever it is given
            self.calls += 1
            self.broken = True
            on_answer(Failure(KafkaError(KafkaError._FATAL, "fenced", True)))
            return True

    writer, sender = make_writer(tmp_path), Ended()
    log(writer, 10)
    shipment = ship(writer, sender)
    for now in range(10):
        shipment.step(float(now))
    assert sender.calls == 1
    shipment.close()
    after = ListSender()
    shipment = ship(writer, after)
    drain(shipment, after)
    assert (shipment.ack.rows, shipment.ack.rows_aside) == (writer.seq, 0)


def test_a_shipment_is_not_drained_while_it_waits_to_try_again(tmp_path: Path) -> None:
    """After a failure nothing is in flight, and yet all is still to be sent: nobody may take that for the end and remove the journal."""
    writer, sender = make_writer(tmp_path), ListSender()
    log(writer, 5)
    writer.close("finished", "")
    shipment = ship(writer, sender)
    for now in range(20):
        shipment.step(now / 10, writer.seq)
        sender.settle(lambda one: UNKNOWN_TOPIC if is_frame(one) else None)
        assert not shipment.drained
    drain(shipment, sender, now=100.0, until=writer.seq)
    assert shipment.ack.next_seq == writer.seq


def test_a_full_queue_only_waits(tmp_path: Path) -> None:
    """Where the producer takes no more, the rest is sent later, in order, and nothing twice."""
    writer, sender = make_writer(tmp_path), ListSender()
    sender.room = 2
    log(writer, 300)
    shipment = ship(writer, sender)
    drain(shipment, sender)
    assert check_account(frames(sender.sent), until=writer.seq) == 0
    assert shipment.ack.rows == writer.seq


def test_a_record_of_a_missing_topic_holds_no_frames_back(tmp_path: Path) -> None:
    """While events get no answer, frames go on being sent as they are answered; once refused often enough the events are set aside, and the account says so."""
    writer, sender = make_writer(tmp_path), ListSender()
    log(writer, 3000)
    shipment = ship(writer, sender)
    held: list[Sent] = []

    for now in range(100):
        shipment.step(float(now))
        for one in list(sender._open):
            if is_frame(one):
                one.answer(None)
            else:
                held.append(one)
        sender.forget()
    assert check_account(frames(sender.sent), until=writer.seq) == 0
    assert shipment.ack.next_seq < 60  # Up to the first event.
    rounds = 0
    while held:
        rounds += 1
        waiting, held = held, []
        _refuse(waiting)
        shipment.step(200.0 + rounds)
        assert not sender._open  # It is sent again after a pause.
        shipment.step(200.0 + rounds + shipping.BACKOFF_S)
        held = list(sender._open)
        sender.forget()
    assert rounds == shipping.ATTEMPTS_MAX
    shipment.settle(300.0)
    ack = shipment.ack
    assert (ack.next_seq, ack.rows, ack.points, ack.rows_aside, ack.points_aside) == (writer.seq, 3000, writer.points, 60, 0)
    lines = [json.loads(line) for line in (tmp_path / shipping.ASIDE_NAME).read_text().splitlines()]
    assert len(lines) == 60
    assert {line["topic"] for line in lines} == {"event"}
    assert {line["writer"] for line in lines} == {writer.identity.writer}
    assert base64.b64decode(lines[0]["value"]) in {one.value for one in sender.sent}


def _refuse(waiting: list[Sent]) -> None:
    for one in waiting:
        one.answer(Failure(KafkaError(UNKNOWN_TOPIC)))


def test_a_frame_that_kafka_refuses_for_its_size_is_counted_as_lost(tmp_path: Path) -> None:
    """A frame that is too large for the topic is set aside at once; its points are not counted as shipped but as set aside, and the rest goes on."""
    writer, sender = make_writer(tmp_path), ListSender()
    writer.log({"a": 1.0})
    shipment = ship(writer, sender)
    drain(shipment, sender)
    writer.log({f"n{one}": 1.0 for one in range(100)})
    shipment.step(1.0)
    sender.settle(lambda _one: TOO_LARGE)
    writer.log({"a": 2.0})
    drain(shipment, sender, now=2.0)
    ack = shipment.ack
    assert (ack.next_seq, ack.rows, ack.points, ack.rows_aside, ack.points_aside) == (3, 2, 2, 1, 100)
    assert shipment.dropped == {"set_aside": 100}
    assert ship(writer, sender).dropped == {"set_aside": 100}


def test_a_record_that_fits_no_schema_is_set_aside(tmp_path: Path) -> None:
    """A payload with a wrong type is kept beside the journals with the reason, and holds nothing up."""
    writer, sender = make_writer(tmp_path), ListSender()
    writer.record(fmt.Kind.RUN, {"time_ms": "yesterday"})
    writer.record(fmt.Kind.RUN, {"time_ms": 1, "shoe_size": 43})
    writer.log({"a": 1.0})
    shipment = ship(writer, sender)
    drain(shipment, sender)
    assert (shipment.ack.rows, shipment.ack.rows_aside, shipment.ack.next_seq) == (1, 2, 3)
    assert len((tmp_path / shipping.ASIDE_NAME).read_text().splitlines()) == 2


def test_the_file_of_what_was_set_aside_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past its bound records are counted and not kept; a folder that cannot be written harms nothing."""
    monkeypatch.setattr(shipping, "ASIDE_BYTES_MAX", 500)
    writer, sender = make_writer(tmp_path), ListSender()
    for _ in range(20):
        writer.record(fmt.Kind.RUN, {"time_ms": "yesterday"})
    shipment = ship(writer, sender)
    drain(shipment, sender)
    assert shipment.ack.rows_aside == 20
    assert (tmp_path / shipping.ASIDE_NAME).stat().st_size < 1000
    (tmp_path / shipping.ASIDE_NAME).unlink()
    (tmp_path / shipping.ASIDE_NAME).mkdir()
    writer.record(fmt.Kind.RUN, {"time_ms": "yesterday"})
    drain(shipment, sender)
    assert shipment.ack.rows_aside == 21


def test_segments_go_once_they_are_acknowledged(tmp_path: Path) -> None:
    """A segment is removed when everything in it is acknowledged, not before, and the newest stays."""
    writer, sender = make_writer(tmp_path), ListSender()
    log(writer, 6000)
    count = len(segments(writer.folder.path))
    assert count > 4
    shipment = ship(writer, sender)
    shipment.step(0.0)
    shipment.settle(0.0)
    assert len(segments(writer.folder.path)) == count
    drain(shipment, sender)
    assert [path.name for path in segments(writer.folder.path)] == [fmt.segment_name(count)]
    log(writer, 100)
    drain(shipment, sender)
    assert shipment.ack.next_seq == writer.seq


def test_the_end_accounts_for_rows_that_were_dropped_last(tmp_path: Path) -> None:
    """Seqs that a writer dropped after its last row are accounted for by a frame without groups once the writer has ended."""
    writer, sender = make_writer(tmp_path), ListSender()
    log(writer, 10)
    writer.tail._full_until = float("inf")
    writer.tail.end = writer.tail.offset
    log(writer, 5)
    writer.tail._full_until = 0.0
    writer.close("finished", "")
    shipment = ship(writer, sender)
    drain(shipment, sender, until=writer.seq)
    assert check_account(frames(sender.sent), until=writer.seq) == 0
    assert shipment.ack.next_seq == writer.seq == 16
    assert shipment.ack.rows == 11
    assert shipment.dropped == {"journal_full": 8}


def test_answers_after_the_end_are_ignored(tmp_path: Path) -> None:
    """A shipment that was closed takes no answer in: the next agent has the journal."""
    writer, sender = make_writer(tmp_path), ListSender()
    log(writer, 10)
    shipment = ship(writer, sender)
    shipment.step(0.0)
    shipment.close()
    sender.settle()
    assert fmt.read_ack((writer.folder.path / "ack").read_bytes()) == fmt.Ack()
