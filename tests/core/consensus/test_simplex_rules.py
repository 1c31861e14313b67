"""The nine rules as a transcript: one node among four equals, everything it hears and everything it asks for.

Leaders take turns: v0 leads slot 1, v1 slot 2, and so on. Three of four are a quorum. The node under test is v3
unless a story says otherwise.
"""

from collections.abc import Iterator

import msgspec
import pytest

from aitbc.core.consensus.engine import (
    BlockBuilt,
    BlockCommitted,
    BlockExecuted,
    Broadcast,
    BuildBlock,
    EngineEffect,
    EngineEvent,
    EpochBegan,
    ExecuteBlock,
    Finalize,
    MessageArrived,
    Persist,
    ReportFault,
    ReportRefused,
    Send,
    SendEpochEnd,
    SetHead,
    SetTimer,
    SignStatements,
    Statement,
    StatementsSigned,
    TimerFired,
    TransactionsArrived,
)
from aitbc.core.consensus.epoch import Anchor, Epoch
from aitbc.core.consensus.simplex.certificates import assemble, skipped
from aitbc.core.consensus.simplex.guard import Guard, admit
from aitbc.core.consensus.simplex.messages import (
    FINAL,
    NOTAR,
    SKIP,
    Ahead,
    OtherEpoch,
    Proposal,
    Status,
    VerifiedCertificate,
    VerifiedProposal,
    VerifiedVote,
    Vote,
    check,
    decode,
    encode,
    kind_of,
)
from aitbc.core.consensus.simplex.pacing import Pace
from aitbc.core.consensus.simplex.rules import Simplex
from aitbc.core.consensus.simplex.wal import LogRecord, VoteRecord
from aitbc.core.ledger.elector import take_turns
from aitbc.core.types.blocks import ZERO_HASH, Candidate
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.sim import keys

NOW = 1_000_000
BASE = Anchor(slot=0, id=b"g" * 32, hash=b"g" * 32, height=0, timestamp_ms=NOW - 60_000)


def epoch_of(number: int = 0, last_height: int = 10, power: int = 1) -> Epoch:
    return Epoch(
        number=number,
        validators=[keys.validator(place, power if place == 3 else 1) for place in range(4)],
        leaders=take_turns(4, number),
        last_height=last_height,
        chain_id="ait-test",
        genesis_hash=bytes(32),
    )


class Story:
    """An engine whose effects a test reads; signatures come at once unless it is told to wait."""

    def __init__(
        self,
        me: int = 3,
        *,
        work: bool = True,
        records: tuple[LogRecord, ...] = (),
        last: int = 10,
        power: int = 1,
    ) -> None:
        """`power` is that of v3; the others have 1 each."""
        self.me, self.work, self.now_ms = me, work, NOW
        self.epoch = epoch_of(last_height=last, power=power)
        self.log: list[LogRecord] = list(records)
        self.engine = Simplex(
            address=f"v{me}",
            pace=Pace(block_time_ms=100, idle_ms=5_000),
            epoch=self.epoch,
            anchor=BASE,
            transactions_wait=lambda: self.work,
            records=records,
        )
        self.said: list[Vote] = []
        self.seen: list[EngineEffect] = []
        self._take(self.engine.start(self.now_ms))

    def on(self, event: EngineEvent) -> list[EngineEffect]:
        """Everything that follows, with log and signatures taken care of."""
        self.seen = []
        self._take(self.engine.on(self.now_ms, event))
        return self.seen

    def _take(self, effects: list[EngineEffect]) -> None:
        assert not any(isinstance(effect, Persist) for effect in effects[1:]), "the log comes first"
        for effect in effects:
            match effect:
                case Persist():
                    self.log += effect.records
                case SignStatements():
                    key = keys.key_of(self.me)
                    signed = [keys.sign(key, statement.digest) for statement in effect.statements]
                    self._take(self.engine.on(self.now_ms, StatementsSigned(signed)))
                case Broadcast(message=Vote() as vote):
                    self.said.append(vote)
                case _:
                    self.seen.append(effect)

    # What others do

    def vote(self, place: int, kind: str, slot: int, candidate: bytes = ZERO_HASH) -> list[EngineEffect]:
        signature = keys.sign(keys.key_of(place), self.epoch.digest_of(kind, slot, candidate))
        verified = VerifiedVote(kind, self.epoch.number, slot, candidate, place, signature)
        return self.on(MessageArrived(f"v{place}", verified))

    def propose(self, candidate: Candidate, *certificates: VerifiedCertificate) -> list[EngineEffect]:
        leader = self.epoch.leader_of(candidate.slot)
        name = self.epoch.id_of(candidate)
        signature = keys.sign(keys.key_of(leader), self.epoch.digest_of("candidate", candidate.slot, name))
        proposal = VerifiedProposal(candidate, name, signature, list(certificates))
        return self.on(MessageArrived(f"v{leader}", proposal))

    def executed(
        self,
        candidate: Candidate,
        *,
        height: int,
        parent: bytes = BASE.hash,
        reason: Reason | None = None,
        ms: int = 0,
    ) -> list[EngineEffect]:
        event = BlockExecuted(candidate.block_hash, parent, parent, height, ms or self.now_ms, reason)
        return self.on(event)

    def certificate(self, kind: str, candidate: Candidate) -> VerifiedCertificate:
        name = ZERO_HASH if kind == SKIP else self.epoch.id_of(candidate)
        digest = self.epoch.digest_of(kind, candidate.slot, name)
        signatures = {place: keys.sign(keys.key_of(place), digest) for place in range(3)}
        return VerifiedCertificate(assemble(kind, candidate, signatures), name)

    def skip(self, slot: int) -> list[EngineEffect]:
        return self.on(MessageArrived("v0", self.certificate(SKIP, skipped(0, slot))))

    def words(self) -> list[tuple[str, int]]:
        return [(vote.kind, vote.slot) for vote in self.said]

    def timers(self) -> dict[str, int]:
        return {
            effect.timer: effect.at_ms - self.now_ms for effect in self.seen if isinstance(effect, SetTimer)
        }


def on_base(slot: int, name: bytes, parent_slot: int = 0, parent_id: bytes = BASE.id) -> Candidate:
    return Candidate(0, slot, parent_slot, parent_id, name * 32)


A, B = on_base(1, b"A"), on_base(1, b"B")


def only(effects: list[EngineEffect], kind: type) -> Iterator[EngineEffect]:
    return (effect for effect in effects if isinstance(effect, kind))


def test_a_slot_from_its_proposal_to_a_final_block() -> None:
    node = Story()
    assert node.propose(A) == [ExecuteBlock(A.block_hash, BASE.hash)]
    node.executed(A, height=1)
    assert node.words() == [("notar", 1)]

    name = node.epoch.id_of(A)
    assert node.vote(0, NOTAR, 1, name) == []
    effects = node.vote(1, NOTAR, 1, name)
    assert SetHead(A.block_hash) in effects and node.engine.frontier == 2
    assert node.words() == [("notar", 1), ("final", 1)]

    node.vote(0, FINAL, 1, name)
    (final,) = only(node.vote(2, FINAL, 1, name), Finalize)
    assert isinstance(final, Finalize) and final.hash == A.block_hash and final.certificate.bitmap == 0b1101
    assert node.engine.final_slot == 1


def test_a_leader_builds_when_a_block_is_due_and_votes_for_it_in_one_breath() -> None:
    node = Story(me=0)
    assert node.on(TimerFired("pace")) == [BuildBlock(BASE.hash, NOW)]
    (sent,) = only(node.on(BlockBuilt(BASE.hash, A.block_hash, 1, NOW)), Broadcast)
    assert isinstance(sent, Broadcast) and isinstance(sent.message, Proposal) and sent.message.candidate == A
    assert node.words() == [("notar", 1)]
    assert [type(record).__name__ for record in node.log] == ["CandidateRecord", "VoteRecord", "VoteRecord"]
    assert node.on(TimerFired("pace")) == [], "a leader speaks once"


def test_who_skipped_does_not_finalize_and_who_finalized_does_not_skip() -> None:
    late = Story()
    late.propose(A)
    late.now_ms += 10_000
    late.on(TimerFired("skip"))
    late.executed(A, height=1, ms=NOW)
    for place in (0, 1):
        late.vote(place, NOTAR, 1, late.epoch.id_of(A))
    assert late.words() == [("skip", 1), ("notar", 1)], "skip and notar go together; skip and final do not"
    assert late.engine.frontier == 2

    early = Story()
    early.propose(A)
    early.executed(A, height=1)
    for place in (0, 1):
        early.vote(place, NOTAR, 1, early.epoch.id_of(A))
    early.vote(0, SKIP, 1)
    assert early.words() == [("notar", 1), ("final", 1)], "not even with its leader"


@pytest.mark.parametrize("is_skipped", [False, True])
def test_a_gap_needs_a_skip_certificate_for_every_slot_in_it(is_skipped: bool) -> None:
    node = Story()
    node.skip(1)
    if is_skipped:
        node.skip(2)
    node.propose(on_base(3, b"C"))
    asked = [effect for effect in node.seen if isinstance(effect, ExecuteBlock)]
    assert bool(asked) == is_skipped
    if not is_skipped:
        assert Send("v2", Status(0, 0, 2)) in node.seen, "what is missing is asked for"


def test_a_parent_needs_a_notar_certificate() -> None:
    node = Story()
    child = on_base(2, b"C", 1, node.epoch.id_of(A))
    node.skip(1)
    node.propose(child)
    assert not list(only(node.seen, ExecuteBlock))
    node.propose(child, node.certificate(NOTAR, A))
    assert ExecuteBlock(A.block_hash, None) in node.seen, "a quorum vouches for the parent"


def test_an_invalid_block_is_skipped_at_once_and_its_leader_named() -> None:
    node = Story()
    node.propose(A)
    node.executed(A, height=1, reason=Reason.ROOT_MISMATCH)
    assert node.words() == [("skip", 1)]
    incident = node.engine.record.incidents[0]
    assert (incident.what, incident.leader, incident.reason) == ("invalid", "v0", Reason.ROOT_MISMATCH)
    assert node.engine.record.member(0).invalid == 1
    (told,) = only(node.seen, ReportRefused)
    assert isinstance(told, ReportRefused) and (told.validator, told.candidate) == ("v0", A)
    digest = node.epoch.digest_of("candidate", 1, node.epoch.id_of(A))
    assert keys.verify(keys.key_of(0), digest, told.signature), "so that it can be proved"
    node.on(TimerFired("standstill"))
    node.executed(A, height=1, reason=Reason.ROOT_MISMATCH)
    assert not list(only(node.seen, ReportRefused)), "once for each slot"


def test_a_leader_that_gives_up_is_not_waited_for() -> None:
    node = Story()
    node.vote(1, SKIP, 1)
    assert node.words() == []
    node.vote(0, SKIP, 1)
    assert node.words() == [("skip", 1)]


def test_a_timestamp_ahead_is_voted_for_when_its_time_has_come() -> None:
    node = Story()
    node.propose(A)
    node.executed(A, height=1, ms=NOW + 900)
    assert node.words() == [] and node.timers() == {"clock": 400}
    node.now_ms += 400
    node.on(TimerFired("clock"))
    assert node.words() == [("notar", 1)]


def test_with_nothing_to_do_nobody_is_in_a_hurry() -> None:
    node = Story(work=False)
    node.now_ms, node.seen = BASE.timestamp_ms, []
    node._take(node.engine.start(node.now_ms))
    assert node.timers()["skip"] == 5_000 + 600
    node.now_ms += 700
    node.work = True
    node.on(TransactionsArrived())
    assert node.timers()["skip"] == 600, "the least interval is over: a block is due now"
    assert node.on(TransactionsArrived()) == []


def test_who_has_two_thirds_alone_waits_for_other_leaders_but_not_for_itself() -> None:
    node = Story(power=10)
    node.on(TransactionsArrived())
    for slot in (1, 2, 3):
        node.now_ms += 10_000
        node.on(TimerFired("skip"))
        assert node.words()[-1] == ("skip", slot) and node.engine.frontier == slot + 1
    assert {"pace"} <= set(node.timers()) <= {"pace", "relay"}


def test_each_slot_without_finality_is_waited_for_longer() -> None:
    node, waits = Story(), []
    for slot in range(1, 5):
        node.skip(slot)
        waits.append(node.timers()["skip"])
    assert waits == [781, 1_016, 1_321, 1_718]
    assert Pace(block_time_ms=0, idle_ms=1).timeout_after(50) == 30_000


def test_two_unfinal_blocks_are_enough_and_the_next_candidate_adds_none() -> None:
    node = Story(me=2)
    node.propose(A)
    node.executed(A, height=1)
    child = on_base(2, b"C", 1, node.epoch.id_of(A))
    node.propose(child, node.certificate(NOTAR, A))
    node.executed(child, height=2, parent=A.block_hash)
    node.on(MessageArrived("v1", node.certificate(NOTAR, child)))
    assert node.engine.frontier == 3
    (sent,) = (e for e in node.on(TimerFired("pace")) if isinstance(getattr(e, "message", None), Proposal))
    assert sent.message.candidate == Candidate(0, 3, 2, node.epoch.id_of(child), child.block_hash)  # type: ignore[union-attr]


def test_an_epochs_last_block_ends_it() -> None:
    node = Story(last=1)
    node.propose(A)
    node.executed(A, height=1)
    node.on(MessageArrived("v1", node.certificate(FINAL, A)))
    node.now_ms += 60_000
    said = len(node.said)
    node.on(TimerFired("skip"))
    assert len(node.said) == said, "nothing is said in it any more"
    node.on(BlockCommitted(A.block_hash, 1, NOW))
    base = Anchor(slot=0, id=A.block_hash, hash=A.block_hash, height=1, timestamp_ms=NOW)
    effects = node.on(EpochBegan(epoch_of(1, 2), base))
    assert Broadcast(Status(1, 0, 1)) in effects
    assert node.on(MessageArrived("v0", OtherEpoch(0))) == [SendEpochEnd("v0", 0)]
    assert node.on(MessageArrived("v0", OtherEpoch(7))) == [Send("v0", Status(1, 0, 1))]


CONFLICTS = [
    ("E1", [(NOTAR, b"b"), (NOTAR, b"a")], ["notar a", "notar b"]),
    ("E2", [(SKIP, b"\0"), (FINAL, b"a")], ["final a", "skip \0"]),
    ("E2", [(FINAL, b"a"), (SKIP, b"\0")], ["final a", "skip \0"]),
    ("E3", [(FINAL, b"a"), (FINAL, b"b")], ["final a", "final b"]),
]


@pytest.mark.parametrize(("name", "votes", "evidence"), CONFLICTS)
def test_two_votes_that_contradict_each_other_are_evidence(
    name: str, votes: list[tuple[str, bytes]], evidence: list[str]
) -> None:
    node = Story()
    for kind, candidate in votes:
        node.vote(1, kind, 1, candidate * 32)
    (report,) = only(node.seen, ReportFault)
    assert isinstance(report, ReportFault) and report.fault.validator == "v1"
    pair = (report.fault.first, report.fault.second)
    assert [f"{said.kind} {said.candidate[:1].decode()}" for said in pair] == evidence
    node.vote(1, NOTAR, 1, b"z" * 32)
    assert not list(only(node.seen, ReportFault)), "once in an epoch"


def test_notar_and_skip_or_the_same_vote_again_are_no_evidence() -> None:
    node = Story()
    for kind, candidate in ((NOTAR, b"a"), (SKIP, b"\0"), (NOTAR, b"a"), (SKIP, b"\0")):
        assert not list(only(node.vote(1, kind, 1, candidate * 32), ReportFault))


def test_a_leader_with_two_candidates_is_evidence_and_the_first_one_counts() -> None:
    node = Story()
    node.propose(A)
    (report,) = only(node.propose(B), ReportFault)
    assert isinstance(report, ReportFault)
    assert report.fault.first.candidate < report.fault.second.candidate and report.fault.validator == "v0"
    assert not list(only(node.seen, ExecuteBlock))


def test_a_restarted_node_says_the_same_again_and_nothing_else() -> None:
    before = Story()
    before.propose(A)
    before.executed(A, height=1)
    after = Story(records=tuple(before.log))
    assert after.said == before.said
    after.propose(B)
    after.executed(B, height=1)
    assert after.words() == [("notar", 1)], "it has voted in this slot"


def test_when_nothing_moves_what_was_said_is_said_again() -> None:
    node = Story()
    assert node.on(TimerFired("standstill")) == [SetTimer("standstill", NOW + 1_000)], "nothing was said"
    node.propose(A)
    node.executed(A, height=1)
    effects = node.on(TimerFired("standstill"))
    assert Broadcast(Status(0, 0, 1)) in effects and node.words() == [("notar", 1)] * 2


def test_who_is_behind_is_told_what_it_lacks() -> None:
    node = Story()
    node.skip(1)
    node.propose(on_base(2, b"C"))
    effects = node.on(MessageArrived("stranger", Status(0, 0, 1)))
    kinds = [kind_of(effect.message) for effect in effects if isinstance(effect, Send)]
    assert kinds == ["certificate", "proposal"]


def test_votes_from_far_ahead_and_from_the_past_take_no_room() -> None:
    node = Story()
    for slot in (4, 50, 10**12):
        node.vote(1, NOTAR, slot, b"x" * 32)
    assert node.engine.live_records() == [] and not node.engine._slots
    node.vote(1, NOTAR, 3, b"x" * 32)
    assert list(node.engine._slots) == [3]


GOOD = Vote(NOTAR, 0, 1, b"a" * 32, 1, b"")
GOOD = msgspec.structs.replace(
    GOOD, signature=keys.sign(keys.key_of(1), epoch_of().digest_of(NOTAR, 1, b"a" * 32))
)
STRANGERS = [
    ("nobody's place", msgspec.structs.replace(GOOD, position=4), Reason.UNKNOWN_VALIDATOR),
    ("another's place", msgspec.structs.replace(GOOD, position=2), Reason.BAD_SIGNATURE),
    ("another slot", msgspec.structs.replace(GOOD, slot=2), Reason.BAD_SIGNATURE),
    ("a skip of something", msgspec.structs.replace(GOOD, kind=SKIP), Reason.MALFORMED),
    ("a notar of nothing", msgspec.structs.replace(GOOD, candidate=ZERO_HASH), Reason.MALFORMED),
    ("a short id", msgspec.structs.replace(GOOD, candidate=b"a"), Reason.MALFORMED),
    ("no kind of vote", msgspec.structs.replace(GOOD, kind="candidate"), Reason.UNKNOWN_TYPE),
    ("below nothing", msgspec.structs.replace(GOOD, slot=-1), Reason.OUT_OF_RANGE),
    ("before its parent", Proposal(Candidate(0, 1, 1, b"g" * 32, b"A" * 32), b"", []), Reason.OUT_OF_RANGE),
    ("not its leader's", Proposal(A, keys.sign(keys.key_of(1), bytes(32)), []), Reason.WRONG_PROPOSER),
    ("a status from nowhere", Status(0, -1, 0), Reason.OUT_OF_RANGE),
    ("two votes of four", assemble(NOTAR, A, {0: b"", 1: b""}), Reason.BAD_CERTIFICATE),
    ("a skip of a candidate", assemble(SKIP, A, {0: b"", 1: b"", 2: b""}), Reason.BAD_CERTIFICATE),
]  # fmt: skip


@pytest.mark.parametrize(("who", "message", "reason"), STRANGERS, ids=[row[0] for row in STRANGERS])
def test_strangers_are_refused_by_name(who: str, message: Vote | Proposal | Status, reason: Reason) -> None:
    with pytest.raises(Rejected) as caught:
        check(decode(kind_of(message), encode(message)), epoch_of(), horizon=3, verifier=keys.verify)
    assert caught.value.reason == reason


def test_what_members_say_passes_and_another_epoch_is_only_a_number() -> None:
    assert isinstance(check(GOOD, epoch_of(), horizon=3, verifier=keys.verify), VerifiedVote)
    assert check(GOOD, epoch_of(5), horizon=3, verifier=keys.verify) == OtherEpoch(0)
    far = Proposal(Candidate(0, 9, 0, b"g" * 32, b"A" * 32), b"", [])
    assert check(far, epoch_of(), horizon=3, verifier=keys.verify) == Ahead(9)
    assert Story().on(MessageArrived("v0", Ahead(9))) == [Send("v0", Status(0, 0, 1))]
    with pytest.raises(Rejected):
        decode("block", b"")


def test_after_more_slots_than_the_guard_remembers_a_restart_says_what_it_may() -> None:
    guard, story = Guard(genesis_hash=bytes(32)), Story()
    for slot in range(1, 1_300):
        story.now_ms += 31_000
        story.on(TimerFired("skip"))
        story.skip(slot)
    for record in story.log:
        if isinstance(record, VoteRecord):
            guard = admit(guard, [statement_of(record)])
    assert guard.floor > (0, 0), "the oldest are forgotten"
    for records in ((*story.log, *guard.signed), guard.signed):
        engine = Simplex(
            address="v3",
            pace=Pace(block_time_ms=100, idle_ms=5_000),
            epoch=story.epoch,
            anchor=BASE,
            transactions_wait=lambda: True,
            records=records,
            floor=guard.floor,
        )
        effects = engine.start(story.now_ms)
        (asked,) = [effect.statements for effect in effects if isinstance(effect, SignStatements)]
        assert admit(guard, asked) is guard and asked, "with the log and without it"


def statement_of(record: VoteRecord) -> Statement:
    return Statement(
        kind=record.kind,
        epoch=record.epoch,
        slot=record.slot,
        candidate=record.candidate,
        digest=bytes(32),
    )


def test_the_timer_of_a_slot_does_not_skip_the_next_one() -> None:
    """The next block is not due while the one before is being written."""
    node = Story()
    node.on(TransactionsArrived())
    skip_at_ms = node.now_ms + node.timers()["skip"] if node.timers() else node.engine._skip_at_ms
    node.now_ms += 500
    node.propose(A)
    node.executed(A, height=1)
    node.on(MessageArrived("v1", node.certificate(FINAL, A)))
    assert node.engine.frontier == 2
    node.now_ms = skip_at_ms
    node.on(TimerFired("skip"))
    assert ("skip", 2) not in node.words()


def test_an_epoch_that_somebody_made_up_is_asked_about_once() -> None:
    node = Story(work=False)
    node.on(MessageArrived("ab" * 32, Status(2**53 - 1, 0, 1)))
    said = [bool(node.on(TimerFired("standstill"))[1:]) for _ in range(3)]
    assert said == [True, False, False]


# What the host wrote while agreement rested


def _written(node: Story, certificate: VerifiedCertificate, slot: int, height: int) -> Anchor:
    candidate = certificate.certificate.candidate
    return Anchor(
        slot=slot,
        id=certificate.id,
        hash=candidate.block_hash,
        height=height,
        timestamp_ms=NOW,
        certificate=certificate.certificate,
    )


def test_a_final_block_that_was_asked_for_and_came_in_a_range_is_built_on() -> None:
    """The host forgets what it was asked when it writes a range: the question must not be waited for any more."""
    node = Story()
    final = node.certificate(FINAL, A)
    assert ExecuteBlock(A.block_hash, None) in node.on(MessageArrived("v0", final))
    node.on(EpochBegan(node.epoch, _written(node, final, 1, 1)))
    assert node.engine.is_settled
    child = on_base(2, b"C", 1, final.id)
    assert ExecuteBlock(child.block_hash, A.block_hash) in node.propose(child)


def test_a_final_block_above_what_was_written_is_asked_for_again() -> None:
    node = Story()
    first, child = node.certificate(FINAL, A), on_base(2, b"C", 1, node.epoch.id_of(A))
    node.on(MessageArrived("v0", first))
    node.on(BlockExecuted(A.block_hash, None, BASE.hash, 1, NOW, None))
    assert ExecuteBlock(child.block_hash, None) in node.on(
        MessageArrived("v0", node.certificate(FINAL, child))
    )
    effects = node.on(EpochBegan(node.epoch, _written(node, first, 1, 1)))
    assert ExecuteBlock(child.block_hash, None) in effects


# What is passed on


def test_who_contradicts_itself_is_passed_on_once() -> None:
    """One contradiction is evidence; a validator that makes thousands would have everybody relay them."""
    node = Story()

    def keeps(number: int) -> bool:
        name = bytes([number]) * 32
        signature = keys.sign(keys.key_of(1), node.epoch.digest_of(NOTAR, 1, name))
        vote = VerifiedVote(NOTAR, node.epoch.number, 1, name, 1, signature)
        is_old = node.engine.is_old(Vote(NOTAR, node.epoch.number, 1, name, 1, signature))
        kept = node.engine.keeps(vote)
        assert is_old is not kept
        node.on(MessageArrived("v1", vote))
        return kept

    assert [keeps(number) for number in (1, 1, 2, 3, 4)] == [True, False, True, False, False]


def test_a_leader_s_second_candidate_is_passed_on_once() -> None:
    node = Story()

    def keeps(candidate: Candidate) -> bool:
        kept = node.engine.keeps(VerifiedProposal(candidate, node.epoch.id_of(candidate), b"", []))
        node.propose(candidate)
        return kept

    assert [keeps(on_base(1, bytes([number]))) for number in (1, 1, 2, 3)] == [True, False, True, False]


def test_certificates_that_are_held_or_below_the_final_slot_cost_no_signature() -> None:
    node = Story()
    notar, final = node.certificate(NOTAR, A), node.certificate(FINAL, A)
    assert not node.engine.is_old(notar.certificate)
    node.on(MessageArrived("v0", notar))
    assert node.engine.is_old(notar.certificate) and not node.engine.is_old(final.certificate)
    node.on(MessageArrived("v0", final))
    assert node.engine.is_old(final.certificate)
