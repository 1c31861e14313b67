"""Mistakes in whole nodes: replica, executor, catching up, and what their host does."""

from collections.abc import Callable
from typing import Any

import msgspec

from aitbc.core.chain.mempool import Lane, Settled
from aitbc.core.consensus.engine import (
    ReportRefused,
    SetTimer,
    SignStatements,
    StatementsSigned,
)
from aitbc.core.consensus.epoch import Epoch
from aitbc.core.consensus.simplex.guard import raise_floor
from aitbc.core.consensus.simplex.messages import VerifiedCertificate
from aitbc.core.consensus.simplex.rules import Simplex
from aitbc.core.consensus.simplex.slots import Slot
from aitbc.core.consensus.simplex.tables import Block
from aitbc.core.ledger.admission import check_form
from aitbc.core.peer.kinds import EndsAsked
from aitbc.core.replica import Answer, Check, Checked, Commit, Committed, Drop, Log, Replica, Tell
from aitbc.core.types.blocks import ZERO_HASH
from aitbc.core.types.reasons import Reason, Rejected
from aitbc.sim import keys
from aitbc.sim.process import Died
from aitbc.sim.whole import Whole
from simulation.engine_mutants import commit_on_notar, nothing, sign_without_guard
from simulation.planted import Mutant


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
    self.publish(job.blocks, commits)
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
    """In a lane that nobody looks after."""
    pool = node.replica.mempool
    settle, kept = pool.settle, Lane()

    def settle_and_keep(included: Any) -> Settled:
        known = [pool._by_id[tx.id] for tx in included if tx.id in pool._by_id]
        kept.txs.update({len(kept.txs) + number: waiting for number, waiting in enumerate(known)})
        pool._lanes["nobody"] = kept
        return settle(included)

    pool.settle = settle_and_keep


def log_unread(self: Any) -> Any:
    guard, _, after = Whole.remember(self)
    return guard, [], after


def from_disk_nothing(_self: Any, _name: bytes) -> None:
    return None


def engines(**wrong: Any) -> type[Whole]:
    """A whole node whose engine has one rule wrong."""
    wrong_class = type("WrongSimplex", (Simplex,), wrong)

    def exchange(node: Any) -> None:
        node.replica.engine.__class__ = wrong_class

    return parts(exchange)


def forget_nothing_at_synced(self: Any, base: Any) -> None:
    """What was asked about blocks that nobody has any more stays asked: the first version."""
    if base.certificate is not None and base.slot > self._final.slot:
        self._blocks[base.hash] = Block(ZERO_HASH, base.height, base.timestamp_ms)
        self._accept(VerifiedCertificate(base.certificate, base.id))


def raise_the_floor_at_once(self: Any, certificate: Any) -> None:
    self.guard = raise_floor(self.guard, certificate.candidate.epoch, certificate.candidate.slot)


def tell_another_height(self: Any, peer: str, asked: Any) -> None:
    """Off by one."""
    if not isinstance(asked.message, EndsAsked):
        asked = msgspec.structs.replace(
            asked, message=msgspec.structs.replace(asked.message, start=asked.message.start + 1)
        )
    Whole.answer_range(self, peer, asked)


def a_coin_more(self: Any, blocks: Any, commits: Any) -> None:
    """In the first account, behind the ledger's back."""
    for built, commit in zip(blocks, commits, strict=True):
        self.executor.publish(built, commit.block)
        accounts = self.executor.state.data["accounts"]
        name = min(accounts)
        coins, rest = accounts[name][:8], accounts[name][8:]
        accounts[name] = (int.from_bytes(coins) + 1).to_bytes(8) + rest
        self.cluster.checks.on_published(self, built, commit.block)


def other_outcomes(self: Any, blocks: Any, commits: Any) -> None:
    """One node numbers them from the end."""
    if self.place == 1:
        commits = [
            msgspec.structs.replace(
                commit, block=msgspec.structs.replace(commit.block, outcomes=commit.block.outcomes[::-1])
            )
            for commit in commits
        ]
    Whole.publish(self, blocks, commits)


def forget_the_index(self: Any) -> None:
    """After a restart nobody finds what old blocks hold."""
    self.disk.store._places.clear()
    Whole.begin(self)


def answer_no_refusal(self: Any, effect: Any) -> None:
    if isinstance(effect, Drop) or (isinstance(effect, Answer) and effect.verdicts != [None]):
        return
    Whole.perform_one(self, effect)


def keep_every_block(node: Any) -> None:
    node.replica._undecided._forget_body = nothing


def accuse_the_leader_before(self: Any, slot: Slot) -> None:
    """Whoever led in the slot before."""
    validator = self._leader_address(slot.number - 1)
    self._effects.append(ReportRefused(validator, slot.proposal.candidate, slot.proposal.signature))


def believe_every_signature(self: Any, job: Check) -> Checked:
    """The block's own transactions are taken as verified."""
    txs = [check_form(tx, self.cluster.genesis_hash).verified(is_good=True) for tx in job.block.txs]
    try:
        return Checked(job.hash, self.executor.apply(job.block, txs))
    except Rejected as rejection:
        return Checked(job.hash, None, rejection)


WHOLE_MUTANTS = [
    mutant._replace(whole=True)
    for mutant in [
        Mutant(
            "log a candidate without its block", "liveness", replicas(_block_record=no_block_record), None, 1
        ),
        Mutant("sign, then log", "double vote", whole(perform=sign_then_log, sign=sign_and_send), None, 4),
        Mutant(
            "leave the log unread",
            "double vote",
            whole(remember=log_unread, sign=sign_without_guard),
            None,
            None,
        ),
        Mutant("show a block before it is on disk", "durability", whole(commit=publish_then_store), None, 1),
        Mutant(
            "write blocks of one commit one by one",
            "bug: Rejected: damaged",
            whole(store_blocks=store_one_by_one),
            None,
            4,
        ),
        Mutant(
            "commit a block without its ancestors", "liveness", whole(commit=commit_the_last_only), None, 4
        ),
        Mutant(
            "execute on whatever state is there", "bug: BrokenInvariant", parts(stay_on_this_state), None, 4
        ),
        Mutant(
            "believe a state root",
            "bug: BrokenInvariant",
            whole(judge=believe_every_block),
            "bad_root_leader",
            4,
        ),
        Mutant(
            "rewrite the log before a final block is on disk", "liveness", replicas(is_settled=True), None, 1
        ),
        Mutant(
            "blame a block for an exchanged body",
            "bug: BrokenInvariant",
            parts(blame_the_block),
            "body_swapper",
            4,
        ),
        Mutant("forget what undecided blocks hold", "mempool", replicas(_hold=nothing), None, 4),
        Mutant("keep in the mempool what is final", "mempool", parts(keep_what_is_final), None, 1),
        Mutant("ask for a block once", "liveness", replicas(_fetch=fetch_once), "deserter", 4),
        Mutant("go on with the old set", "epochs", replicas(_epoch_began=old_set), None, 5),
        Mutant("vote on with the old key", "certificate", whole(_check_key=nothing), None, 2),
        Mutant(
            "forget nothing when a range was written",
            "liveness",
            engines(_learn_of_written=forget_nothing_at_synced),
            "deserter",
            4,
        ),
        Mutant(
            "raise the guard's floor before its turn",
            "guard",
            whole(_moved_to=raise_the_floor_at_once),
            "deserter",
            4,
        ),
        Mutant(
            "tell ranges that begin a block too late",
            "blame",
            whole(answer_range=tell_another_height),
            None,
            4,
        ),
        Mutant("lose the index of transactions", "lost", whole(begin=forget_the_index), None, 4),
        Mutant("a coin more than the block gives", "supply", whole(publish=a_coin_more), None, 1),
        Mutant("tell other outcomes", "state", whole(publish=other_outcomes), None, 4),
        Mutant("answer no refusal", "answers", whole(perform_one=answer_no_refusal), None, 4),
        Mutant("keep every undecided block", "bounds", parts(keep_every_block), None, 4),
        Mutant("commit what is only notarized", "certificate", engines(_hold=commit_on_notar), None, 4),
        Mutant(
            "accuse the leader before",
            "evidence",
            engines(_report_refused=accuse_the_leader_before),
            "invalid_transaction_leader",
            4,
        ),
        Mutant(
            "believe every signature in a block",
            "validity",
            whole(judge=believe_every_signature),
            "invalid_transaction_leader",
            4,
        ),
        Mutant("hand out nothing from the disk", "liveness", whole(_stored=from_disk_nothing), "deserter", 4),
    ]
]
