"""Mistakes in the rules of agreement, in the log and in a host of opaque blocks."""

import copy
from typing import Any

from aitbc.core.consensus.engine import (
    Persist,
    Send,
    SignStatements,
    StatementsSigned,
)
from aitbc.core.consensus.epoch import Epoch
from aitbc.core.consensus.simplex.guard import Guard, encode_half
from aitbc.core.consensus.simplex.messages import NOTAR
from aitbc.core.consensus.simplex.rules import Parent, Simplex
from aitbc.core.consensus.simplex.slots import Slot
from aitbc.core.consensus.simplex.wal import HEAD_BYTES, VoteRecord, encode_frame
from aitbc.sim import keys
from aitbc.sim.disk import MARK
from aitbc.sim.epochs import GENESIS_HASH
from aitbc.sim.node import Node
from simulation.planted import Mutant


def rules(**wrong: Any) -> type[Node]:
    """A node whose engine has one rule wrong."""
    engine = type("WrongSimplex", (Simplex,), wrong)
    return type("WrongNode", (Node,), {"engine_class": engine})


def host(**wrong: Any) -> type[Node]:
    return type("WrongNode", (Node,), wrong)


# Rules


def finalize_after_skip(self: Any, slot: Slot) -> bool:
    return bool(self._may_vote and slot.voted_notar and not slot.voted_final and slot.notarized)


def skip_after_final(_self: Any, slot: Slot) -> bool:
    return not slot.voted_skip


def parent_without_notar(self: Any, candidate: Any) -> Parent | None:
    if candidate.parent_slot <= self._final.slot:
        return self._final
    slot = self._slots.get(candidate.parent_slot)
    known = slot.candidates.get(candidate.parent_id) if slot else None
    return Parent(candidate.parent_slot, candidate.parent_id, known.block_hash) if known else None


def take_the_newest_proposal(self: Any, peer: str, proposal: Any) -> None:
    slot = self._slots.get(proposal.candidate.slot)
    if slot is not None:
        slot.proposal = None
    Simplex._hear_proposal(self, peer, proposal)


def notarize_again(self: Any, slot: Slot) -> bool:
    return (
        self._may_vote and not self._is_over and slot.voted_notar != slot.proposal.id and not slot.is_skipped
    )  # type: ignore[union-attr]


def small_quorum(self: Any, epoch: Epoch, anchor: Any) -> None:
    epoch = copy.copy(epoch)
    epoch.quorum = sum(epoch.powers) // 2 + 1
    Simplex._begin(self, epoch, anchor)


def quorum_of_heads(self: Any, epoch: Epoch, anchor: Any) -> None:
    epoch = copy.copy(epoch)
    epoch.powers = [1] * len(epoch.powers)
    epoch.quorum = 2 * len(epoch.powers) // 3 + 1
    Simplex._begin(self, epoch, anchor)


def move_on_without_certificate(self: Any) -> None:
    slot = self._slots.get(self._frontier)
    if slot is not None and slot.voted_skip:
        self._frontier += 1
    Simplex._advance(self)


def commit_on_notar(self: Any, held: Any) -> None:
    Simplex._hold(self, held)
    if held.certificate.kind == NOTAR:
        self._settle_final(held)


def count_twice(self: Any, peer: str, vote: Any) -> None:
    slot = self._slot(vote.slot)
    total = slot.count(vote, self._epoch.powers[vote.position])
    if total >= self._epoch.quorum:
        self._consider(self._finalize_vote, vote.slot)
        self._consider(self._certify, vote.kind, vote.slot, vote.candidate, peer)


def keep_the_old_tables(self: Any, epoch: Epoch, anchor: Any) -> None:
    old = getattr(self, "_slots", {})
    Simplex._begin(self, epoch, anchor)
    self._slots = {number: slot for number, slot in old.items() if number > anchor.slot}


def accuse_repetition(slot: Slot, vote: Any) -> Any:
    return slot.votes[vote.kind].get(vote.position)


def accuse_who_repeats(self: Any, peer: str, vote: Any) -> None:
    known = accuse_repetition(self._slot(vote.slot), vote)
    if known is not None and known.signature and vote.signature:
        self._accuse(known, vote)
    Simplex._count(self, peer, vote)


def nothing(_self: Any, *_: Any) -> None:
    """Forgotten."""


def never(_self: Any, *_: Any) -> bool:
    return False


def always(_self: Any, *_: Any) -> bool:
    return True


def impatient(_self: Any) -> int:
    return 20


def build_behind_the_end(self: Any, base: Parent) -> bool:
    return self._unfinal_blocks(base) >= 2 and self._blocks[base.hash].height < self._epoch.last_height


def any_height(self: Any, candidate: Any, parent: Parent) -> Any:
    last, self._epoch = self._epoch, copy.copy(self._epoch)
    self._epoch.last_height = 10**9
    verdict = Simplex._judge(self, candidate, parent)
    self._epoch = last
    return verdict


def persist_last(self: Any) -> Any:
    effects = Simplex._leave(self)
    return sorted(effects, key=lambda effect: isinstance(effect, Persist))


def unlogged_votes(self: Any) -> Any:
    self._records = [record for record in self._records if not isinstance(record, VoteRecord)]
    return Simplex._leave(self)


def tell_nobody_certificates(self: Any) -> Any:
    effects = Simplex._leave(self)
    return [effect for effect in effects if not isinstance(effect, Send)]


# Hosts


def sign_without_guard(self: Any, effect: SignStatements) -> None:
    """No second line: what the log forgets is forgotten."""
    self.cluster.checks.on_signed(self, effect.statements)
    signatures = [keys.sign(self.auth_key, statement.digest) for statement in effect.statements]
    self.cluster.after(0, self, "event", StatementsSigned(signatures))


def forget_the_log(self: Any) -> Any:
    guard, _, after = Node.remember(self)
    return guard, [], after


def forget_the_tail(self: Any) -> Any:
    """A torn tail that is not cut off."""
    before = self.disk.log
    result = Node.remember(self)
    if len(self.disk.log) < len(before):
        self.disk.log = before
        self.disk.sync()
    return result


def vote_at_once_without_guard(self: Any) -> Any:
    guard, records, _ = Node.remember(self)
    fresh = Guard(genesis_hash=GENESIS_HASH, signed=guard.signed)
    self.disk.guard = [encode_half(fresh)] * 2
    return fresh, records, 0


def log_without_block(self: Any, records: Any) -> None:
    self.disk.log += encode_frame(records, MARK)
    self.write("log")


def rewrite_empty(self: Any) -> None:
    self.disk.log = self.disk.log[:HEAD_BYTES]
    self.disk.sync()


def commit_without_ancestors(self: Any, effect: Any) -> None:
    parent = self.blocks[self.blocks[effect.hash].parent]
    self.committed.setdefault(self.blocks[effect.hash].parent, parent.height)
    Node._finalize(self, effect)


def blind_verdict(_self: Any, _effect: Any, _block: Any) -> None:
    return None


def fetch_again_ever_later(self: Any, name: bytes) -> None:
    """Each time half as long again, without an end."""
    before = self.fetching.get(name)
    wait_ms = before.wait_ms if before else 0
    Node.fetch_again(self, name)
    if before:
        before.wait_ms = wait_ms * 3 // 2


MUTANTS = [
    Mutant("vote Final after Skip", "guard", rules(_may_finalize=finalize_after_skip)),
    Mutant("vote Skip after Final", "guard", rules(_may_skip=skip_after_final)),
    Mutant(
        "accept a missing Skip certificate", "validity", rules(_is_gap_skipped=always), "stale_parent_leader"
    ),
    Mutant(
        "accept a parent that is not notarized",
        "validity",
        rules(_parent_of=parent_without_notar),
        "stale_parent_leader",
        7,
    ),
    Mutant(
        "notarize twice in a slot",
        "guard",
        rules(_may_notarize=notarize_again, _hear_proposal=take_the_newest_proposal),
        "equivocator",
    ),
    Mutant("a quorum of one half", "certificate", rules(_begin=small_quorum)),
    Mutant("a quorum of heads, not of power", "certificate", rules(_begin=quorum_of_heads), None),
    Mutant("leave a slot without a certificate", "liveness", rules(_advance=move_on_without_certificate)),
    Mutant("commit what is only notarized", "certificate", rules(_hold=commit_on_notar)),
    Mutant("count a repeated vote again", "liveness", rules(_count=count_twice)),
    Mutant("take an old epoch's votes into the new one", "evidence", rules(_begin=keep_the_old_tables)),
    Mutant("accuse who repeats a vote", "evidence", rules(_count=accuse_who_repeats), None),
    Mutant("never skip", "liveness", rules(_skip_in_time=nothing)),
    Mutant("stand still for ever", "liveness", rules(_stand_still=nothing)),
    Mutant("wait as long for a slow network", "liveness", rules(_timeout_ms=impatient)),
    Mutant("lead twice in a slot", "guard", rules(_has_spoken_as_leader=never)),
    Mutant("build behind the epoch's end", "evidence", rules(_must_carry=build_behind_the_end)),
    Mutant("accept blocks behind the epoch's end", "epoch", rules(_must_carry=never, _judge=any_height)),
    Mutant("answer nobody", "liveness", rules(_leave=tell_nobody_certificates)),
    Mutant(
        "do not say again what was said before a crash", "liveness", rules(_say_again_after_restart=nothing)
    ),
    Mutant(
        "send before it is in the log",
        "double vote",
        host(engine_class=type("Wrong", (Simplex,), {"_leave": persist_last}), sign=sign_without_guard),
        None,
    ),
    Mutant(
        "leave votes out of the log",
        "double vote",
        host(engine_class=type("Wrong", (Simplex,), {"_leave": unlogged_votes}), sign=sign_without_guard),
        None,
    ),
    Mutant("leave the log unread", "guard", host(remember=forget_the_log), None),
    Mutant("leave a torn tail in the log", "liveness", host(remember=forget_the_tail), None),
    Mutant("vote at once without a guard", "double vote", host(remember=vote_at_once_without_guard), None),
    Mutant("log a candidate without its block", "liveness", host(write_log=log_without_block), None, None),
    Mutant(
        "rewrite the log without what is live",
        "double vote",
        host(rewrite_log=rewrite_empty, sign=sign_without_guard),
        None,
    ),
    Mutant("commit a block without its ancestors", "agreement", host(_finalize=commit_without_ancestors)),
    Mutant("ask ever later for a block", "liveness", host(fetch_again=fetch_again_ever_later)),
    Mutant("find every block valid", "validity", host(_verdict=blind_verdict), "bad_root_leader"),
]
