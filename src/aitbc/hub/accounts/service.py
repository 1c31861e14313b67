"""Accounts at work: who asks, may they, what is set aside, what it cost. docs/spec/accounts.md

Money is reserved before a job begins and settled when it has ended, by the end of the job and not by who waits for it:
a client that hangs up or a hub that is killed changes nothing.
"""

import asyncio
import hashlib
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from starlette.requests import Request

from aitbc.core.jobs.lifecycle import FINAL_STATES, State
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.hub.accounts.database import open_accounts
from aitbc.hub.accounts.rates import PerMinute
from aitbc.hub.accounts.records import ApiKey, Hold, Payer, Seat, Usage
from aitbc.hub.accounts.sessions import SessionKeeper
from aitbc.hub.accounts.signed import SignedRequests
from aitbc.hub.accounts.store import AccountStore
from aitbc.hub.limits import RateLimit
from aitbc.hub.records import Quote, ReceiptEntry
from aitbc.ports import StorageError

if TYPE_CHECKING:
    from aitbc.hub.hub import Hub
    from aitbc.hub.parts import Job

log = logging.getLogger("aitbc.hub")

P = ParamSpec("P")
T = TypeVar("T")

DB_FILE = "accounts.sqlite"
KEY_PREFIX = "aitk_"
KEY_LOOK_S = 5.0
"""A key is read from the disk again after this: another hub process may have revoked it."""
MAX_KEYS = 10_000
"""Keys in memory."""
WRONG_KEYS_PER_SECOND, WRONG_KEYS_BURST = 5, 50
"""From one address: somebody tries keys, or has forgotten to change one."""
LOST_AFTER_MS = 60_000
"""A hold so old whose job is not in memory is looked at: its end may have been lost in a crash."""
LOOK_S = 10.0


class Accounts:
    """Made by `start`, ended by `stop`; has one database thread of its own."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="hub-accounts")
        self._keys: OrderedDict[str, tuple[ApiKey, float]] = OrderedDict()
        self._rates = PerMinute(time.monotonic)
        self._wrong_keys = RateLimit(
            per_second=WRONG_KEYS_PER_SECOND, burst=WRONG_KEYS_BURST, monotonic=time.monotonic
        )
        self._settling: dict[str, asyncio.Task[None]] = {}
        self._holds: dict[str, Hold] = {}
        """Of jobs under way in this process."""
        self.signed = SignedRequests(hub)
        self.keeper = SessionKeeper(hub, self)

    async def start(self) -> None:
        self.store = await self.db(self._open)
        keys = await self.db(self.store.keys)
        self.keeper.needed = bool(keys)
        await self._settle_lost(
            older_than_ms=LOST_AFTER_MS if self._url() else 0
        )  # others may be beginning theirs
        self._hub.in_background(self.keeper.run())
        self._hub.in_background(self._look())
        log.info("accounts: %d keys, in %s", len(keys), "PostgreSQL" if self._url() else DB_FILE)

    def _open(self) -> AccountStore:
        database = open_accounts(self._url(), default=self._hub.config.data_dir / DB_FILE)
        return AccountStore(database, genesis_hash=self._hub.genesis_hash.hex())

    def _url(self) -> str:
        """Processes that share a queue share its accounts, too."""
        return self._hub.config.database_url

    async def stop(self) -> None:
        await self.keeper.stop()
        await asyncio.gather(*self._settling.values(), return_exceptions=True)
        await self.db(self.store.close)
        self._thread.shutdown()

    async def db(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a method of the store on its thread; calls are performed in their order."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(call, *args, **kwargs))

    # who asks

    async def payer(self, request: Request, body: bytes) -> Payer:
        """By API key, else by signature; refuses strangers."""
        if "aitbc-signature" in request.headers:
            return Payer(account=await self.signed.address_of(request, body))
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        return await self.payer_of_key(key.strip() if scheme.lower() == "bearer" else "", request)

    async def payer_of_key(self, text: str, request: Request) -> Payer:
        """Refuses a key that is unknown, expired or revoked, and tells none of these from the others."""
        key = await self._key(text, request)
        now_ms = self._hub.now_ms()
        if key is None or key.revoked_ms or (key.expires_ms and key.expires_ms <= now_ms):
            raise Refused(JobReason.INVALID_API_KEY, "invalid api_key")
        return Payer(account=key.account, key=key)

    async def _key(self, text: str, request: Request) -> ApiKey | None:
        key_hash = hash_of_key(text)
        found = self._keys.get(key_hash)
        if found is not None and time.monotonic() < found[1]:
            return found[0]
        address = request.client.host if request.client else "unknown"
        if not text.startswith(KEY_PREFIX) or not self._wrong_keys.has(address):
            return None
        key = await self.db(self.store.key_by_hash, key_hash)
        if key is None:
            self._wrong_keys.allow(address)
            return None
        self._keys[key_hash] = (key, time.monotonic() + KEY_LOOK_S)
        if len(self._keys) > MAX_KEYS:
            self._keys.popitem(last=False)
        return key

    # keys

    async def make_key(self, **wanted: Any) -> tuple[ApiKey, str]:
        """A new key and its text, which is not kept."""
        text = KEY_PREFIX + secrets.token_urlsafe(32)
        key = ApiKey(
            id=f"key_{secrets.token_hex(8)}",
            spent=0,
            held=0,
            created_ms=self._hub.now_ms(),
            revoked_ms=0,
            **wanted,
        )
        await self.db(self.store.add_key, key, key_hash=hash_of_key(text))
        self.keeper.needed = True
        return key, text

    async def revoke_key(self, key_id: str) -> None:
        gone = await self.db(self.store.revoke_key, key_id, at_ms=self._hub.now_ms())
        if not gone:
            raise Refused(JobReason.UNKNOWN_API_KEY, f"there is no key {key_id[:80]!r} that is not revoked")
        self._keys.clear()

    # one job

    def admit(self, payer: Payer, *, model: str, tokens: int) -> int:
        """Refuse a model that the key may not ask for, and more in a minute than it may; returns the tokens taken."""
        key = payer.key
        if key is None:
            return 0
        if key.models and model not in key.models:
            raise Refused(JobReason.MODEL_NOT_ALLOWED, f"this key may ask for: {', '.join(key.models)}")
        if key.rpm is not None:
            self._take(f"{key.id}/requests", key.rpm, 1, "requests")
        if key.tpm is not None:
            self._take(f"{key.id}/tokens", key.tpm, tokens, "tokens")
            return tokens
        return 0

    def _take(self, name: str, most: int, amount: int, what: str) -> None:
        wait_s = self._rates.take(name, most=most, amount=amount)
        if wait_s:
            raise Refused(
                JobReason.RATE_LIMITED,
                f"this key may use {most} {what} a minute; try again in {wait_s:.1f} s",
            )

    async def reserve(self, payer: Payer, quote: Quote, *, tokens: int, route: str) -> Seat:
        """Set the worst-case price aside and give the job its place in a session; opens one when none has room."""
        hold = Hold(
            job_id=quote.job_id,
            account=payer.account,
            key_id=payer.key.id if payer.key else "",
            purse="",
            lock="",
            amount=quote.price,
            tokens=tokens,
            route=route,
            state="held",
            created_ms=quote.created_ms,
        )
        try:
            return await self._reserve(hold, quote.deliver_by_ms)
        except Refused as refused:
            if refused.reason != JobReason.NO_SESSION:
                raise
        self.keeper.needed = True
        await self.keeper.open_one()
        return await self._reserve(hold, quote.deliver_by_ms)

    async def _reserve(self, hold: Hold, deliver_by_ms: int) -> Seat:
        seat, noted = await self.db(self.store.reserve, hold, deliver_by_ms=deliver_by_ms)
        self._holds[hold.job_id] = noted
        return seat

    async def release(self, quote: Quote, *, message: str) -> None:
        """The job could not be begun."""
        await self._settle(quote, None, state=message, at_ms=self._hub.now_ms())

    def job_ended(self, job: "Job") -> None:
        """Delivered or not: settle what it cost."""
        if not job.quote.account or not _has_ended(job):
            return
        state = job.receipt.delivery.details.status if job.receipt else str(job.reason or job.state)
        work = self._settle(job.quote, job.receipt, state=state, at_ms=self._hub.now_ms())
        task = asyncio.ensure_future(work)
        self._settling[job.id] = task
        task.add_done_callback(lambda done: self._settled(job.id, done))

    def _settled(self, job_id: str, task: "asyncio.Task[None]") -> None:
        self._settling.pop(job_id, None)
        if not task.cancelled() and task.exception() is not None:
            log.error("job %s is not settled yet", job_id, exc_info=task.exception())

    async def until_settled(self, job_id: str) -> None:
        """So that who has its answer has its change, too."""
        task = self._settling.get(job_id)
        if task is not None:
            await asyncio.wait([task])

    async def _settle(self, quote: Quote, entry: ReceiptEntry | None, *, state: str, at_ms: int) -> None:
        hold = self._holds.pop(quote.job_id, None) or await self.db(self.store.hold, quote.job_id)
        if hold is None or hold.state != "held":
            return
        core = entry.delivery.core if entry else None
        usage = Usage(
            at_ms=at_ms,
            job_id=quote.job_id,
            account=hold.account,
            key_id=hold.key_id,
            route=hold.route,
            kind=quote.kind,
            model=quote.model,
            state=state[:80],
            units=core.compute_units if core else 0,
            price=core.price if core else 0,
            receipt_id=entry.receipt_id if entry else "",
            duration_ms=max(0, at_ms - quote.created_ms),
        )
        await self.db(self.store.settle, hold, price=usage.price, usage=usage)
        self._give_back_tokens(hold, entry)

    def _give_back_tokens(self, hold: Hold, entry: ReceiptEntry | None) -> None:
        key = (
            next((key for key, _ in self._keys.values() if key.id == hold.key_id), None)
            if hold.tokens
            else None
        )
        if key is None or key.tpm is None:
            return
        counts = entry.delivery.details.counts if entry else {}
        unused = hold.tokens - counts.get("in", 0) - counts.get("out", 0)
        self._rates.give_back(f"{key.id}/tokens", most=key.tpm, amount=max(0, unused))

    # what a crash has left

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._settle_lost(older_than_ms=LOST_AFTER_MS)
            except StorageError:
                log.exception("the accounts' database refuses; holds stay until it works again")

    async def _settle_lost(self, *, older_than_ms: int) -> None:
        """Holds whose job has ended, or never began, while nobody was there to settle them."""
        hub, now_ms = self._hub, self._hub.now_ms()
        for hold in await self.db(self.store.open_holds, before_ms=now_ms - older_than_ms + 1):
            if hold.job_id in self._settling or hub.jobs.is_under_way(hold.job_id):
                continue
            record = await hub.db(hub.store.job, hold.job_id)
            if record is None and hold.job_id in self._holds:
                continue  # it is about to begin
            if record is None:
                log.warning("job %s never began; its money is free again", hold.job_id)
                await self._free(hold, now_ms)
                continue
            entry = await hub.db(hub.store.receipt_of_job, hold.job_id)
            if entry is not None or record.state in FINAL_STATES:
                state = entry.delivery.details.status if entry else str(record.reason or record.state)
                await self._settle(record.quote, entry, state=state, at_ms=now_ms)

    async def _free(self, hold: Hold, now_ms: int) -> None:
        nothing = Usage(
            at_ms=now_ms,
            job_id=hold.job_id,
            account=hold.account,
            key_id=hold.key_id,
            route=hold.route,
            kind="",
            model="",
            state="never_began",
            units=0,
            price=0,
            receipt_id="",
            duration_ms=0,
        )
        await self.db(self.store.settle, hold, price=0, usage=nothing)


def hash_of_key(text: str) -> str:
    """What is stored of a key: it has 256 random bits, so one hash is enough."""
    return hashlib.sha256(text.encode()).hexdigest()


def _has_ended(job: "Job") -> bool:
    """A job that a bug of the hub stopped goes on with the next start."""
    return job.reason != JobReason.HUB_ERROR and (job.state in FINAL_STATES or job.state == State.DELIVERED)
