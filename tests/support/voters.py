"""A chain whose members really vote: every certificate is signed by a quorum, as few blocks as one likes have one, and
a node's answers about it without HTTP."""

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import unquote

from aitbc.adapters.storage.memory import MemoryStore
from aitbc.client.finality import Trust, trust_genesis
from aitbc.core.chain.builder import BuiltBlock
from aitbc.core.codec.digests import candidate_id, vote_digest
from aitbc.core.ledger.validators import validators_of
from aitbc.core.types.blocks import Candidate, Certificate, Validator
from aitbc.core.types.records import Commit
from aitbc.node.proofs import prove_ancestor, prove_final, prove_record, validators_at
from support.ledger import Ledger, Signer
from support.people import VALIDATOR

Json = dict[str, Any]


class VotedLedger(Ledger):
    """`voters`: whoever may come into the set; `Ledger`'s options otherwise."""

    def __init__(self, *, voters: Sequence[Signer] = (VALIDATOR,), **options: Any) -> None:
        super().__init__(**options)
        self.keys = {who.auth_key: who for who in voters}
        self.store = MemoryStore(self.genesis_hash)
        self.store.commit(self.executor.loaded.first)
        self._undecided: list[Commit] = []
        self._last = (-1, 0, bytes(32))
        """Epoch, slot and id of the newest candidate."""

    def block(  # type: ignore[override]
        self, *txs: Any, after_ms: int = 1_000, certified: bool = True, carried: int = 0
    ) -> BuiltBlock:
        """`carried`: so many later slots carry the block again, and only the last one's votes are a quorum."""
        self.now_ms += after_ms
        members = validators_of(self.executor.state.tip())
        built = self.executor.build(list(txs), proposer=members[0].address, timestamp_ms=self.now_ms)
        candidate = self._candidate(built, carried)
        certified = certified or built.block.header.height % self.epoch_length == 0
        certificate = self.certificate(candidate, members) if certified else None
        commit = self.executor.seal(built, certificate)
        self.executor.publish(built, commit.block)
        self._undecided.append(commit)
        if certified:
            self.store.commit(*self._undecided)
            self._undecided = []
        return built

    def _candidate(self, built: BuiltBlock, carried: int) -> Candidate:
        height = built.block.header.height
        epoch = (height - 1) // self.epoch_length
        before, slot, parent = self._last
        if before != epoch:
            slot, parent = 0, built.block.header.parent
        for _ in range(carried + 1):
            candidate = Candidate(epoch, slot + 1, slot, parent, built.hash)
            slot, parent = slot + 1, self.id_of(candidate)
        self._last = (epoch, slot, parent)
        return candidate

    def id_of(self, candidate: Candidate) -> bytes:
        return candidate_id(candidate, "ait-test", self.genesis_hash)

    def certificate(
        self,
        candidate: Candidate,
        members: Sequence[Validator],
        *,
        kind: str = "final",
        signers: Sequence[int] | None = None,
    ) -> Certificate:
        """By the first members that are a quorum, or by those at the places given."""
        quorum = 2 * sum(member.power for member in members) // 3 + 1
        places: list[int] = []
        for place, member in enumerate(members):
            if sum(members[at].power for at in places) < quorum and member.auth_key in self.keys:
                places.append(place)
        places = places if signers is None else list(signers)
        digest = vote_digest(
            kind=kind,
            epoch=candidate.epoch,
            slot=candidate.slot,
            candidate=self.id_of(candidate),
            chain_id="ait-test",
            genesis_hash=self.genesis_hash,
        )
        votes = [self.keys[members[place].auth_key].sign(digest) for place in places]
        return Certificate(kind, candidate, sum(1 << place for place in places), votes)

    def go_to(self, height: int, **options: Any) -> None:
        """Empty blocks up to a height."""
        while self.height < height:
            self.block(**options)

    @property
    def trust(self) -> Trust:
        """What follows from the genesis document alone."""
        return trust_genesis(json.loads(self.document))


Twist = Callable[[str, Json], Any]


class Teller:
    """What `SyncHttp.perform` gets from a node of this chain; `twist` makes it tell something else."""

    def __init__(self, chain: VotedLedger, twist: Twist = lambda _, answer: answer) -> None:
        self.chain = chain
        self.twist = twist
        self.asked: list[str] = []

    def perform(self, call: Any) -> Any:
        self.asked.append(call.path)
        answer = json.loads(
            json.dumps(self._answer([unquote(part) for part in call.path.split("/")[2:]], call.query))
        )
        return call.read(self.twist(call.path, copy.deepcopy(answer)))

    def finality(self, height: int) -> Json:
        answer = prove_final(self.chain.executor, self.chain.store, height)
        return json.loads(json.dumps(answer))  # type: ignore[no-any-return]

    def _answer(self, parts: list[str], query: Any) -> Json:
        executor, store = self.chain.executor, self.chain.store
        match parts:
            case ["finality", height]:
                return prove_final(executor, store, int(height))
            case ["proof", "history", height]:
                return prove_ancestor(executor, store, int(height))
            case ["proof", name, key]:
                return prove_record(executor, store, name, key, query.get("height"))
            case ["validators"]:
                return validators_at(executor, store, query.get("height"))
        raise AssertionError(parts)


class AsyncTeller(Teller):
    async def perform(self, call: Any) -> Any:  # type: ignore[override]
        return super().perform(call)
