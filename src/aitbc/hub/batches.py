"""Many receipts under one root: RECEIPT_BATCH, then SETTLE for range after range. docs/spec/batches.md

Which receipts a batch holds is on disk before it is sent. Whatever goes wrong, a receipt is still its provider's to be
paid one by one, so that is what becomes of it.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aitbc.client.errors import ClientError
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.leaves import ROUTED, Leaf, committed_leaves, leaf_bytes_of, pack_leaves
from aitbc.core.crypto.merkle import list_root, prove_range
from aitbc.core.types.reasons import Reason
from aitbc.hub.records import ReceiptEntry
from aitbc.hub.sender import Sender

if TYPE_CHECKING:
    from aitbc.hub.claims import ClaimWorker
    from aitbc.hub.hub import Hub

log = logging.getLogger("aitbc.hub")

FINAL_WAIT_S = 30
TRIES = 5
"""Of each transaction of a batch; then its receipts are claimed one by one, which tries until it is too late."""
SETTLE_BYTES = 15 * 1024
"""A payload has at most 16 KiB."""
MOST_IN_TABLE = 256

_PAID = frozenset({Reason.TASK_ALREADY_PAID})
_HOPELESS = frozenset({Reason.LOCK_CLOSED, Reason.CLAIM_TOO_LATE})


class Settlement:
    """One range of a batch as a SETTLE carries it."""

    def __init__(self, entries: Sequence[ReceiptEntry], start: int) -> None:
        self.entries = list(entries)
        self.start = start
        locks = sorted({entry.signed.attestation.lock for entry in entries})
        providers = sorted({entry.provider for entry in entries})
        place_of_lock = {lock: place for place, lock in enumerate(locks)}
        place_of_provider = {provider: place for place, provider in enumerate(providers)}
        self.locks, self.providers = locks, providers
        self.leaves = pack_leaves(
            [
                _leaf(entry, place_of_lock[entry.signed.attestation.lock], place_of_provider[entry.provider])
                for entry in entries
            ]
        )

    def committed(self) -> list[bytes]:
        """What the root covers of them."""
        return committed_leaves(
            leaf_bytes_of(self.leaves),
            [bytes.fromhex(lock) for lock in self.locks],
            [provider.encode() for provider in self.providers],
        )

    def payload(self, batch: str, everything: list[bytes]) -> dict[str, Any]:
        proof = prove_range(everything, self.start, self.start + len(self.entries))
        return {
            "batch": batch,
            "start": self.start,
            "locks": self.locks,
            "providers": self.providers,
            "leaves": self.leaves,
            "proof": [node.hex() for node in proof],
        }


def _leaf(entry: ReceiptEntry, lock: int, provider: int) -> Leaf:
    attested = entry.signed.attestation
    return Leaf(
        receipt=bytes.fromhex(entry.receipt_id.removeprefix("rcpt_")),
        lock=lock,
        provider=provider,
        task=attested.task,
        attempt=attested.attempt,
        routed=ROUTED.index(attested.routed),
        units=attested.units,
        price=attested.price,
    )


def settlements(entries: Sequence[ReceiptEntry]) -> Iterator[Settlement]:
    """Cut into ranges that fit a payload; the proof of a range in 2^20 leaves is 40 nodes at most."""
    start = 0
    while start < len(entries):
        locks: set[str] = set()
        providers: set[str] = set()
        size, stop = 40 * 67 + 256, start
        while stop < len(entries):
            entry = entries[stop]
            new_lock = entry.signed.attestation.lock not in locks
            new_provider = entry.provider not in providers
            size += 76 + 67 * new_lock + 48 * new_provider
            if stop > start and (
                size > SETTLE_BYTES
                or len(locks) + new_lock > MOST_IN_TABLE
                or len(providers) + new_provider > MOST_IN_TABLE
            ):
                break
            locks.add(entry.signed.attestation.lock)
            providers.add(entry.provider)
            stop += 1
        yield Settlement(entries[start:stop], start)
        start = stop


class Batcher:
    def __init__(self, hub: "Hub", claims: "ClaimWorker", sender: Sender) -> None:
        self._hub = hub
        self._claims = claims
        self._sender = sender
        self.open = 0
        """Receipts in batches that are under way."""

    async def carry(self, entries: list[ReceiptEntry]) -> None:
        """Commit to these receipts and settle them."""
        entries = sorted(entries, key=lambda entry: (entry.signed.attestation.lock, entry.part))
        everything = [leaf for part in settlements(entries) for leaf in part.committed()]
        payload = {"root": list_root(everything).hex(), "count": len(entries)}
        ids = [entry.receipt_id for entry in entries]
        sent: list[str] = []

        async def remember(batch: str) -> None:
            if sent:
                await self._hub.db(self._hub.store.set_batch, sent[-1], [])
            sent.append(batch)
            await self._hub.db(self._hub.store.set_batch, batch, ids)

        self.open += len(entries)
        try:
            batch = await self._sender.send("RECEIPT_BATCH", payload, remember=remember)
            if not await self._succeeded(batch, "batch"):
                raise ClientError("batch_failed", f"batch {batch} has failed", "")
        except ClientError as error:
            log.warning(
                "a batch of %d receipts: %s; they are claimed one by one", len(entries), error.message
            )
            if sent and not await self._perhaps_there(sent[-1]):
                await self._hub.db(self._hub.store.set_batch, sent[-1], [])
            for entry in entries:
                self._claims.claim_alone(entry)
            return
        finally:
            self.open -= len(entries)
        await self._settle_all(batch, entries, everything)

    async def resume(self, batch: str) -> None:
        """A batch that an earlier run had begun; when the chain has not heard of it its receipts go alone."""
        entries = await self._hub.db(self._hub.store.receipts_of_batch, batch)
        everything = [leaf for part in settlements(entries) for leaf in part.committed()]
        try:
            there = await self._claims.is_known(batch) and await self._succeeded(batch, "batch")
        except ClientError as error:
            log.warning("batch %s: %s", batch, error.message)
            there = False
        if there:
            await self._settle_all(batch, entries, everything)
            return
        for entry in entries:
            if entry.state == "attested":
                self._claims.claim_alone(entry)

    async def _settle_all(self, batch: str, entries: list[ReceiptEntry], everything: list[bytes]) -> None:
        for part in settlements(entries):
            if all(entry.state != "attested" for entry in part.entries):
                continue
            payload = part.payload(batch, everything)
            assert len(jcs(payload)) <= SETTLE_BYTES + 1024, "a range is cut to fit"
            self.open += len(part.entries)
            try:
                settled, skipped = await self._settle(payload)
            except ClientError as error:
                log.warning("settling %d receipts of %s: %s", len(part.entries), batch, error.message)
                settled, skipped = "", dict.fromkeys(range(len(part.entries)), "")
            finally:
                self.open -= len(part.entries)
            for place, entry in enumerate(part.entries):
                await self._end(entry, settled, skipped.get(part.start + place) if settled else "")

    async def _end(self, entry: ReceiptEntry, settled: str, skipped: str | None) -> None:
        """`skipped`: why the chain did not pay it with this SETTLE; None: it did."""
        if entry.state != "attested":
            return
        if skipped is None:
            await self._claims.close(entry, "claimed", "", claim_tx=settled)
        elif skipped in _PAID:
            await self._claims.close(entry, "claimed", "", claim_tx=await self._claims.payer_of(entry))
        elif skipped in _HOPELESS:
            await self._claims.close(entry, "lapsed", skipped, claim_tx="")
        else:
            self._claims.claim_alone(entry)

    async def _settle(self, payload: dict[str, Any]) -> tuple[str, dict[int, str]]:
        """The SETTLE that paid, and by place in the batch whom it skipped, for what."""

        async def remember(_tx: str) -> None:
            """Nothing to remember: settled twice, a receipt is skipped the second time."""

        for attempt in range(TRIES):
            try:
                settle = await self._sender.send("SETTLE", payload, remember=remember)
                outcome = await self._outcome(settle)
                break
            except ClientError as error:
                if attempt == TRIES - 1:
                    raise
                log.warning("settling: %s", error.message)
                await asyncio.sleep(self._hub.config.claim_retry_least_s * 2**attempt)
        if outcome.get("status") == "failed":
            raise ClientError(
                str(outcome.get("reason")), f"{outcome.get('reason')}: {outcome.get('message')}"[:300], ""
            )
        skipped: dict[int, str] = {}
        for event in outcome.get("events", []):
            if event["kind"] == "skipped":
                place, _, reason = str(event["key"]).partition(":")
                skipped[int(place)] = reason
        return settle, skipped

    async def _succeeded(self, tx_id: str, what: str) -> bool:
        outcome = await self._outcome(tx_id)
        if outcome.get("status") == "failed":
            log.warning(
                "%s %s has failed: %s: %s", what, tx_id, outcome.get("reason"), outcome.get("message")
            )
            return False
        return True

    async def _outcome(self, tx_id: str) -> dict[str, Any]:
        """Of a transaction that has become final; ClientError when it has not, in time."""
        answer = await self._hub.chain.transaction(tx_id, wait="final", timeout=FINAL_WAIT_S)
        if answer["status"] == "pending":
            self._sender.doubt()
            raise ClientError("not_final", f"{tx_id} is not final after {FINAL_WAIT_S} s", "")
        return answer.get("receipt") or {}

    async def _perhaps_there(self, tx_id: str) -> bool:
        """May this transaction still become final? Then its receipts stay in it, so that both ways are known."""
        try:
            return await self._claims.is_known(tx_id)
        except ClientError:
            return True
