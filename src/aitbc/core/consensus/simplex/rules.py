"""Simplex for any number of validators: the nine rules over a table of slots. docs/spec/simplex.md

Source: Chan and Pass, IACR eprint 2023/463, in the form for weighted votes and lossy networks of
`ton-blockchain/simplex-docs`. An event is first entered into the tables; then the rules that it may have made true are
taken from a queue, one after the other, until none is left. A rule asks its conditions anew, acts at most once, and
only ever appends to the queue: nothing nests, and no rule can run in the middle of another (a first version did that,
and signed a vote in the wrong epoch).

Everything that is decided in a step leaves together: one batch for the log, one request for signatures. What depends
on the log is sent when its signature comes back.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, assert_never

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
    Fault,
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
from aitbc.core.consensus.simplex.answers import MAX_CERTIFICATE_BYTES, Asked, Budget, answer_to, size_of
from aitbc.core.consensus.simplex.certificates import assemble, positions_of, skipped
from aitbc.core.consensus.simplex.faults import fault_of_leader, fault_of_votes
from aitbc.core.consensus.simplex.messages import (
    CANDIDATE,
    FINAL,
    NOTAR,
    SKIP,
    Ahead,
    OtherEpoch,
    Proposal,
    Status,
    Verified,
    VerifiedCertificate,
    VerifiedProposal,
    VerifiedVote,
    Vote,
)
from aitbc.core.consensus.simplex.pacing import MAX_AHEAD_MS, Pace
from aitbc.core.consensus.simplex.slots import Slot
from aitbc.core.consensus.simplex.tables import (
    MAX_FUTURE_CERTIFICATES,
    MAX_FUTURE_SLOTS,
    MAX_PAST_SLOTS,
    MAX_UNFINAL_BLOCKS,
    Block,
    Parent,
    Tables,
)
from aitbc.core.consensus.simplex.wal import (
    BlockRecord,
    CandidateRecord,
    CertificateRecord,
    LogRecord,
    VoteRecord,
)
from aitbc.core.types.blocks import ZERO_HASH, Candidate, Certificate
from aitbc.core.types.reasons import BrokenInvariant, Reason

PACE, SKIPPING, STANDSTILL, RELAY, CLOCK = "pace", "skip", "standstill", "relay", "clock"
"""Timers: a block is due · stop waiting for it · say it again · pass certificates on · a timestamp has come."""
MAX_SPOKEN_SLOTS = 128
"""Nothing is said of slots so far below the frontier: the guard remembers at least 300 of them, and what a later slot
makes final is final in all before it."""


class Simplex(Tables):
    """One node's part in the agreement; a node that is not in the set follows without a voice."""

    def __init__(
        self,
        *,
        address: str,
        pace: Pace,
        epoch: Epoch,
        anchor: Anchor,
        transactions_wait: Callable[[], bool],
        records: Sequence[LogRecord] = (),
        vote_after_ms: int = 0,
        floor: tuple[int, int] = (0, 0),
    ) -> None:
        """`anchor` is the newest block on disk, in `epoch`; `records` what the log and the signer guard hold.

        `vote_after_ms`: votes only in epochs whose base block is newer. A node that lost its guard gives its own time
        of starting here: in such an epoch it cannot have voted before. 0: everywhere. `floor`: the guard's (epoch,
        slot); at or below it nothing is signed.
        """
        super().__init__(address=address, pace=pace, epoch=epoch, anchor=anchor, vote_after_ms=vote_after_ms)
        self._transactions_wait = transactions_wait
        self._agenda: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._records: list[LogRecord] = []
        self._statements: list[Statement] = []
        self._signing: deque[list[Statement]] = deque()
        self._effects: list[EngineEffect] = []
        self._budget = Budget(pace.standstill_ms // 2)
        self._asked = Asked(pace.standstill_ms // 2)
        self._highest_epoch = 0
        self._floor = floor
        self._recover(records)
        self._agenda.clear()
        self._effects.clear()

    # The engine's interface

    def start(self, now_ms: int) -> list[EngineEffect]:
        """Say again what was said before, ask where the others are, and go on."""
        self._now_ms = now_ms
        self._entered_ms = now_ms
        self._heard = [now_ms] * len(self._heard)
        self._consider(self._advance)
        self._consider(self._say_again_after_restart)
        self._consider(self._commit)
        self._consider(self._greet)
        return self._work_off()

    def on(self, now_ms: int, event: EngineEvent) -> list[EngineEffect]:
        self._now_ms = now_ms
        match event:
            case MessageArrived():
                self._hear(event.peer, event.message)
            case TimerFired():
                self._time_passed(event.timer)
            case StatementsSigned():
                self._take_signatures(event.signatures)
            case BlockExecuted():
                self._learn_verdict(event)
            case BlockBuilt():
                self._learn_built(event)
            case BlockCommitted():
                self._learn_committed(event)
            case TransactionsArrived():
                self._learn_of_work()
            case EpochBegan() if event.epoch.number == self._epoch.number:
                self._learn_of_written(event.base)
            case EpochBegan():
                self._heard_ms = dict(
                    zip((member.address for member in self._epoch.validators), self._heard, strict=True)
                )
                self._begin(event.epoch, event.base)
                self._consider(self._greet)
            case _:
                assert_never(event)
        return self._work_off()

    # The queue of rules

    def _consider(self, rule: Callable[..., None], *about: Any) -> None:
        self._agenda.append((rule, about))

    def _work_off(self) -> list[EngineEffect]:
        while self._agenda:
            rule, about = self._agenda.popleft()
            rule(*about)
        if not (self._effects or self._records or self._statements):
            return []
        return self._leave()

    def _leave(self) -> list[EngineEffect]:
        """The log first; signatures are asked for what it holds."""
        effects: list[EngineEffect] = []
        if self._records:
            effects.append(Persist(self._records))
            self._records = []
        if self._statements:
            effects.append(SignStatements(self._statements))
            self._signing.append(self._statements)
            self._statements = []
        effects += self._effects
        self._effects = []
        return effects

    # Hearing

    def _hear(self, peer: str, message: Verified) -> None:
        match message:
            case VerifiedVote():
                if message.epoch == self._epoch.number:
                    self._hear_vote(peer, message)
            case VerifiedProposal():
                if message.candidate.epoch == self._epoch.number:
                    self._hear_proposal(peer, message)
            case VerifiedCertificate():
                if message.certificate.candidate.epoch == self._epoch.number:
                    self._shows(peer, message.certificate.candidate.slot + 1)
                    self._accept(message)
            case Status():
                self._hear_status(peer, message)
            case OtherEpoch():
                self._hear_other_epoch(peer, message.epoch, asks=message.asks)
            case Ahead():
                self._ask(peer)
            case _:
                assert_never(message)

    def _hear_vote(self, peer: str, vote: VerifiedVote) -> None:
        number, position = vote.slot, vote.position
        lowest = max(self._final.slot + 1, self._frontier - MAX_PAST_SLOTS)
        if number > self._frontier + MAX_FUTURE_SLOTS:
            self._ask(peer)
            return
        if number >= self._frontier - MAX_PAST_SLOTS:  # late is not dead: a quorum may always be faster
            self._heard[position] = self._now_ms
            self.record.heard(position, self._now_ms)
            self.record.voted(position, number, live=True)
        if number < lowest:
            return
        past = number + 1 if vote.kind == FINAL else number
        if past > self._past[position]:
            self._past[position] = past
        self._count(peer, vote)

    def _count(self, peer: str, vote: VerifiedVote) -> None:
        """The first vote of each kind counts; a second one can only be evidence. `peer` may know the candidate."""
        slot = self._slot(vote.slot)
        conflict = slot.conflict_of(vote)
        if conflict is not None:
            self._accuse(conflict, vote)
        if vote.position in slot.votes[vote.kind]:
            return
        power = self._epoch.powers[vote.position]
        self.record.voted(vote.position, vote.slot, live=vote.position == self._me)
        total = slot.count(vote, power)
        if total >= self._epoch.quorum > total - power:
            self._consider(self._finalize_vote, vote.slot)
            self._consider(self._certify, vote.kind, vote.slot, vote.candidate, peer)
        if vote.kind == SKIP and vote.position != self._me:
            self._consider(self._follow_leaders_skip, vote.slot)

    def _hear_proposal(self, peer: str, proposal: VerifiedProposal) -> None:
        """What justifies it counts by itself; of a leader's candidates the first one is judged."""
        candidate = proposal.candidate
        leader = self._epoch.leader_of(candidate.slot)
        for certificate in proposal.justification:
            self._accept(certificate)
        if not self._final.slot < candidate.slot <= self.horizon:
            return
        self._heard[leader] = self._now_ms
        self.record.heard(leader, self._now_ms)
        self._past[leader] = max(self._past[leader], candidate.slot)
        slot = self._slot(candidate.slot)
        if slot.proposal is not None and slot.proposal.id != proposal.id:
            self._report(leader, fault_of_leader(slot.proposal, proposal, self._epoch))
            return
        if slot.proposal is None and candidate.slot == self._frontier and self._due_ms is not None:
            self.record.proposed(
                epoch=candidate.epoch,
                slot=candidate.slot,
                leader=leader,
                late_ms=self._late_ms(),
                timeout_ms=self._pace.timeout_ms,
            )
        slot.proposal = proposal
        slot.candidates[proposal.id] = candidate
        for kind in (NOTAR, FINAL):
            if slot.power.get((kind, proposal.id), 0) >= self._epoch.quorum:
                self._consider(self._certify, kind, candidate.slot, proposal.id, peer)
        self._consider(self._notarize, candidate.slot)
        if not self._is_justified(candidate):
            self._ask(peer)

    def _accept(self, held: VerifiedCertificate) -> None:
        """A certificate from outside: it counts at once, and its votes may show somebody's fault."""
        certificate, number = held.certificate, held.certificate.candidate.slot
        if number <= self._final.slot:
            return
        if certificate.kind != FINAL and number > self._frontier + MAX_FUTURE_CERTIFICATES:
            return
        if certificate.kind in self._slot(number).certificates:
            return
        self._consider(self._hold, held)
        for position, signature in zip(positions_of(certificate), certificate.signatures, strict=True):
            if position != self._me:
                kind, epoch = certificate.kind, self._epoch.number
                self._count("", VerifiedVote(kind, epoch, number, held.id, position, signature))

    def _hear_status(self, peer: str, status: Status) -> None:
        if status.epoch != self._epoch.number:
            self._hear_other_epoch(peer, status.epoch, asks=True)
            return
        self._shows(peer, status.frontier)
        if status.final_slot > self._final.slot or status.frontier > self._frontier:
            self._ask(peer)
        own = [_unverified(vote) for slot in self._slots.values() for vote in self._own_votes(slot)]
        budget = self._budget.left(peer, self._now_ms)
        for message in answer_to(status, self._final_certificate, self._slots, self._final.slot, own, budget):
            self._budget.spend(peer, self._now_ms, size_of(message))
            self._effects.append(Send(peer, message))

    def _hear_other_epoch(self, peer: str, number: int, *, asks: bool) -> None:
        """Rule 9: an old epoch is answered with its end; a new one is asked for ours."""
        if number > self._epoch.number:
            self._highest_epoch = max(self._highest_epoch, number)
            self._ask(peer)
        elif (
            asks
            and number < self._epoch.number
            and self._budget.left(peer, self._now_ms) >= MAX_CERTIFICATE_BYTES
        ):
            self._budget.spend(peer, self._now_ms, MAX_CERTIFICATE_BYTES)
            self._effects.append(SendEpochEnd(peer, number))

    def _ask(self, peer: str) -> None:
        status = self.status()
        if peer and self._asked.again(peer, self._now_ms, status):
            self._effects.append(Send(peer, status))

    # Learning what the host did

    def _time_passed(self, timer: str) -> None:
        self._due |= timer == PACE
        rules = {
            PACE: self._lead,
            SKIPPING: self._skip_in_time,
            STANDSTILL: self._stand_still,
            RELAY: self._relay,
            CLOCK: self._notarize_ahead,
        }
        self._consider(rules[timer])

    def _learn_of_work(self) -> None:
        if not self._expects_work:
            self._consider(self._pace_slot)

    def _learn_built(self, built: BlockBuilt) -> None:
        """An answer to an earlier slot's request is welcome too, if it stands on the same parent."""
        self._blocks[built.hash] = Block(built.parent, built.height, built.timestamp_ms)
        base = self._building
        if base is not None and base.hash == built.parent:
            self._building = None
            self._consider(self._propose, base, built.hash)

    def _learn_verdict(self, done: BlockExecuted) -> None:
        asked = (done.hash, done.asked_parent)
        self._executing.discard(asked)
        if done.reason is None:
            self._blocks[done.hash] = Block(done.parent, done.height, done.timestamp_ms)
        else:
            self._learn_refusal(done, done.reason)
        for number, slot in self._slots.items():
            if slot.proposal is not None and not slot.voted_notar:
                self._consider(self._notarize, number)
        self._consider(self._commit)
        self._consider(self._choose_head)
        self._consider(self._lead)

    def _learn_refusal(self, done: BlockExecuted, reason: Reason) -> None:
        if done.asked_parent is not None:
            self._refused[done.hash, done.asked_parent] = reason
        elif reason is not Reason.WRONG_PARENT or done.hash == self._final.hash:
            raise BrokenInvariant(f"block {done.hash.hex()}, which a quorum vouched for, is {reason} here")
        # else its slot was notarized and skipped, and another branch has become final since it was asked for

    def _learn_committed(self, committed: BlockCommitted) -> None:
        if committed.hash in self._committing:
            while self._committing.popleft() != committed.hash:
                continue  # those before it are on disk too
        if not self._committing:
            self._consider(self._pace_slot)

    def _learn_of_written(self, base: Anchor) -> None:
        """What was said in later slots of this epoch stays said. The host has forgotten every block above this one,
        with what it was asked about them: a final one is executed and written anew."""
        self._executing.clear()
        self._blocks[base.hash] = Block(ZERO_HASH, base.height, base.timestamp_ms)
        if base.certificate is not None and base.slot > self._final.slot:
            self._accept(VerifiedCertificate(base.certificate, base.id))
        else:
            self._committed = Parent(base.slot, base.id, base.hash)
            self._committing.clear()
        self._consider(self._commit)
        self._consider(self._choose_head)
        self._consider(self._pace_slot)

    def _may_speak_of(self, number: int) -> bool:
        """Not of slots that the guard may have forgotten: the newest slots of many without finality decide."""
        epoch, slot = self._floor
        floor = slot if epoch == self._epoch.number else 0
        return epoch <= self._epoch.number and number > max(floor, self._frontier - MAX_SPOKEN_SLOTS)

    # Rule 1: the frontier

    def _advance(self) -> None:
        number = max(self._frontier, self._final.slot + 1)
        while number in self._slots and self._slots[number].is_cleared:
            number += 1
        if number != self._frontier:
            self._move_frontier(number)
            self._entered_ms = self._now_ms
            self._due = False
            self._due_ms = None
            self._building = None
            self._forget_old_votes()
            self._consider(self._choose_head)
            self._consider(self._pace_slot)
        self._consider(self._notarize_ahead)

    # Rule 2: lead

    def _pace_slot(self) -> None:
        """When this slot's block is due, for its leader; and when to stop waiting for it, for all."""
        if self._is_over or not self._may_vote:
            return
        base = self._base(self._frontier)
        block = self._blocks.get(base.hash)
        work = self._transactions_wait()
        self._expects_work = work
        if base.hash in self._committing:
            return
        due_ms = self._pace.due_ms(
            self._now_ms,
            parent_ms=block.timestamp_ms if block else self._entered_ms,
            entered_ms=self._entered_ms,
            work=work,
            unfinal=base.slot > self._final.slot,
        )
        self._due_ms = due_ms
        leader = self._epoch.leader_of(self._frontier)
        if leader == self._me:
            self._effects.append(SetTimer(PACE, due_ms))
        if leader != self._me or not self._is_quorum_alone:
            wait_ms = 0 if self._is_dead(leader) else self._timeout_ms()
            self._skip_at_ms = due_ms + wait_ms
            self._effects.append(SetTimer(SKIPPING, self._skip_at_ms))

    def _timeout_ms(self) -> int:
        return self._pace.timeout_after(self._frontier - self._final.slot - 1)

    def _lead(self) -> None:
        number = self._frontier
        if not self._due or self._is_over or not self._may_vote or self._building is not None:
            return
        if self._epoch.leader_of(number) != self._me or self._has_spoken_as_leader(number):
            return
        if not self._may_speak_of(number):
            return
        base = self._base(number)
        if base.hash not in self._blocks:
            self._execute(base.hash, None)
        elif base.hash in self._committing:
            return
        elif self._must_carry(base):
            self._propose(base, base.hash)
        else:
            self._building = base
            timestamp_ms = max(self._now_ms, self._blocks[base.hash].timestamp_ms + 1)
            self._effects.append(BuildBlock(base.hash, timestamp_ms))

    def _has_spoken_as_leader(self, number: int) -> bool:
        slot = self._slots.get(number)
        return slot is not None and (
            slot.proposed is not None or slot.voted_skip or slot.voted_notar is not None
        )

    def _must_carry(self, base: Parent) -> bool:
        """A carry candidate names its parent's block again: to end the epoch, to let finality catch up, or because
        nothing waits and only finality is missing."""
        if base.slot <= self._final.slot:
            return False
        if self._blocks[base.hash].height >= self._epoch.last_height:
            return True
        return self._unfinal_blocks(base) >= MAX_UNFINAL_BLOCKS or not self._transactions_wait()

    def _propose(self, base: Parent, block_hash: bytes) -> None:
        """The candidate is in the log, with its block, before its signature can exist."""
        number = self._frontier
        if self._has_spoken_as_leader(number) or self._is_over:
            return
        if self._base(number) != base:
            self._consider(self._lead)
            return
        assert self._epoch.leader_of(number) == self._me, "only the leader has a block built"
        candidate = Candidate(self._epoch.number, number, base.slot, base.id, block_hash)
        name = self._epoch.id_of(candidate)
        slot = self._slot(number)
        slot.proposed = name
        slot.candidates[name] = candidate
        self._records.append(CandidateRecord(candidate))
        self._records.append(VoteRecord(CANDIDATE, self._epoch.number, number, name))
        self._state(CANDIDATE, number, name)
        self._vote(NOTAR, slot, name)

    # Rule 3: notarize

    def _notarize_ahead(self) -> None:
        for number in range(self._frontier, self.horizon + 1):
            if number in self._slots:
                self._notarize(number)

    def _notarize(self, number: int) -> None:
        slot = self._slots.get(number)
        if slot is None or slot.proposal is None or not self._may_notarize(slot):
            return
        candidate = slot.proposal.candidate
        parent = self._parent_of(candidate)
        if parent is None or not self._is_gap_skipped(candidate):
            return
        verdict = self._judge(candidate, parent)
        if isinstance(verdict, Reason):
            self._refuse(slot, verdict)
        elif verdict and self._is_timely(candidate):
            self._records.append(CandidateRecord(candidate))
            self._vote(NOTAR, slot, slot.proposal.id)

    def _refuse(self, slot: Slot, reason: Reason) -> None:
        """An invalid candidate is not waited for any longer, and its leader is told of."""
        if not slot.is_refused:
            slot.is_refused = True
            self._report_refused(slot)
        if self._may_skip(slot) and not self._is_over:
            leader, late_ms = self._epoch.leader_of(slot.number), self._late_ms()
            self.record.refused(
                epoch=self._epoch.number, slot=slot.number, leader=leader, late_ms=late_ms, reason=reason
            )
            self._consider(self._skip, slot.number)

    def _may_notarize(self, slot: Slot) -> bool:
        """Once a slot, and not where nobody needs it any more."""
        if not self._may_vote or self._is_over or not self._may_speak_of(slot.number):
            return False
        return slot.voted_notar is None and not slot.is_skipped

    def _judge(self, candidate: Candidate, parent: Parent) -> bool | Reason:
        """True: valid; a reason: invalid; False: the host has not said yet."""
        if parent.hash not in self._blocks:
            self._execute(parent.hash, None)
            return False
        if candidate.block_hash == parent.hash:
            is_of_this_epoch = parent.slot > 0
            return True if is_of_this_epoch else Reason.WRONG_HEIGHT
        if self._blocks[parent.hash].height >= self._epoch.last_height:
            return Reason.WRONG_HEIGHT
        block = self._blocks.get(candidate.block_hash)
        if block is not None:
            return True if block.parent == parent.hash else Reason.WRONG_PARENT
        asked = (candidate.block_hash, parent.hash)
        if asked in self._refused:
            return self._refused[asked]
        self._execute(*asked)
        return False

    def _is_timely(self, candidate: Candidate) -> bool:
        """Not further ahead of this clock than clocks differ; what is too early is looked at again."""
        timestamp_ms = self._blocks[candidate.block_hash].timestamp_ms
        if timestamp_ms <= self._now_ms + MAX_AHEAD_MS:
            return True
        self._effects.append(SetTimer(CLOCK, timestamp_ms - MAX_AHEAD_MS))
        return False

    def _execute(self, block_hash: bytes, parent: bytes | None) -> None:
        if (block_hash, parent) not in self._executing:
            self._executing.add((block_hash, parent))
            self._effects.append(ExecuteBlock(block_hash, parent))

    def _follow_leaders_skip(self, number: int) -> None:
        """A leader that gave up its own slot is not waited for."""
        leader = self._epoch.leader_of(number)
        slot = self._slots.get(number)
        if slot is not None and leader in slot.votes[SKIP] and not slot.is_cleared:
            self._skip(number)

    # Rule 4: finalize

    def _finalize_vote(self, number: int) -> None:
        slot = self._slots.get(number)
        if slot is not None and self._may_finalize(slot):
            assert slot.voted_notar is not None
            self._vote(FINAL, slot, slot.voted_notar)

    def _may_finalize(self, slot: Slot) -> bool:
        """Own Notar, a quorum of Notars for the same id, no own Skip. A quorum that waits for the own signature alone
        is one: the votes go out together."""
        if not self._may_vote or self._is_over or slot.voted_final or slot.voted_skip or not slot.voted_notar:
            return False
        if not self._may_speak_of(slot.number):
            return False
        if slot.notarized is not None:
            return slot.notarized.id == slot.voted_notar
        return slot.power.get((NOTAR, slot.voted_notar), 0) >= self._epoch.quorum

    # Rule 5: skip

    def _skip_in_time(self) -> None:
        """Fired early, by a clock that went back or a timer that was replaced meanwhile: wait on, but not for ever.
        While the block before is being written nothing is due yet."""
        if self._due_ms is None:
            return
        if self._now_ms < self._skip_at_ms:
            self._skip_at_ms = min(self._skip_at_ms, self._now_ms + self._timeout_ms())
            self._effects.append(SetTimer(SKIPPING, self._skip_at_ms))
        else:
            self._skip(self._frontier)

    def _skip(self, number: int) -> None:
        if (
            number <= self._final.slot
            or self._is_over
            or not self._may_vote
            or not self._may_speak_of(number)
        ):
            return
        slot = self._slot(number)
        if self._may_skip(slot):
            self.record.timed_out(
                epoch=self._epoch.number,
                slot=number,
                leader=self._epoch.leader_of(number),
                late_ms=self._late_ms(),
            )
            self._vote(SKIP, slot, ZERO_HASH)

    def _may_skip(self, slot: Slot) -> bool:
        return not slot.voted_skip and not slot.voted_final

    # Voting

    def _vote(self, kind: str, slot: Slot, candidate: bytes) -> None:
        """Decide; counted at once, sent when it is in the log and signed."""
        assert self._me is not None, "only members vote"
        self._mark(kind, slot, candidate)
        self._records.append(VoteRecord(kind, self._epoch.number, slot.number, candidate))
        self._state(kind, slot.number, candidate)
        self._count("", VerifiedVote(kind, self._epoch.number, slot.number, candidate, self._me, b""))
        self._consider(self._finalize_vote, slot.number)

    @staticmethod
    def _mark(kind: str, slot: Slot, candidate: bytes) -> None:
        if kind == NOTAR:
            slot.voted_notar = candidate
        elif kind == FINAL:
            slot.voted_final = candidate
        else:
            slot.voted_skip = True

    def _state(self, kind: str, number: int, candidate: bytes) -> None:
        """Have it signed; it leaves when the signature comes."""
        self._statements.append(
            Statement(
                kind=kind,
                epoch=self._epoch.number,
                slot=number,
                candidate=candidate,
                digest=self._epoch.digest_of(kind, number, candidate),
            )
        )

    def _take_signatures(self, signatures: list[bytes]) -> None:
        for statement, signature in zip(self._signing.popleft(), signatures, strict=True):
            if statement.epoch != self._epoch.number or statement.slot <= self._final.slot:
                continue
            if statement.kind == CANDIDATE:
                self._send_proposal(statement, signature)
            else:
                self._send_vote(statement, signature)

    def _send_proposal(self, statement: Statement, signature: bytes) -> None:
        slot = self._slot(statement.slot)
        candidate = slot.candidates[statement.candidate]
        slot.proposal = VerifiedProposal(candidate, statement.candidate, signature, [])
        self._effects.append(Broadcast(Proposal(candidate, signature, self._justification(candidate))))

    def _send_vote(self, statement: Statement, signature: bytes) -> None:
        assert self._me is not None, "only members vote"
        kind, number, candidate = statement.kind, statement.slot, statement.candidate
        vote = VerifiedVote(kind, self._epoch.number, number, candidate, self._me, signature)
        slot = self._slot(number)
        slot.votes[kind][self._me] = vote
        if slot.power.get((kind, candidate), 0) >= self._epoch.quorum:
            self._consider(self._certify, kind, number, candidate, "")
        if self._set_of_others:
            self._effects.append(Broadcast(_unverified(vote)))

    # Rule 6: certificates

    def _certify(self, kind: str, number: int, candidate: bytes, peer: str) -> None:
        """A quorum of signatures for one statement makes a certificate; whose candidate is not known is asked for."""
        slot = self._slots.get(number)
        if slot is None or kind in slot.certificates:
            return
        signatures = slot.signatures_of(kind, candidate)
        if sum(self._epoch.powers[position] for position in signatures) < self._epoch.quorum:
            return
        about = skipped(self._epoch.number, number) if kind == SKIP else slot.candidates.get(candidate)
        if about is None:
            self._ask(peer)
            return
        self._hold(VerifiedCertificate(assemble(kind, about, signatures), candidate))

    def _hold(self, held: VerifiedCertificate) -> None:
        kind, candidate = held.certificate.kind, held.certificate.candidate
        number = candidate.slot
        if number <= self._final.slot or kind in self._slot(number).certificates:
            return
        slot = self._slot(number)
        slot.certificates[kind] = held
        self._record_end(kind, number)
        if kind != SKIP:
            slot.candidates[held.id] = candidate
        self._records.append(CertificateRecord(held.certificate))
        self._pass_on(held.certificate)
        self._consider(self._advance)
        if kind == FINAL:
            self._settle_final(held)
        elif kind == NOTAR:
            self._consider(self._finalize_vote, number)

    def _record_end(self, kind: str, number: int) -> None:
        """A slot is over; a Final certificate follows a Notar nearly always."""
        leader = self._epoch.leader_of(number)
        if kind == NOTAR:
            self.record.notarized(leader)
        elif kind == SKIP:
            late_ms = self._late_ms()
            self.record.skipped(epoch=self._epoch.number, slot=number, leader=leader, late_ms=late_ms)

    def _pass_on(self, certificate: Certificate) -> None:
        """Certificates wait for a moment: most peers will have shown by then that they need none."""
        if not self._set_of_others:
            if certificate.kind == FINAL:  # nobody else votes, but somebody may follow
                self._effects.append(Broadcast(certificate))
            return
        if not self._relaying:
            self._effects.append(SetTimer(RELAY, self._now_ms + self._pace.relay_ms))
        self._relaying.append(certificate)

    def _relay(self) -> None:
        """To whoever has not shown that it is past the slot. Who has voted Final there asks when it misses the rest."""
        for certificate in self._relaying:
            for position, member in enumerate(self._epoch.validators):
                if position != self._me and self._past[position] <= certificate.candidate.slot:
                    self._effects.append(Send(member.address, certificate))
        self._relaying = []

    # Rule 7: commit

    def _settle_final(self, held: VerifiedCertificate) -> None:
        """Everything up to this candidate is final; what lies below is of no use any more."""
        candidate = held.certificate.candidate
        self._final = Parent(candidate.slot, held.id, candidate.block_hash)
        self._final_certificate = held
        self._slots = {number: slot for number, slot in self._slots.items() if number > candidate.slot}
        self._set_standstill()
        self._consider(self._commit)
        self._consider(self._pace_slot)

    def _commit(self) -> None:
        """Its block, and with it every ancestor, leaves once it is executed; a carried block has left before."""
        if self._final.slot == self._committed.slot or self._final_certificate is None:
            return
        block = self._blocks.get(self._final.hash)
        if block is None:
            self._execute(self._final.hash, None)
            return
        done = self._blocks[self._committed.hash]
        self._committed = self._final
        if block.height > done.height:
            self._consider(self._forget_blocks)
            self._choose_head()
            self._committing.append(self._final.hash)
            self._effects.append(Finalize(self._final.hash, self._final_certificate.certificate))
        self._is_over = block.height >= self._epoch.last_height

    def _choose_head(self) -> None:
        """The block to build on next, if it is here."""
        base = self._base(self._frontier) if self._frontier > self._final.slot else self._final
        if base.hash != self._head and base.hash in self._blocks:
            self._head = base.hash
            self._effects.append(SetHead(base.hash))
        elif base.hash not in self._blocks:
            self._execute(base.hash, None)

    # Rule 8: standstill

    def _set_standstill(self) -> None:
        if self._set_of_others:
            self._effects.append(SetTimer(STANDSTILL, self._now_ms + self._pace.standstill_ms))

    def _stand_still(self) -> None:
        """Without finality for a while, and with something under way: where I am, my votes, my newest proposal. Who is
        no member does not hear what is under way, so it asks always."""
        self._set_standstill()
        if not self._slots and self._highest_epoch <= self._epoch.number and self._me is not None:
            return
        self._highest_epoch = (
            0  # who is in a later epoch says so again; one that somebody made up is forgotten
        )
        self._effects.append(Broadcast(self.status()))
        for number in sorted(self._slots, reverse=True)[: MAX_PAST_SLOTS + MAX_FUTURE_SLOTS + 1]:
            self._effects += [Broadcast(_unverified(vote)) for vote in self._own_votes(self._slots[number])]
        slot = self._slots.get(self._frontier)
        if slot is not None and slot.proposed is not None and slot.proposal is not None:
            proposal = slot.proposal
            justification = self._justification(proposal.candidate)
            self._effects.append(Broadcast(Proposal(proposal.candidate, proposal.signature, justification)))

    # Rule 9: epochs

    def _greet(self) -> None:
        """Ask where the others are in this epoch: what they said before this node came is said again."""
        self._set_standstill()
        if self._set_of_others:
            self._effects.append(Broadcast(self.status()))
        self._pace_slot()

    # Evidence

    def _accuse(self, known: VerifiedVote, vote: VerifiedVote) -> None:
        if known.signature and vote.signature:
            self._report(vote.position, fault_of_votes(known, vote, self._epoch))

    def _report(self, position: int, fault: Fault) -> None:
        """Once for each validator and epoch: that is how often it is punished."""
        if position not in self._accused:
            self._accused.add(position)
            self._effects.append(ReportFault(fault))

    def _report_refused(self, slot: Slot) -> None:
        assert slot.proposal is not None, "what is refused was proposed"
        validator = self._leader_address(slot.number)
        self._effects.append(ReportRefused(validator, slot.proposal.candidate, slot.proposal.signature))

    # Recovery

    def _recover(self, records: Sequence[LogRecord]) -> None:
        """Enter what the log and the guard hold of this epoch above the newest block on disk."""
        for record in records:
            match record:
                case BlockRecord():
                    continue  # the host's
                case CandidateRecord():
                    self._recover_candidate(record.candidate)
                case VoteRecord():
                    self._recover_vote(record)
                case CertificateRecord():
                    self._recover_certificate(record.certificate)
                case _:
                    assert_never(record)

    def _is_live(self, epoch: int, number: int) -> bool:
        return epoch == self._epoch.number and number > self._final.slot

    def _recover_candidate(self, candidate: Candidate) -> None:
        if not self._is_live(candidate.epoch, candidate.slot):
            return
        slot, name = self._slot(candidate.slot), self._epoch.id_of(candidate)
        slot.candidates[name] = candidate

    def _recover_vote(self, record: VoteRecord) -> None:
        if not self._is_live(record.epoch, record.slot) or self._me is None:
            return
        slot = self._slot(record.slot)
        if record.kind == CANDIDATE:
            slot.proposed = record.candidate
            return
        self._mark(record.kind, slot, record.candidate)
        if self._me not in slot.votes[record.kind]:
            self._count(
                "", VerifiedVote(record.kind, record.epoch, record.slot, record.candidate, self._me, b"")
            )

    def _recover_certificate(self, certificate: Certificate) -> None:
        candidate = certificate.candidate
        if not self._is_live(candidate.epoch, candidate.slot):
            return
        name = ZERO_HASH if certificate.kind == SKIP else self._epoch.id_of(candidate)
        held = VerifiedCertificate(certificate, name)
        slot = self._slot(candidate.slot)
        slot.certificates[certificate.kind] = held
        if certificate.kind != SKIP:
            slot.candidates[name] = candidate
        if certificate.kind == FINAL:
            self._settle_final(held)

    def _say_again_after_restart(self) -> None:
        """Ed25519 signs the same bytes the same way: signing again says the same thing again."""
        if not self._may_vote:
            return
        for number, slot in sorted(self._slots.items()):
            for record in self._votes_of(slot) if self._may_speak_of(number) else ():
                if record.kind != CANDIDATE or record.candidate in slot.candidates:
                    self._state(record.kind, number, record.candidate)
            self._consider(self._finalize_vote, number)


def _unverified(vote: VerifiedVote) -> Vote:
    return Vote(vote.kind, vote.epoch, vote.slot, vote.candidate, vote.position, vote.signature)
