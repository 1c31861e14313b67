"""Messages of agreement: checked beside the loop, passed on when they are of use, and heard by the replica."""

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Protocol

import msgspec

from aitbc.core.codec.wire import pack, unpack
from aitbc.core.consensus.simplex.messages import (
    Message,
    Proposal,
    Status,
    Verified,
    VerifiedProposal,
    VerifiedVote,
    Vote,
    check,
)
from aitbc.core.consensus.simplex.rules import Simplex
from aitbc.core.peer.compact import CompactBlock, Puzzle, block_of
from aitbc.core.peer.gossip import AGAIN_MS
from aitbc.core.peer.kinds import CANDIDATE, CERTIFICATE, CONSENSUS_STATUS, VOTE, Kind
from aitbc.core.peer.network import Delivered, Verdict
from aitbc.core.peer.peers import Heard
from aitbc.core.types.blocks import Block, Certificate
from aitbc.core.types.reasons import Rejected
from aitbc.node.talk.puzzles import Puzzles
from aitbc.node.talk.wires import Wires, key_of

log = logging.getLogger("aitbc.node")

MAX_CHECKING = 1_024
"""Messages of agreement between arrival and verdict."""
MAX_CHECKING_OF_PEER = 128
"""Of one peer: more than two votes of each of 50 validators, and an eighth of all."""
MAX_LATE = 4_096
"""Votes of slots that are over: each shows once that its validator lives, and is not checked again."""
MAX_TOLD = 1_024
"""Some seconds of a busy agreement of 50."""


class Offer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A proposal with its block told by names, when the teller has it."""

    proposal: Proposal
    block: CompactBlock | None


class Voter(Protocol):
    def engine(self) -> Simplex: ...

    def hear(self, peer: str, message: Verified, block: Block | None) -> None: ...


class Agreement:
    def __init__(self, wires: Wires, host: Voter, *, puzzles: Puzzles) -> None:
        self._wires, self._host = wires, host
        self._puzzles = puzzles
        self.checking = 0
        """Messages between arrival and verdict."""
        self._checking_of: Counter[bytes] = Counter()
        self._late: OrderedDict[bytes, None] = OrderedDict()
        """Ids of votes that came after their slot was final."""
        self._told: OrderedDict[bytes, int] = OrderedDict()
        """What all peers have heard from here, and when."""

    # Telling

    def tell(self, message: Message, peer: str | None, block: Block | None) -> None:
        """Everybody, or one peer: by the name under which it was heard, or by a validator's address. Validators have
        no connections of their own name, so what is meant for one is told to all."""
        wires = self._wires
        kind, payload = _encoded(message, None if block is None else self._puzzles.compacted(block))
        key = key_of(peer)
        if key is not None:
            wires.perform(wires.network.say(wires.now(), key, kind, payload))
        elif kind is CONSENSUS_STATUS:
            for other in wires.network.peers:
                wires.perform(wires.network.say(wires.now(), other, kind, payload))
        elif self._is_news(payload):
            wires.perform(wires.network.publish(wires.now(), kind, payload))

    def greet(self, key: bytes) -> None:
        """Tell a new peer where agreement stands here."""
        status = pack(self._host.engine().status())
        self._wires.perform(self._wires.network.say(self._wires.now(), key, CONSENSUS_STATUS, status))

    def _is_news(self, payload: bytes) -> bool:
        """A certificate for three validators is told to all once: a peer holds it against us to hear it again."""
        name, now_ms = sha256(payload).digest(), self._wires.now()
        told_ms = self._told.get(name)
        if told_ms is not None and 0 <= now_ms - told_ms < AGAIN_MS:
            return False
        self._told[name] = now_ms
        self._told.move_to_end(name)
        if len(self._told) > MAX_TOLD:
            self._told.popitem(last=False)
        return True

    # Hearing

    def hear(self, effect: Heard) -> None:
        """Where a peer stands."""
        if effect.kind is not CONSENSUS_STATUS:
            return
        try:
            status = unpack(effect.message, Status, limit=CONSENSUS_STATUS.limit)
            verified = check(status, self._host.engine().epoch, horizon=0)
        except Rejected as rejection:
            self._wires.penalise(effect.key, rejection.message)
            return
        self._host.hear(effect.key.hex(), verified, None)

    def deliver(self, effect: Delivered) -> None:
        """A vote, proposal or certificate that nobody told before."""
        if effect.id in self._late:
            self._judge(effect, Verdict.IGNORE)
        elif self.checking >= MAX_CHECKING or self._checking_of[effect.key] >= MAX_CHECKING_OF_PEER:
            self._wires.refused["too_many"] += 1
            self._judge(effect, Verdict.IGNORE)
        else:
            self.checking += 1
            self._checking_of[effect.key] += 1
            self._wires.spawn(self._check(effect))

    def _judge(self, effect: Delivered, verdict: Verdict) -> None:
        self._wires.perform(self._wires.network.judge(self._wires.now(), effect.id, verdict))

    async def _check(self, effect: Delivered) -> None:
        try:
            examined = await self._wires.beside(self._examine(effect))
        except Rejected as rejection:
            self._refuse(effect, rejection)
            return
        finally:
            self.checking -= 1
            self._checking_of -= Counter([effect.key])
        if examined is None:
            self._judge(effect, Verdict.IGNORE)
            return
        verified, puzzle, block = examined
        verdict = Verdict.ACCEPT if self._host.engine().keeps(verified) else Verdict.IGNORE
        if verdict is Verdict.ACCEPT:
            self._is_news(effect.payload)  # it goes on to all others now
        self._judge(effect, verdict)
        if isinstance(verified, VerifiedProposal) and puzzle is not None and verdict is Verdict.ACCEPT:
            self._puzzles.note(effect.key, verified, puzzle, block)
        elif isinstance(verified, VerifiedVote) and verified.slot <= self._host.engine().final_slot:
            self._note_late(effect.id)
        self._host.hear(effect.key.hex(), verified, block)

    def _note_late(self, name: bytes) -> None:
        self._late[name] = None
        if len(self._late) > MAX_LATE:
            self._late.popitem(last=False)

    def _examine(self, effect: Delivered) -> Callable[[], "_Examined | None"]:
        """What takes long of it, for any thread; that raises Rejected, and returns nothing for what is not new."""
        engine = self._host.engine()
        epoch, horizon = engine.epoch, engine.horizon

        def examine() -> _Examined | None:
            message, compact = _decoded(effect.kind, effect.payload)
            if isinstance(message, Vote | Certificate) and engine.is_old(message):
                return None
            verified = check(message, epoch, horizon=horizon)
            if not isinstance(verified, VerifiedProposal) or compact is None:
                return verified, None, None
            puzzle = self._puzzles.piece_together(verified, compact)
            return verified, puzzle, None if puzzle is None else block_of(puzzle)

        return examine

    def _refuse(self, effect: Delivered, rejection: Rejected) -> None:
        self._wires.refused[str(rejection.reason)] += 1
        log.info(
            "refused: %s",
            rejection,
            extra={"component": "consensus", "event": "refused", "kind": effect.kind.name},
        )
        self._judge(effect, Verdict.REJECT)


_Examined = tuple[Verified, Puzzle | None, Block | None]


def _encoded(message: Message, block: CompactBlock | None) -> tuple[Kind, bytes]:
    match message:
        case Vote():
            return VOTE, pack(message)
        case Proposal():
            return CANDIDATE, pack(Offer(message, block))
        case Certificate():
            return CERTIFICATE, pack(message)
        case Status():
            return CONSENSUS_STATUS, pack(message)


def _decoded(kind: Kind, payload: bytes) -> tuple[Message, CompactBlock | None]:
    """Raises Rejected."""
    if kind is CANDIDATE:
        offer = unpack(payload, Offer, limit=kind.limit)
        return offer.proposal, offer.block
    form: type[Vote] | type[Certificate] = Vote if kind is VOTE else Certificate
    message: Message = unpack(payload, form, limit=kind.limit)
    return message, None
