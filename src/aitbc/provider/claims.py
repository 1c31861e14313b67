"""Attested receipts that the chain has not paid yet: kept on disk, watched, and claimed by the provider itself when
the hub does not.
"""

import asyncio
import logging
import os
import time
from pathlib import Path
from typing import Any

import msgspec

from aitbc.client.errors import ApiError, ClientError
from aitbc.client.transactions import build_transaction, claim_witness, receipt_claim_payload
from aitbc.core.codec.canonical import unhex
from aitbc.core.codec.digests import (
    attestation_digest,
    receipt_core_digest,
    receipt_id_of,
    transaction_id,
)
from aitbc.core.crypto.schemes import verify
from aitbc.core.jobs import link
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.types.reasons import Reason
from aitbc.ports import Signer
from aitbc.provider.chain import Chain, fee_within
from aitbc.provider.joblog import EarningsLog, private

log = logging.getLogger("aitbc.provider")

FINAL_WAIT_S = 30
GIVE_UP_MS = 60_000
"""After claim_until a claim that was already on its way gets this long to appear."""

_HOPELESS = frozenset(
    {
        Reason.CLAIM_TOO_LATE,
        Reason.LOCK_CLOSED,
        Reason.TASK_ALREADY_PAID,
        Reason.CALIBRATION_OVER,
        Reason.WRONG_CALIBRATION,
        Reason.ALREADY_CALIBRATED,
    }
)
"""No later claim of this receipt can succeed; each would cost its fee."""


class UnclaimedQueue:
    """One file per receipt, written whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def add(self, receipt_id: str, attested: link.Attested) -> None:
        """On disk when this returns."""
        self._write(self._path(receipt_id), msgspec.json.encode(attested))

    def note_claim(self, receipt_id: str, claim_tx: str) -> None:
        """On disk when this returns: after a restart a claim that still waits must not be made twice."""
        self._write(self._path(receipt_id).with_suffix(".claim"), claim_tx.encode())

    def claims(self) -> dict[str, str]:
        """Our newest claim of each receipt, by receipt id."""
        return {path.stem: path.read_text() for path in self._folder.glob("rcpt_*.claim")}

    def _write(self, path: Path, data: bytes) -> None:
        partial = path.with_suffix(".partial")
        with open(partial, "wb", opener=private) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def entries(self) -> dict[str, link.Attested]:
        found: dict[str, link.Attested] = {}
        for path in sorted(self._folder.glob("rcpt_*.json")):
            try:
                found[path.stem] = msgspec.json.decode(path.read_bytes(), type=link.Attested)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                log.error("%s cannot be read (%s); it is left where it is", path, error)
        return found

    def remove(self, receipt_id: str) -> None:
        self._path(receipt_id).unlink(missing_ok=True)
        self._path(receipt_id).with_suffix(".claim").unlink(missing_ok=True)

    def set_aside(self, receipt_id: str) -> None:
        """Too late to be paid; kept as evidence."""
        path = self._path(receipt_id)
        os.replace(path, path.with_suffix(".lapsed"))
        path.with_suffix(".claim").unlink(missing_ok=True)

    def _path(self, receipt_id: str) -> Path:
        return self._folder / f"{receipt_id}.json"


class ClaimKeeper:
    """Watches what is owed. `run` is its loop."""

    def __init__(
        self,
        *,
        chain: Chain,
        signer: Signer,
        genesis_hash: bytes,
        queue: UnclaimedQueue,
        earnings: EarningsLog,
        claim_after_s: float,
        poll_s: float,
        max_fee: int,
    ) -> None:
        self._chain = chain
        self._signer = signer
        self._genesis_hash = genesis_hash
        self._queue = queue
        self._earnings = earnings
        self._claim_after_s = claim_after_s
        self._poll_s = poll_s
        self._max_fee = max_fee
        self._open = queue.entries()
        self._since = {receipt_id: time.monotonic() for receipt_id in self._open}
        self._sent = queue.claims()
        """Our newest claim of each receipt, whether or not the node's answer came."""

    @property
    def unclaimed(self) -> int:
        return len(self._open)

    def add(self, attested: link.Attested, *, hub_key: bytes) -> None:
        """Keep a receipt that the hub attested; refuses one that is not ours or not signed by the hub."""
        receipt_id = receipt_id_of(attested.core, self._genesis_hash)
        attestation = attested.signed.attestation
        if attested.core.miner_addr != self._signer.address or attestation.receipt_id != receipt_id:
            raise Refused(JobReason.WRONG_TASK, f"{receipt_id} is not our receipt")
        core_digest = receipt_core_digest(attested.core, self._genesis_hash)
        if not verify(self._signer.auth_key, core_digest, unhex(attested.provider_sig)):
            raise Refused(JobReason.FORGED_SIGNATURE, f"{receipt_id} was not signed by us")
        digest = attestation_digest(attestation, self._genesis_hash)
        if not verify(hub_key, digest, unhex(attested.signed.sig)):
            raise Refused(
                JobReason.FORGED_SIGNATURE, f"the attestation of {receipt_id} is not signed by the hub"
            )
        if receipt_id not in self._open:
            self._queue.add(receipt_id, attested)
            self._open[receipt_id] = attested
            self._since[receipt_id] = time.monotonic()

    async def run(self) -> None:
        """Look at everything owed, again and again."""
        while True:
            await asyncio.sleep(self._poll_s)
            for receipt_id, attested in list(self._open.items()):
                try:
                    await self._look_at(receipt_id, attested)
                except ClientError as error:
                    log.warning("receipt %s: %s", receipt_id, error.message)

    async def _look_at(self, receipt_id: str, attested: link.Attested) -> None:
        record = await self._chain.receipt(receipt_id)
        if record is not None:
            self._paid(receipt_id, record)
        elif _now_ms() > attested.claim_until_ms + GIVE_UP_MS:
            self._give_up(receipt_id, "it was not paid in time")
        elif _now_ms() > attested.claim_until_ms:
            pass  # a claim made now would fail and cost its fee
        elif time.monotonic() - self._since[receipt_id] >= self._claim_after_s:
            await self._claim(receipt_id, attested)

    async def _claim(self, receipt_id: str, attested: link.Attested) -> None:
        """The hub has not done it: everything needed is here, and anyone may claim."""
        if await self._is_pending(self._sent.get(receipt_id, "")):
            return
        payload = receipt_claim_payload(
            core=attested.core, receipt_id=receipt_id, provider_sig=attested.provider_sig
        )
        fee = await fee_within(self._chain, "RECEIPT_CLAIM", payload, max_fee=self._max_fee)
        account = await self._chain.account(self._signer.address)
        tx = build_transaction(
            "RECEIPT_CLAIM",
            payload,
            signer=self._signer,
            nonce=int(account["nextNonce"]),
            fee=fee,
            genesis_hash=self._genesis_hash,
            witness=claim_witness(attested.signed),
        )
        log.info("claiming %s ourselves", receipt_id)
        claim_tx = self._sent[receipt_id] = transaction_id(tx, self._genesis_hash).hex()
        self._queue.note_claim(receipt_id, claim_tx)
        try:
            await self._chain.send(tx)
        except ApiError as error:
            if error.code not in (Reason.BAD_NONCE, Reason.NONCE_GAP, Reason.ALREADY_KNOWN):
                raise
            return
        answer = await self._chain.transaction(claim_tx, wait="final", timeout=FINAL_WAIT_S)
        record = await self._chain.receipt(receipt_id)
        if record is not None:
            self._paid(receipt_id, record)
            return
        outcome: dict[str, Any] = answer.get("receipt") or {}
        reason = outcome.get("reason", "")
        if reason in _HOPELESS:
            self._give_up(receipt_id, f"{reason}: {outcome.get('message', '')}"[:500])
        else:
            log.warning("our claim of %s is %s %s", receipt_id, answer["status"], reason)

    async def _is_pending(self, claim_tx: str) -> bool:
        """Does a claim of ours wait in the node already? A second one would fail and cost its fee."""
        if not claim_tx:
            return False
        try:
            answer = await self._chain.transaction(claim_tx)
        except ApiError as error:
            if error.code != "unknown_transaction":
                raise
            return False
        return bool(answer["status"] == "pending")

    def _paid(self, receipt_id: str, record: dict[str, Any]) -> None:
        """Write the earning down before the receipt leaves the queue."""
        names = ("job_id", "units", "price", "minted", "height")
        self._earnings.write(
            {"at_ms": _now_ms(), "receipt_id": receipt_id, **{name: record.get(name) for name in names}}
        )
        self._queue.remove(receipt_id)
        self._forget(receipt_id)

    def _give_up(self, receipt_id: str, why: str) -> None:
        log.error("receipt %s stays unpaid: %s", receipt_id, why)
        self._queue.set_aside(receipt_id)
        self._forget(receipt_id)

    def _forget(self, receipt_id: str) -> None:
        self._sent.pop(receipt_id, None)
        self._open.pop(receipt_id, None)
        self._since.pop(receipt_id, None)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
