"""From a fault that agreement saw to a punishment on the chain: EVIDENCE, signed by the validator's own account and
sent until the offence is marked there. docs/spec/evidence.md

The account may be in use by its owner too. So a nonce is taken at the last moment, nothing that waits is replaced, and
what another transaction has overtaken is signed again with the next nonce.
"""

import asyncio
import logging
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from aitbc.adapters.signer.remote import SignerAway
from aitbc.core.chain.bad_block import BlockFault, payload_of
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import offence_digest
from aitbc.core.consensus.engine import Fault, SignedStatement
from aitbc.core.consensus.simplex.guard import GuardRefuses
from aitbc.core.ledger.fees import required_fee
from aitbc.core.types.amounts import format_ait
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.transactions import Transaction
from aitbc.ports import TransactionSigner

if TYPE_CHECKING:
    from aitbc.node.runtime import NodeRuntime

log = logging.getLogger("aitbc.node")

RETRY_S = 1.0
TURN_MS = 2_000
"""Every honest validator saw the fault, and one EVIDENCE is enough: each waits so much longer than the one before."""
MAX_CHARGES = 64
"""More than validators: the engine reports each once in an epoch."""


class Progress(StrEnum):
    """How far a charge is; what `GET /rpc/consensus` shows."""

    WAITING = "waiting"
    """For its turn, or for a nonce."""
    UNPAID = "unpaid"
    """The account cannot pay, or has another key."""
    SENT = "sent"
    PUNISHED = "punished"
    TOO_OLD = "too_old"
    NOT_OURS = "not_ours"
    """Seen, but not reported by this node: it has no key, is the accused, or what shows it fits into no transaction."""


class Charge:
    """One offence and what became of it."""

    def __init__(self, fault: Fault | BlockFault, offence: str, send_at_ms: int) -> None:
        self.fault = fault
        self.offence = offence
        """Key of its mark in the registry."""
        self.payload = b""
        """Of the EVIDENCE; empty while it is being made."""
        self.send_at_ms = send_at_ms
        self.progress = Progress.WAITING
        self.tx_id: bytes | None = None
        self.nonce = 0

    @property
    def kinds(self) -> list[str]:
        """Of the statements that contradict each other; of an invalid block there is one."""
        if isinstance(self.fault, BlockFault):
            return ["candidate"]
        return [self.fault.first.kind, self.fault.second.kind]

    @property
    def is_open(self) -> bool:
        return bool(self.payload) and self.progress in (Progress.WAITING, Progress.UNPAID, Progress.SENT)


class Accuser:
    """Called on the runtime's loop."""

    def __init__(self, runtime: "NodeRuntime", signer: TransactionSigner | None) -> None:
        self._runtime = runtime
        self._signer = signer
        self.charges: dict[str, Charge] = {}
        self._working = False

    async def report(self, fault: Fault | BlockFault) -> None:
        """Log it, and see it punished if this node is one to do so."""
        log.warning(
            "%s %s in slot %d of epoch %d",
            fault.validator,
            _deed(fault),
            fault.slot,
            fault.epoch,
            extra={"component": "consensus", "event": "fault", "validator": fault.validator},
        )
        kind = "votes" if isinstance(fault, Fault) else "block"
        offence = f"offence:{offence_digest(kind, fault.validator, str(fault.epoch)).hex()}"
        if offence in self.charges:
            return
        if len(self.charges) >= MAX_CHARGES:
            del self.charges[next(iter(self.charges))]
        charge = Charge(fault, offence, self._runtime.now_ms() + self._wait_ms(fault))
        self.charges[offence] = charge
        if fault.validator == self._runtime.address:
            charge.progress = Progress.NOT_OURS
            log.critical(
                "that is this validator: another process signs with its key. Stop both, find out which one is to run",
                extra={"component": "consensus", "event": "own_fault"},
            )
        elif self._signer is None:
            charge.progress = Progress.NOT_OURS
        elif await self._make_payload(charge) and not self._working:
            await self._work(self._signer)

    async def _make_payload(self, charge: Charge) -> bool:
        """On another thread: what shows a transaction to be in a block hashes all of it."""
        fault, genesis_hash = charge.fault, self._runtime.executor.loaded.hash
        if isinstance(fault, Fault):
            charge.payload = _payload(fault)
            return True
        try:
            charge.payload = await asyncio.to_thread(payload_of, fault, genesis_hash)
        except Rejected as rejection:
            charge.progress = Progress.NOT_OURS
            log.error(
                "%s",
                rejection.message,
                extra={"component": "evidence", "event": "unshown", "validator": fault.validator},
            )
            return False
        return True

    def _wait_ms(self, fault: Fault | BlockFault) -> int:
        """Nobody is always the first: the fault's slot says who is."""
        engine = self._runtime.engine()
        position = engine.epoch.position_of(self._runtime.address)
        count = len(engine.epoch.validators)
        return TURN_MS * (count if position is None else (position - fault.slot) % count)

    async def _work(self, signer: TransactionSigner) -> None:
        """Until no charge is open or the node stops."""
        self._working = True
        try:
            while not self._runtime.stopped.is_set():
                for charge in [charge for charge in self.charges.values() if charge.is_open]:
                    await self._pursue(charge, signer)
                if not any(charge.is_open for charge in self.charges.values()):
                    return
                try:
                    await asyncio.wait_for(self._runtime.stopped.wait(), RETRY_S)
                except TimeoutError:
                    continue
        finally:
            self._working = False

    async def _pursue(self, charge: Charge, signer: TransactionSigner) -> None:
        """The next thing to do about it, if there is one now."""
        if self._is_settled(charge) or self._runtime.now_ms() < charge.send_at_ms:
            return
        if charge.tx_id is not None and self._still_waits(charge, signer.address):
            return
        if not self._can_pay(charge, signer):
            return
        unsigned = self._unsigned(charge, signer)
        try:
            tx = await self._signed(unsigned, signer)
        except (SignerAway, GuardRefuses) as error:
            log.warning(
                "evidence against %s is not signed, and is tried again: %s",
                charge.fault.validator,
                error,
                extra={"component": "evidence", "event": "unsigned", "validator": charge.fault.validator},
            )
            return
        try:
            tx_id = await self._runtime.submit_next(tx)
        except Rejected as rejection:
            log.info(
                "evidence was not taken, and is sent again: %s",
                rejection,
                extra={"component": "evidence", "event": "refused", "validator": charge.fault.validator},
            )
            return
        if tx_id is None:  # the account's owner was faster: the next round takes the next nonce
            return
        charge.tx_id, charge.nonce, charge.progress = tx_id, tx.nonce, Progress.SENT
        log.warning(
            "evidence against %s was sent: %s",
            charge.fault.validator,
            tx_id.hex(),
            extra={"component": "evidence", "event": "sent", "validator": charge.fault.validator},
        )

    def _is_settled(self, charge: Charge) -> bool:
        state, fault = self._runtime.executor.state, charge.fault
        if state.get("registry", charge.offence) is not None:
            charge.progress = Progress.PUNISHED
            log.warning(
                "%s is punished for epoch %d",
                fault.validator,
                fault.epoch,
                extra={"component": "evidence", "event": "punished", "validator": fault.validator},
            )
        elif self._runtime.engine().epoch.number - fault.epoch > state.params.evidence_epochs:
            charge.progress = Progress.TOO_OLD
            log.error(
                "evidence against %s is too old now: nobody could send it in time",
                fault.validator,
                extra={"component": "evidence", "event": "too_old", "validator": fault.validator},
            )
        return not charge.is_open

    def _still_waits(self, charge: Charge, address: str) -> bool:
        """Is what was sent on its way still? A nonce that is used up without the mark was another's."""
        assert charge.tx_id is not None
        used = self._runtime.executor.state.account(address).nonce >= charge.nonce
        return not used and self._runtime.replica.mempool.get(charge.tx_id) is not None

    def _can_pay(self, charge: Charge, signer: TransactionSigner) -> bool:
        state = self._runtime.executor.state
        account = state.account(signer.address)
        fee = required_fee(state.params, len(charge.payload), signer.auth_key)
        if account.auth and account.auth != signer.auth_key:
            trouble = (
                "its account has another key than the one it votes with: send EVIDENCE from another account"
            )
        elif account.balance < fee:
            trouble = f"{signer.address} cannot pay the fee: send it {format_ait(fee)} or more"
        else:
            return True
        if charge.progress is not Progress.UNPAID:
            log.error(
                "evidence against %s waits: %s",
                charge.fault.validator,
                trouble,
                extra={"component": "evidence", "event": "unpaid", "validator": charge.fault.validator},
            )
        charge.progress = Progress.UNPAID
        return False

    async def _signed(self, unsigned: Transaction, signer: TransactionSigner) -> Transaction:
        """On another thread: the key may be in another process."""
        genesis_hash = self._runtime.executor.loaded.hash
        sig = await asyncio.to_thread(signer.sign_transaction, unsigned, genesis_hash)
        return msgspec.structs.replace(unsigned, sig=sig)

    def _unsigned(self, charge: Charge, signer: TransactionSigner) -> Transaction:
        executor, payload = self._runtime.executor, charge.payload
        return Transaction(
            type="EVIDENCE",
            sender=signer.address,
            nonce=self._runtime.replica.mempool.next_nonce(signer.address),
            fee=required_fee(executor.state.params, len(payload), signer.auth_key),
            payload=payload,
            pubkey=signer.auth_key,
            sig=b"",
        )


def _deed(fault: Fault | BlockFault) -> str:
    if isinstance(fault, BlockFault):
        return f"led with a block whose transaction {fault.index} is invalid"
    return f"signed two statements that contradict each other: {fault.first.kind} and {fault.second.kind}"


def _payload(fault: Fault) -> bytes:
    votes = {
        "validator": fault.validator,
        "epoch": fault.epoch,
        "slot": fault.slot,
        "first": _plain(fault.first),
        "second": _plain(fault.second),
    }
    return jcs({"votes": votes})


def _plain(statement: SignedStatement) -> dict[str, str]:
    return {
        "kind": statement.kind,
        "candidate": statement.candidate.hex(),
        "sig": statement.signature.hex(),
    }
