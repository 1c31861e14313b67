"""A run of whole nodes: the engine's cluster with its faults, a ledger, and clients who use it."""

from __future__ import annotations

from aitbc.core.chain.bad_block import BlockFault
from aitbc.core.consensus.engine import Fault
from aitbc.core.consensus.epoch import Epoch
from aitbc.core.ledger.genesis import load_genesis, parse_genesis
from aitbc.core.ledger.state import State
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.records import Lock
from aitbc.core.types.transactions import Transaction
from aitbc.sim.clients import Client, Watchman, everybody
from aitbc.sim.cluster import RESTART_MS, Cluster
from aitbc.sim.faults import FAULTS_MS, HEAL_MS
from aitbc.sim.ledger import CUSTOMERS, TRAVELLER, draw_ledger, genesis_of, validator_at
from aitbc.sim.process import Envelope
from aitbc.sim.whole import TxGossip, Whole
from aitbc.sim.whole_checks import WholeChecks

STEP_MS = 500
"""After healing clients look after their transactions so often."""


class WholeCluster(Cluster):
    host_class = Whole
    checks: WholeChecks

    def prepare(self) -> None:
        self.ledger = draw_ledger(self.plan, self.weak)
        self.document = genesis_of(self.plan, self.ledger)
        self.loaded = load_genesis(parse_genesis(self.document))
        self.genesis_hash = self.loaded.hash
        self._places = {validator_at(place).address: place for place in range(self.plan.nodes)}
        self.epochs: dict[int, Epoch] = {}  # type: ignore[assignment]
        """As the first honest node that came there had it."""
        self.checks = WholeChecks(self)
        self.clients = everybody(self)
        self._owners: dict[bytes, Client] = {}
        self._tickets: dict[int, tuple[Client, bytes]] = {}
        self._found_out: set[tuple[type, str, int]] = set()

    def play(self) -> None:
        self.start()
        self.run(FAULTS_MS)
        self.heal()
        self.run(FAULTS_MS + RESTART_MS)
        traveller = Client(self, TRAVELLER, self.draw)
        self.clients.append(traveller)
        tx_id = traveller.send(("TRANSFER", {"to": CUSTOMERS[1].address, "amount": 1}, None))
        end = FAULTS_MS + HEAL_MS
        while self.now < end:
            for client in self.clients:
                client.settle()
                client.send_again(STEP_MS)
            self.run(min(end, self.now + STEP_MS))
        self.checks.after_healing(tx_id, self.honest)

    # What nodes and clients ask of the world

    def place_of(self, address: str) -> int:
        return self._places[address]

    def name_of(self, address: str) -> str:
        return f"v{self._places[address]}" if address in self._places else address

    @property
    def view(self) -> State:
        """The state of the highest honest node, as its clients read it."""
        state: State = max(self.honest, key=lambda node: node.height).executor.state
        return state

    def locks(self) -> list[tuple[str, Lock]]:
        """Those that are open."""
        found = self.view.items("locks", "")
        return [(key, lock) for key, lock in found if isinstance(lock, Lock) and lock.status == "open"]

    def _work(self) -> int:
        self.draw.choice(self.clients).act()
        return 0

    def submit(self, client: Client, tx_id: bytes, tx: Transaction) -> None:
        """To one or two nodes, to all after healing; a node that is down says nothing."""
        self._owners[tx_id] = client
        self._next_tx += 1
        self._tickets[self._next_tx] = (client, tx_id)
        nodes = (
            self.nodes if self._is_healed else self.draw.choices(self.nodes, k=self.draw.choice((1, 1, 2)))
        )
        for node in nodes:
            envelope = Envelope(TxGossip(tx, self._next_tx))
            self._push(self.now + self._way(), node, "message", ("client", envelope))

    def answered(self, node: Whole, ticket: int, rejection: Rejected | None) -> None:
        if ticket and rejection is not None and node.is_honest:
            client, tx_id = self._tickets[ticket]
            self._is_refused(node, client, tx_id, rejection)

    def dropped(self, node: Whole, tx_id: bytes, rejection: Rejected) -> None:
        if node.is_honest and tx_id in self._owners:
            self._is_refused(node, self._owners[tx_id], tx_id, rejection)

    def _is_refused(self, node: Whole, client: Client, tx_id: bytes, rejection: Rejected) -> None:
        client.refused[tx_id] = rejection
        self.note(node, f"refuses {tx_id.hex()[:8]} of {client.who.name}: {rejection.reason}")

    def found_out(self, fault: Fault | BlockFault) -> None:
        """Once of a kind for each validator and epoch somebody brings it to the ledger."""
        key = (type(fault), fault.validator, fault.epoch)
        if key not in self._found_out:
            self._found_out.add(key)
            for watchman in self.clients:
                if isinstance(watchman, Watchman):
                    watchman.faults.append(fault)
