"""Requests signed by an address: whose they are, and that each is good once. docs/spec/accounts.md"""

import re
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from starlette.requests import Request

from aitbc.client.errors import ClientError
from aitbc.core.codec.keytext import key_from_text, key_to_text
from aitbc.core.codec.signed_request import MAX_AGE_MS, signed_request_digest
from aitbc.core.crypto.address import address_of
from aitbc.core.crypto.schemes import verify
from aitbc.core.jobs.reasons import JobReason, Refused
from aitbc.core.types.reasons import Rejected
from aitbc.hub.chain import unreachable

if TYPE_CHECKING:
    from aitbc.hub.hub import Hub

KEY_LOOK_S = 10.0
"""An account's key is asked of the chain again after this: a rotated key is good for so long."""
MAX_KEYS = 10_000

_NONCE = re.compile(r"[0-9a-f]{64}\Z")
_TIME = re.compile(r"[0-9]{1,15}\Z")
_HEX = re.compile(r"(?:[0-9a-f]{2}){1,4096}\Z")


class SignedRequests:
    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._keys: OrderedDict[str, tuple[str, float]] = OrderedDict()

    async def address_of(self, request: Request, body: bytes) -> str:
        """The address that signed this very request; refuses everything else, and the same request again."""
        heads = request.headers
        address, nonce = heads.get("aitbc-address", ""), heads.get("aitbc-nonce", "")
        timestamp, signature = heads.get("aitbc-timestamp", ""), heads.get("aitbc-signature", "")
        if not (_NONCE.match(nonce) and _TIME.match(timestamp) and _HEX.match(signature)):
            raise _bad(
                "AITBC-Nonce is 64 hexadecimal digits, AITBC-Timestamp digits, AITBC-Signature hexadecimal"
            )
        now_ms = self._hub.now_ms()
        if abs(now_ms - int(timestamp)) > MAX_AGE_MS:
            raise _bad(f"AITBC-Timestamp is {timestamp}, it is {now_ms}; {MAX_AGE_MS} ms are allowed")
        key = await self._key(address, heads.get("aitbc-pubkey", ""))
        digest = signed_request_digest(
            genesis_hash=self._hub.genesis_hash,
            hub=self._hub.signer.address,
            address=address,
            method=request.method,
            target=_target(request),
            body=body,
            timestamp_ms=int(timestamp),
            nonce=nonce,
        )
        if not verify(key, digest, bytes.fromhex(signature)):
            raise _bad("the signature is not good for this request, this hub and this chain")
        await self._use(address, nonce, int(timestamp), now_ms)
        return address

    async def _use(self, address: str, nonce: str, timestamp_ms: int, now_ms: int) -> None:
        """A nonce is kept as long as its time would be believed."""
        accounts = self._hub.accounts
        expires_ms = timestamp_ms + 2 * MAX_AGE_MS
        new = await accounts.db(
            accounts.store.use_nonce, address, nonce, expires_ms=expires_ms, now_ms=now_ms
        )
        if not new:
            raise Refused(JobReason.REPLAYED, "this signed request was here before")

    async def _key(self, address: str, offered: str) -> bytes:
        """The key that the chain has for the address; else the offered one, if it makes the address."""
        if len(address) > 128 or len(offered) > 4096:
            raise _bad("AITBC-Address or AITBC-Pubkey is too long")
        try:
            key = key_from_text(offered)
        except (Rejected, ValueError):
            raise _bad("AITBC-Pubkey is no key") from None
        known = await self._known_key(address)
        if (known and known != key_to_text(key)) or (not known and address_of(key) != address):
            raise _bad(f"AITBC-Pubkey is not the key of {address}")
        return key

    async def _known_key(self, address: str) -> str:
        found = self._keys.get(address)
        if found is not None and time.monotonic() < found[1]:
            return found[0]
        try:
            account = await self._hub.chain.account(address)
        except ClientError as error:
            raise unreachable(error) from error
        key = str(account.get("pubkey") or "")
        self._keys[address] = (key, time.monotonic() + KEY_LOOK_S)
        if len(self._keys) > MAX_KEYS:
            self._keys.popitem(last=False)
        return key


def _target(request: Request) -> str:
    """Path and query as they were sent."""
    path: bytes = request.scope.get("raw_path") or request.url.path.encode()
    query: bytes = request.scope["query_string"]
    return (path + (b"?" + query if query else b"")).decode("latin-1")


def _bad(message: str) -> Refused:
    return Refused(JobReason.BAD_REQUEST_SIGNATURE, message)
