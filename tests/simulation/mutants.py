"""Test the tester: mistakes planted in the rules, in the log and in the host, each of which a seed must find.

`make mutants` prints which. A mutant is a class with one thing wrong; `attack` and `nodes` say in which runs it can
show, so that the search is short; nothing else is arranged.
"""

import copy
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from aitbc.core.chain.mempool import Settled
from aitbc.core.consensus.engine import Persist, Send, SetTimer, SignStatements, StatementsSigned
from aitbc.core.consensus.epoch import Epoch
from aitbc.core.consensus.simplex.guard import Guard, encode_half
from aitbc.core.consensus.simplex.messages import NOTAR
from aitbc.core.consensus.simplex.rules import Parent, Simplex
from aitbc.core.consensus.simplex.slots import Slot
from aitbc.core.consensus.simplex.wal import HEAD_BYTES, VoteRecord, encode_frame
from aitbc.core.replica import Check, Checked, Commit, Committed, Log, Replica, Tell
from aitbc.core.types.reasons import Reason
from aitbc.sim import keys
from aitbc.sim.disk import MARK
from aitbc.sim.epochs import GENESIS_HASH
from aitbc.sim.node import Node
from aitbc.sim.process import Died
from aitbc.sim.run import Report, play_seed
from aitbc.sim.whole import Whole

MAX_SEEDS = 1_000


class Mutant(NamedTuple):
    name: str
    node: type[Any]
    attack: str | None = "drawn"
    nodes: int | None = 4
    whole: bool = False
    """In a node with a ledger."""


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


# Whole nodes


def whole(**wrong: Any) -> type[Whole]:
    return type("WrongWhole", (Whole,), wrong)


def replicas(**wrong: Any) -> type[Whole]:
    """A whole node whose replica has one thing wrong."""
    wrong_class = type("WrongReplica", (Replica,), wrong)

    def new_replica(self: Any, records: Any, vote_after_ms: int) -> Replica:
        replica = Whole.new_replica(self, records, vote_after_ms)
        replica.__class__ = wrong_class
        return replica

    return whole(new_replica=new_replica)


def parts(wrong: Callable[[Any], None]) -> type[Whole]:
    """A whole node in whose replica or executor something is exchanged."""

    def new_replica(self: Any, records: Any, vote_after_ms: int) -> Replica:
        replica = Whole.new_replica(self, records, vote_after_ms)
        self.replica = replica
        wrong(self)
        return replica

    return whole(new_replica=new_replica)


def no_block_record(_self: Any, _block_hash: bytes, _seen: Any) -> list[Any]:
    return []


def sign_then_log(self: Any, effects: list[Any]) -> None:
    Whole.perform(self, sorted(effects, key=lambda effect: isinstance(effect, Log)))


def sign_and_send(self: Any, effect: SignStatements) -> None:
    """What comes of the signatures does not wait for the log either."""
    self.cluster.checks.on_signed(self, effect.statements)
    signatures = [keys.sign(self.auth_key, statement.digest) for statement in effect.statements]
    for result in self.replica.step(self.now_ms(), StatementsSigned(signatures)):
        if isinstance(result, Tell):
            self.perform_one(result)
        else:
            self.effects.append(result)


def publish_then_store(self: Any, job: Commit) -> Committed:
    last = job.blocks[-1]
    commits = [self.executor.seal(built, job.certificate if built is last else None) for built in job.blocks]
    self.publish(job, commits)
    self.maybe_die()
    self.store_blocks(commits)
    return Committed([commit.block for commit in commits])


def store_one_by_one(self: Any, commits: Any) -> None:
    for commit in commits:
        self.disk.store.commit(commit)
        if len(commits) > 1 and not self.cluster.draw.randrange(4):
            raise Died


def commit_the_last_only(self: Any, job: Commit) -> Committed:
    return Whole.commit(self, msgspec.structs.replace(job, blocks=job.blocks[-1:]))


def stay_on_this_state(node: Any) -> None:
    branches = node.executor.branches

    def tip_at(block_hash: bytes) -> Any:
        path = branches.path(block_hash)
        return branches._tip_of(path[-1]) if path else branches.head

    branches.tip_at = tip_at


def believe_every_block(self: Any, job: Check) -> Checked:
    verdict = Whole.judge(self, job)
    if verdict.built is not None or verdict.rejection.reason is not Reason.ROOT_MISMATCH:
        return verdict
    header = job.block.header
    txs = [self.executor.transactions.verify(tx) for tx in job.block.txs]
    built = self.executor.build(
        txs, proposer=header.proposer, timestamp_ms=header.timestamp_ms, parent=header.parent
    )
    self.executor.abandon()
    return Checked(job.hash, msgspec.structs.replace(built, block=job.block, hash=job.hash))


def blame_the_block(node: Any) -> None:
    undecided = node.replica._undecided
    undecided.exchanged = lambda block_hash: undecided.refused(block_hash, Reason.ROOT_MISMATCH)


def fetch_once(self: Any, now_ms: int, name: bytes) -> Any:
    return [effect for effect in Replica._fetch(self, now_ms, name) if not isinstance(effect, SetTimer)]


def old_set(self: Any, certificate: Any) -> Any:
    began, running = Replica._epoch_began(self, certificate), self.engine.epoch
    epoch = Epoch(
        number=began.epoch.number,
        validators=running.validators,
        leaders=running.leader_of,
        last_height=began.epoch.last_height,
        chain_id=running.chain_id,
        genesis_hash=running.genesis_hash,
    )
    return msgspec.structs.replace(began, epoch=epoch)


def keep_what_is_final(node: Any) -> None:
    node.replica.mempool.settle = lambda _included: Settled([], [], [])


def log_unread(self: Any) -> Any:
    guard, _, after = Whole.remember(self)
    return guard, [], after


def from_disk_nothing(_self: Any, _name: bytes) -> None:
    return None


WHOLE_MUTANTS = [
    Mutant("log a candidate without its block", replicas(_block_record=no_block_record), None, 1, whole=True),
    Mutant("sign, then log", whole(perform=sign_then_log, sign=sign_and_send), None, 4, whole=True),
    Mutant("leave the log unread", whole(remember=log_unread, sign=sign_without_guard), None, None, whole=True),
    Mutant("show a block before it is on disk", whole(commit=publish_then_store), None, 1, whole=True),
    Mutant("write blocks of one commit one by one", whole(store_blocks=store_one_by_one), None, 4, whole=True),
    Mutant("commit a block without its ancestors", whole(commit=commit_the_last_only), None, 4, whole=True),
    Mutant("execute on whatever state is there", parts(stay_on_this_state), None, 4, whole=True),
    Mutant("believe a state root", whole(judge=believe_every_block), "bad_root_leader", 4, whole=True),
    Mutant("rewrite the log before a final block is on disk", replicas(is_settled=True), None, 1, whole=True),
    Mutant("blame a block for an exchanged body", parts(blame_the_block), "body_swapper", 4, whole=True),
    Mutant("forget what undecided blocks hold", replicas(_hold=nothing), None, 4, whole=True),
    Mutant("keep in the mempool what is final", parts(keep_what_is_final), None, 1, whole=True),
    Mutant("ask for a block once", replicas(_fetch=fetch_once), None, 4, whole=True),
    Mutant("go on with the old set", replicas(_epoch_began=old_set), None, 5, whole=True),
    Mutant("vote on with the old key", whole(_check_key=nothing), None, 2, whole=True),
    Mutant("hand out nothing from the disk", whole(_stored=from_disk_nothing), None, 4, whole=True),
]  # fmt: skip

MUTANTS = [
    Mutant("vote Final after Skip", rules(_may_finalize=finalize_after_skip)),
    Mutant("vote Skip after Final", rules(_may_skip=skip_after_final)),
    Mutant("accept a missing Skip certificate", rules(_is_gap_skipped=always), "stale_parent_leader"),
    Mutant("accept a parent that is not notarized", rules(_parent_of=parent_without_notar), "stale_parent_leader", 7),
    Mutant(
        "notarize twice in a slot",
        rules(_may_notarize=notarize_again, _hear_proposal=take_the_newest_proposal),
        "equivocator",
    ),
    Mutant("a quorum of one half", rules(_begin=small_quorum)),
    Mutant("a quorum of heads, not of power", rules(_begin=quorum_of_heads), None),
    Mutant("leave a slot without a certificate", rules(_advance=move_on_without_certificate)),
    Mutant("commit what is only notarized", rules(_hold=commit_on_notar)),
    Mutant("count a repeated vote again", rules(_count=count_twice)),
    Mutant("take an old epoch's votes into the new one", rules(_begin=keep_the_old_tables)),
    Mutant("accuse who repeats a vote", rules(_count=accuse_who_repeats), None),
    Mutant("never skip", rules(_skip_in_time=nothing)),
    Mutant("stand still for ever", rules(_stand_still=nothing)),
    Mutant("wait as long for a slow network", rules(_timeout_ms=impatient)),
    Mutant("lead twice in a slot", rules(_has_spoken_as_leader=never)),
    Mutant("build behind the epoch's end", rules(_must_carry=build_behind_the_end)),
    Mutant("accept blocks behind the epoch's end", rules(_must_carry=never, _judge=any_height)),
    Mutant("answer nobody", rules(_leave=tell_nobody_certificates)),
    Mutant("do not say again what was said before a crash", rules(_say_again_after_restart=nothing)),
    Mutant("send before it is in the log", host(
        engine_class=type("Wrong", (Simplex,), {"_leave": persist_last}), sign=sign_without_guard
    ), None),
    Mutant("leave votes out of the log", host(
        engine_class=type("Wrong", (Simplex,), {"_leave": unlogged_votes}), sign=sign_without_guard
    ), None),
    Mutant("leave the log unread", host(remember=forget_the_log), None),
    Mutant("leave a torn tail in the log", host(remember=forget_the_tail), None),
    Mutant("vote at once without a guard", host(remember=vote_at_once_without_guard), None),
    Mutant("log a candidate without its block", host(write_log=log_without_block), None, None),
    Mutant("rewrite the log without what is live", host(rewrite_log=rewrite_empty, sign=sign_without_guard), None),
    Mutant("commit a block without its ancestors", host(_finalize=commit_without_ancestors)),
    Mutant("find every block valid", host(_verdict=blind_verdict), "bad_root_leader"),
]  # fmt: skip


def hunt(mutant: Mutant, seeds: int = MAX_SEEDS) -> Report | None:
    """The first seed that finds it."""
    for seed in range(seeds):
        report = play_seed(
            seed, nodes=mutant.nodes, attack=mutant.attack, node_class=mutant.node, whole=mutant.whole
        )
        if report.failure is not None:
            return report
    return None


def main() -> int:
    survivors = 0
    for mutant in [*MUTANTS, *WHOLE_MUTANTS]:
        report = hunt(mutant)
        survivors += report is None
        found = f"seed {report.seed:3}  {report.failure}" if report else f"SURVIVED {MAX_SEEDS} seeds"
        print(f"{mutant.name:46} {found[:100]}", flush=True)
    count = len(MUTANTS) + len(WHOLE_MUTANTS)
    print(f"{count - survivors} of {count} found")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
