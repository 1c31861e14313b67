"""What bad actors share: an honest engine to stay in the know, a key without a guard, and a say in what is sent."""

from aitbc.core.consensus.engine import SignStatements, StatementsSigned
from aitbc.core.consensus.simplex.messages import CANDIDATE, SKIP, Message, Proposal, Vote
from aitbc.core.types.blocks import ZERO_HASH, Candidate
from aitbc.sim import keys
from aitbc.sim.process import Process


class Liar(Process):
    """Signs whatever it likes."""

    def sign(self, effect: SignStatements) -> None:
        """No guard."""
        signatures = [keys.sign(self.auth_key, statement.digest) for statement in effect.statements]
        self.cluster.after(0, self, "event", StatementsSigned(signatures))

    def vote(self, kind: str, slot: int, candidate: bytes) -> Vote | None:
        """A vote of the running epoch; None while this node is not in the set."""
        epoch = self.engine.epoch
        position = epoch.position_of(self.voter)
        if position is None:
            return None
        candidate = ZERO_HASH if kind == SKIP else candidate
        signature = keys.sign(self.auth_key, epoch.digest_of(kind, slot, candidate))
        return Vote(kind, epoch.number, slot, candidate, position, signature)

    def proposal(self, candidate: Candidate) -> Proposal:
        epoch = self.engine.epoch
        digest = epoch.digest_of(CANDIDATE, candidate.slot, epoch.id_of(candidate))
        return Proposal(candidate, keys.sign(self.auth_key, digest), [])

    def others(self) -> list[Process]:
        return [node for node in self.cluster.nodes if node.place != self.place]

    def tell(self, node: Process, message: Message | None) -> None:
        """To one node, with the block beside a proposal."""
        if message is not None:
            self.cluster.transmit(self, node, self.envelope(message))
