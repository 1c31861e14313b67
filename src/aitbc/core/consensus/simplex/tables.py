"""The tables of one node: slots, blocks and peers of the running epoch, and what follows from them without deciding
anything. The rules over them are in rules.py. docs/spec/simplex.md
"""

from collections import deque

import msgspec

from aitbc.core.consensus.epoch import Anchor, Epoch
from aitbc.core.consensus.simplex.messages import (
    CANDIDATE,
    FINAL,
    MAX_JUSTIFICATION,
    NOTAR,
    SKIP,
    Status,
    Verified,
    VerifiedCertificate,
    VerifiedProposal,
    VerifiedVote,
    Vote,
)
from aitbc.core.consensus.simplex.pacing import Pace
from aitbc.core.consensus.simplex.record import Record
from aitbc.core.consensus.simplex.slots import Slot
from aitbc.core.consensus.simplex.wal import CandidateRecord, CertificateRecord, LogRecord, VoteRecord
from aitbc.core.types.blocks import ZERO_HASH, Candidate, Certificate
from aitbc.core.types.reasons import Reason

MAX_FUTURE_SLOTS = 2
"""Votes and proposals are kept up to the frontier + 2: an honest node is at most so far ahead of a quorum that has not
told this node yet."""
MAX_PAST_SLOTS = 16
"""Votes are counted down to the frontier − 16: late ones can still make a slot final. Certificates stay."""
MAX_FUTURE_CERTIFICATES = 64
"""Certificates are kept up to the frontier + 64, because they come in any order to who was away; each took a quorum."""
MAX_UNFINAL_BLOCKS = 2
"""Bounded speculation: on so many blocks that are not final, only candidates that add none."""


class Block(msgspec.Struct, frozen=True):
    """A block that was executed and is valid."""

    parent: bytes
    height: int
    timestamp_ms: int


class Parent(msgspec.Struct, frozen=True):
    """What a candidate stands on."""

    slot: int
    id: bytes
    hash: bytes


class Tables:
    """Everything an engine knows; of what strangers send, no more than the named maxima."""

    def __init__(self, *, address: str, pace: Pace, epoch: Epoch, anchor: Anchor, vote_after_ms: int) -> None:
        self._address = address
        self._pace = pace
        self._vote_after_ms = vote_after_ms
        self._now_ms = 0
        self._heard_ms: dict[str, int] = {}
        """By address: when members of the epoch before were heard of last."""
        self._heard: list[int] = []
        """By position: the same for this epoch."""
        self.record = Record()
        self._begin(epoch, anchor)

    # The epoch

    def _begin(self, epoch: Epoch, anchor: Anchor) -> None:
        """Rule 9: slots from the anchor on, with this epoch's set and leaders. Nothing of another epoch remains."""
        self._epoch = epoch
        self._anchor = anchor
        self._me = epoch.position_of(self._address)
        others = len(epoch.validators) - (self._me is not None)
        self._set_of_others = others > 0
        power = 0 if self._me is None else epoch.powers[self._me]
        self._is_quorum_alone = power >= epoch.quorum
        fresh = self._vote_after_ms == 0 or (anchor.slot == 0 and anchor.timestamp_ms > self._vote_after_ms)
        self._may_vote = self._me is not None and fresh
        self._slots: dict[int, Slot] = {}
        self._blocks = {anchor.hash: Block(ZERO_HASH, anchor.height, anchor.timestamp_ms)}
        self._refused: dict[tuple[bytes, bytes], Reason] = {}
        self._executing: set[tuple[bytes, bytes | None]] = set()
        self._final = Parent(anchor.slot, anchor.id, anchor.hash)
        self._final_certificate = (
            VerifiedCertificate(anchor.certificate, anchor.id) if anchor.certificate else None
        )
        self._committed = Parent(anchor.slot, anchor.id, anchor.hash)
        self._committing: deque[bytes] = deque()
        self._head = anchor.hash
        self._is_over = False
        self.record.begin_epoch([member.address for member in epoch.validators])
        self._frontier = anchor.slot + 1
        self._move_frontier(anchor.slot + 1)
        self._forgotten = 0
        self._entered_ms = self._now_ms
        self._due = False
        self._due_ms: int | None = None
        """When this slot's block is due, as far as that was worked out."""
        self._building: Parent | None = None
        self._expects_work = False
        self._skip_at_ms = 0
        self._relaying: list[Certificate] = []
        self._past = [0] * len(epoch.validators)
        """By position: the highest slot that each has shown to be in."""
        self._heard = [self._heard_ms.get(member.address, self._now_ms) for member in epoch.validators]
        self._accused: set[int] = set()

    def _move_frontier(self, number: int) -> None:
        """Leaders up to the horizon are worked out before it is seen: checks on other threads only look them up."""
        self._epoch.leader_of(number + MAX_FUTURE_SLOTS)
        self.record.over(number, number - self._frontier)
        self._frontier = number

    def _slot(self, number: int) -> Slot:
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = Slot(number)
        return slot

    # What others may ask

    @property
    def epoch(self) -> Epoch:
        """What messages are checked against now."""
        return self._epoch

    @property
    def horizon(self) -> int:
        """The highest slot for which a proposal is of use now."""
        return self._frontier + MAX_FUTURE_SLOTS

    @property
    def frontier(self) -> int:
        """Rule 1: the smallest slot that is not over."""
        return self._frontier

    @property
    def final_slot(self) -> int:
        """Of the newest candidate that is known to be final."""
        return self._final.slot

    @property
    def may_vote(self) -> bool:
        """Is this node in the set, and sure of what it said before?"""
        return self._may_vote

    @property
    def is_member(self) -> bool:
        return self._me is not None

    @property
    def timeout_ms(self) -> int:
        """T₀."""
        return self._pace.timeout_ms

    @property
    def silence_ms(self) -> int:
        """The living are heard within this: with nothing to do once in `idle_ms`, and more often when agreement stands
        still."""
        return self._pace.idle_ms + self._pace.dead_ms

    def is_dead(self, position: int) -> bool:
        """Is this validator not waited for, because a quorum was heard and it was not?"""
        return self._is_dead(position)

    @property
    def is_settled(self) -> bool:
        """Is every final block on disk? The body of one that is not may be in this node's log and nowhere else."""
        return self._committed.slot == self._final.slot and not self._committing

    def live_records(self) -> list[LogRecord]:
        """What a log that is rewritten now, when all is settled, must hold: everything above the newest block on
        disk."""
        records: list[LogRecord] = []
        if self._final_certificate is not None:
            records.append(CertificateRecord(self._final_certificate.certificate))
        for _, slot in sorted(self._slots.items()):
            records += [CandidateRecord(candidate) for candidate in slot.candidates.values()]
            records += self._votes_of(slot)
            records += [CertificateRecord(held.certificate) for held in slot.certificates.values()]
        return records

    def status(self) -> Status:
        """How far this node is: what it tells whoever comes."""
        return Status(self._epoch.number, self._final.slot, self._frontier)

    def keeps(self, message: Verified) -> bool:
        """Would the tables take this now? What they would not may be told again later."""
        match message:
            case VerifiedVote():
                slot = message.slot
                lowest = max(self._final.slot + 1, self._frontier - MAX_PAST_SLOTS)
                is_near = message.epoch == self._epoch.number and lowest <= slot <= self.horizon
                return is_near and not self._is_counted(message)
            case VerifiedProposal():
                candidate = message.candidate
                is_near = self._final.slot < candidate.slot <= self.horizon
                return candidate.epoch == self._epoch.number and is_near and self._is_news(message)
            case VerifiedCertificate():
                return message.certificate.candidate.epoch == self._epoch.number and self._is_open(
                    message.certificate
                )
            case _:
                return False

    def is_old(self, message: Vote | Certificate) -> bool:
        """Is it sure, before a signature is checked, that this says nothing new of the running epoch? May be asked on
        any thread."""
        if isinstance(message, Vote):
            is_past = (
                message.slot < self._frontier - MAX_PAST_SLOTS
            )  # a later one shows at least who is alive
            return message.epoch == self._epoch.number and (is_past or self._is_counted(message))
        return message.candidate.epoch == self._epoch.number and not self._is_open(message)

    def _is_counted(self, vote: Vote | VerifiedVote) -> bool:
        """Is the voter's vote of this kind held? One that contradicts it is evidence, once."""
        slot = self._slots.get(vote.slot)
        known = slot.votes.get(vote.kind, {}).get(vote.position) if slot is not None else None
        return known is not None and (known.candidate == vote.candidate or vote.position in self._accused)

    def _is_open(self, certificate: Certificate) -> bool:
        slot = self._slots.get(certificate.candidate.slot)
        is_held = slot is not None and certificate.kind in slot.certificates
        return certificate.candidate.slot > self._final.slot and not is_held

    def _is_news(self, proposal: VerifiedProposal) -> bool:
        """The slot's first proposal, or another one: that is evidence, once. The justification and the body beside it
        are not signed, so the same proposal can be told in any number of forms."""
        candidate = proposal.candidate
        slot = self._slots.get(candidate.slot)
        if slot is None or slot.proposal is None:
            return True
        is_accused = self._epoch.leader_of(candidate.slot) in self._accused
        return slot.proposal.id != proposal.id and not is_accused

    # What the tables say

    def _base(self, number: int) -> Parent:
        """The highest notarized slot below with a Skip for every slot between, else the newest final candidate."""
        below = number - 1
        while below > self._final.slot:
            slot = self._slots.get(below)
            assert slot is not None and slot.is_cleared, "slots below the frontier are over"
            if slot.notarized is not None:
                return Parent(below, slot.notarized.id, slot.notarized.certificate.candidate.block_hash)
            below -= 1
        return self._final

    def _unfinal_blocks(self, base: Parent) -> int:
        final = self._blocks.get(self._final.hash)
        return self._blocks[base.hash].height - final.height if final else MAX_UNFINAL_BLOCKS

    def _parent_of(self, candidate: Candidate) -> Parent | None:
        """The parent, if it is final or its Notar certificate is held."""
        if candidate.parent_slot == self._final.slot and candidate.parent_id == self._final.id:
            return self._final
        slot = self._slots.get(candidate.parent_slot)
        held = slot.notarized if slot is not None else None
        if held is None or held.id != candidate.parent_id:
            return None
        return Parent(candidate.parent_slot, held.id, held.certificate.candidate.block_hash)

    def _is_gap_skipped(self, candidate: Candidate) -> bool:
        """A Skip certificate is held for every slot between parent and candidate."""
        for number in range(candidate.parent_slot + 1, candidate.slot):
            slot = self._slots.get(number)
            if slot is None or not slot.is_skipped:
                return False
        return True

    def _is_justified(self, candidate: Candidate) -> bool:
        return self._parent_of(candidate) is not None and self._is_gap_skipped(candidate)

    def _justification(self, candidate: Candidate) -> list[Certificate]:
        """The parent's Notar and the newest Skips between; whoever lacks older ones asks."""
        certificates: list[Certificate] = []
        for number in range(candidate.slot - 1, candidate.parent_slot, -1):
            slot = self._slots.get(number)
            if slot is not None and slot.is_skipped and len(certificates) < MAX_JUSTIFICATION - 1:
                certificates.append(slot.certificates[SKIP].certificate)
        parent = self._slots.get(candidate.parent_slot)
        if parent is not None and parent.notarized is not None:
            certificates.append(parent.notarized.certificate)
        return certificates[::-1]

    def _leader_address(self, number: int) -> str:
        return self._epoch.validators[self._epoch.leader_of(number)].address

    def _late_ms(self) -> int:
        """How long this slot's block has been due."""
        return 0 if self._due_ms is None else max(0, self._now_ms - self._due_ms)

    # Peers

    def _shows(self, peer: str, slot: int) -> None:
        """A validator's link has told that it is in this slot, or holds what ends the one before."""
        position = self._epoch.position_of(peer)
        if position is not None and slot > self._past[position]:
            self._past[position] = slot

    def _is_dead(self, leader: int) -> bool:
        """Silent for long while a quorum was not: one dead leader does not cost a timeout each turn."""
        if leader == self._me:
            return False
        power = 0
        for position in sorted(range(len(self._heard)), key=lambda place: -self._last_heard(place)):
            power += self._epoch.powers[position]
            if power >= self._epoch.quorum:
                return self._last_heard(position) - self._heard[leader] >= self._pace.dead_ms
        return False

    def _last_heard(self, position: int) -> int:
        return self._now_ms if position == self._me else self._heard[position]

    # This node's own words

    def _own_votes(self, slot: Slot) -> list[VerifiedVote]:
        if self._me is None:
            return []
        own = [slot.votes[kind].get(self._me) for kind in (NOTAR, SKIP, FINAL)]
        return [vote for vote in own if vote is not None and vote.signature]

    def _votes_of(self, slot: Slot) -> list[VoteRecord]:
        """What this node has said in a slot, as the log has it."""
        said = [
            (CANDIDATE, slot.proposed),
            (NOTAR, slot.voted_notar),
            (SKIP, ZERO_HASH if slot.voted_skip else None),
            (FINAL, slot.voted_final),
        ]
        return [
            VoteRecord(kind, self._epoch.number, slot.number, candidate)
            for kind, candidate in said
            if candidate is not None
        ]

    # Forgetting

    def _forget_old_votes(self) -> None:
        lowest = self._frontier - MAX_PAST_SLOTS
        for number in range(max(self._forgotten, self._final.slot) + 1, lowest):
            if number in self._slots:
                self._slots[number].votes = {NOTAR: {}, SKIP: {}, FINAL: {}}
        self._forgotten = max(self._forgotten, lowest - 1)

    def _forget_blocks(self) -> None:
        """Those below the newest final block: nothing can stand on them."""
        lowest = self._blocks[self._committed.hash].height
        self._blocks = {name: block for name, block in self._blocks.items() if block.height >= lowest}
        wanted = {c.block_hash for slot in self._slots.values() for c in slot.candidates.values()}
        self._refused = {asked: reason for asked, reason in self._refused.items() if asked[0] in wanted}
        self._executing = {asked for asked in self._executing if asked[0] in wanted}
