"""Which offsets are safe, under any order of reads, acknowledgements and revocations."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from runstream_feed.records import Place
from runstream_sinks.ledger import Claim, Ledger, Mark, Position

PLACES = [Place("a", 0), Place("a", 1), Place("b", 0)]


def test_nothing_is_safe_before_its_acknowledgement() -> None:
    """An offset moves only past records that are acknowledged."""
    ledger, claim = Ledger(), Claim()
    ledger.read(Position(PLACES[0], 5), claim)
    ledger.read(Position(PLACES[0], 6), claim)
    assert ledger.safe() == {}
    ledger.settle(claim)
    assert ledger.safe() == {PLACES[0]: Mark(7, None)}


def test_the_earliest_open_record_holds_the_offset() -> None:
    """A later chunk that is acknowledged first does not move the offset past an earlier one."""
    ledger, first, second = Ledger(), Claim(), Claim()
    ledger.read(Position(PLACES[0], 1), first)
    ledger.read(Position(PLACES[0], 2), second)
    ledger.read(Position(PLACES[0], 3), first)
    ledger.settle(second)
    assert ledger.safe() == {}
    ledger.settle(first)
    assert ledger.safe() == {PLACES[0]: Mark(4, None)}


def test_the_leader_epoch_goes_with_the_offset() -> None:
    """The epoch committed is one that a record read from this log had."""
    ledger, claim = Ledger(), Claim()
    ledger.read(Position(PLACES[0], 1, 3))
    ledger.read(Position(PLACES[0], 2, 4), claim)
    assert ledger.safe() == {PLACES[0]: Mark(2, 4)}


def test_what_was_committed_is_not_committed_again() -> None:
    """Only offsets that moved are handed out."""
    ledger = Ledger()
    ledger.read(Position(PLACES[0], 1))
    marks = ledger.safe()
    ledger.committed(marks)
    assert ledger.safe() == {}


class Histories(RuleBasedStateMachine):
    """Random histories against a model that remembers each record that is not acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.next = dict.fromkeys(PLACES, 0)
        self.began: dict[Place, int] = {}
        self.waiting: dict[Place, dict[int, Claim]] = {place: {} for place in PLACES}

    claims: Bundle[Claim] = Bundle("claims")

    @rule(target=claims)
    def open(self) -> Claim:
        return Claim()

    @rule(place=st.sampled_from(PLACES), claim=claims)
    def read_claimed(self, place: Place, claim: Claim) -> None:
        self._read(place, claim)

    @rule(place=st.sampled_from(PLACES))
    def read_unclaimed(self, place: Place) -> None:
        self._read(place, None)

    def _read(self, place: Place, claim: Claim | None) -> None:
        offset = self.next[place]
        self.next[place] += 1
        self.began.setdefault(place, offset)
        if claim is not None:
            self.waiting[place][offset] = claim
        self.ledger.read(Position(place, offset), claim)

    @rule(claim=consumes(claims))
    def acknowledge(self, claim: Claim) -> None:
        self.ledger.settle(claim)
        for waiting in self.waiting.values():
            for offset in [offset for offset, one in waiting.items() if one is claim]:
                del waiting[offset]

    @rule(place=st.sampled_from(PLACES), back=st.integers(0, 3))
    def revoke(self, place: Place, back: int) -> None:
        """The partition goes to somebody else; when it comes back, reading begins at some earlier offset."""
        self.ledger.forget({place})
        self.began.pop(place, None)
        self.waiting[place] = {}
        self.next[place] = max(0, self.next[place] - back)

    @rule()
    def commit(self) -> None:
        self.ledger.committed(self.ledger.safe())

    @invariant()
    def safe_is_just_before_the_first_waiting_record(self) -> None:
        safe = self.ledger.safe()
        for place in PLACES:
            if place not in self.began:
                assert place not in safe
                continue
            bound = min(self.waiting[place], default=self.next[place])
            if place in safe:
                assert safe[place].offset == bound
        # Whatever is safe and not handed out before is handed out: nothing stays behind for ever.
        self.ledger.committed(safe)
        assert self.ledger.safe() == {}


TestHistories = Histories.TestCase


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_everything_is_safe_once_all_is_acknowledged(assignment: list[int], random: object) -> None:
    """After the last acknowledgement, in whatever order they came, the offset is that of the next record."""
    ledger, claims = Ledger(), [Claim() for _ in range(5)]
    for offset, number in enumerate(assignment):
        ledger.read(Position(PLACES[0], offset), claims[number])
    random.shuffle(claims)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]  # hypothesis' own Random
    for claim in claims:
        ledger.settle(claim)
    assert ledger.safe() == {PLACES[0]: Mark(len(assignment), None)}
    assert ledger.open_claims == 0


def test_offsets_that_kafka_refused_come_again() -> None:
    """Nothing new need be read for it; a partition that went away stays away."""
    ledger = Ledger()
    ledger.read(Position(PLACES[0], 4))
    ledger.read(Position(PLACES[1], 8))
    marks = ledger.safe()
    ledger.committed(marks)
    assert ledger.safe() == {}
    ledger.forget({PLACES[1]})
    ledger.not_committed({PLACES[0], PLACES[1]})
    assert ledger.safe() == {PLACES[0]: Mark(5, None)}
    ledger.committed(ledger.safe())
    assert ledger.safe() == {}
