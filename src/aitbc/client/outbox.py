"""Each wish ends in one transaction of a block, whatever happens on the way: what is asked, and what follows from it.

The walks below ask by yielding calls and pauses; `sender.py` performs them, waiting or on an event loop.

A transaction may have been taken as soon as it was sent and nobody said no: the answer can be lost, the node can die.
From then on its wish is bound to its nonce. The same bytes are sent again until they are final; only when a block
holds another transaction of this account with the same nonce, which is looked up, is the wish signed anew. So nothing
is lost, and nothing happens twice. What a node refused at once, and no node may have, is signed anew right away. So is
what the node had before it was sent from here at all: that is another wallet's, which wished the same.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from aitbc.client.errors import ApiError, ClientError, TransactionFailed, Unreachable
from aitbc.client.http import Call
from aitbc.client.node import (
    Page,
    SendResult,
    account_call,
    account_transactions_call,
    estimate_fee_call,
    head_call,
    send_call,
    send_many_call,
    transaction_call,
)
from aitbc.client.transactions import (
    MAX_FEE,
    Payload,
    Signer,
    build_transaction,
    checked_fee,
    transfer_payload,
)
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import transaction_id
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.types.transactions import Transaction

Json = dict[str, Any]
T = TypeVar("T")

MAX_OPEN = 1_000
"""Transactions of one account that are on their way; a node holds 64 of one sender, the others are sent again."""
MAX_AT_ONCE = 500
"""In one call: half of what a node takes, and with the largest payloads of money still below its bytes."""
MAX_PAGES = 50
"""Of the account's history, to find who has used a nonce: 5,000 transactions back."""
PAUSE_S = 0.2
LOOK_S = 1.5
"""How long a node is asked to wait for finality before it is looked whether it still knows the transaction."""

PASSING = frozenset(
    {
        "too_busy",
        "mempool_full",
        "rate_limited",
        "too_many_pending",
        "node_stopped",
        "cannot_include",
        "rotation_waits",
    }
)
"""Refusals that pass by themselves: the same bytes are sent again."""
NONCE_TAKEN = frozenset({"bad_nonce", "nonce_gap", "replacement_fee_too_low", "in_block", "already_known"})
"""Another sender of this account was faster, or a transaction before this one is missing."""
SAME_AS_ANOTHERS = ApiError("already_known", "another sender of this account has sent the same", "")
"""Two wallets that wish the same under the same nonce sign the same bytes: one transaction, and two wishes."""


class Pause(NamedTuple):
    seconds: float


Walk = Generator[Call[Any] | Pause, Any, T]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is to happen once."""

    type: str
    payload: Payload
    witness: Mapping[str, Any] | None = None
    fee: int | None = None
    """None: the least that the node asks, up to the account's `max_fee`."""


@dataclass(kw_only=True)
class Sent:
    """A wish on its way. `tx_id` changes when another transaction has taken its nonce."""

    wish: Wish
    tx: Transaction
    tx_id: str
    may_be_taken: bool = False
    """Some node may have it: it must not be signed anew before another transaction has its nonce for good."""
    earlier: list[str] = field(default_factory=list)
    """Ids under which it was signed before."""
    outcome: Json | None = None
    """What getTx says of it, once it is final."""

    @property
    def nonce(self) -> int:
        return self.tx.nonce


class Outbox:
    """What one account has on its way. Its walks are performed one at a time, but for `look`."""

    def __init__(self, signer: Signer, *, max_fee: int = MAX_FEE, genesis_hash: bytes | None = None) -> None:
        self._signer, self._max_fee = signer, max_fee
        self.genesis_hash = genesis_hash
        """The only chain that is signed for; None: the one that the node says at first."""
        self.open: dict[int, Sent] = {}
        """By nonce."""
        self._fees: dict[tuple[str, int], int] = {}

    # Sending

    def begin(self, wish: Wish) -> Walk[Sent]:
        """Sign it; `offer` sends it."""
        if len(self.open) >= MAX_OPEN:
            yield from self._tend(max(self.open))
        if len(self.open) >= MAX_OPEN:
            raise ClientError(
                "too_many_pending", f"{MAX_OPEN} transactions are on their way", "wait until some are final"
            )
        return (yield from self._sign(wish))

    def submit_many(self, wishes: Sequence[Wish]) -> Walk[list[Sent | ApiError]]:
        """Many with few calls. What is refused for good stands in its place; its nonce is the next wish's."""
        found: list[Sent | ApiError] = []
        for start in range(0, len(wishes), MAX_AT_ONCE):
            part: list[Sent] = []
            for wish in wishes[start : start + MAX_AT_ONCE]:
                part.append((yield from self._sign(wish, near=bool(part))))
            results = yield from self._send_all(part)
            for sent, result in zip(part, results, strict=True):
                found.append((yield from self._settled(sent, result)))
        return found

    def _send_all(self, part: Sequence[Sent]) -> Walk[Sequence[SendResult | None]]:
        """One call for all. None: nothing is known of it, or the node has no such call; each is sent by itself then."""
        before = [sent.may_be_taken for sent in part]
        for sent in part:
            sent.may_be_taken = True
        try:
            results: list[SendResult] = yield send_many_call([sent.tx for sent in part])
        except Unreachable:
            return [None] * len(part)
        except ApiError as error:
            if not _is_unknown(error):
                for sent, was in zip(part, before, strict=True):
                    sent.may_be_taken = was
            if error.status != 404 and error.code not in PASSING and not _is_unknown(error):
                raise
            return [None] * len(part)
        found = []
        for sent, was, result in zip(part, before, results, strict=True):
            is_anothers = result.known and not was
            found.append(result._replace(error=SAME_AS_ANOTHERS) if is_anothers else result)
            sent.may_be_taken = result.error is None and not is_anothers
        return found

    def _settled(self, sent: Sent, result: SendResult | None) -> Walk[Sent | ApiError]:
        error = None if result is None else result.error
        if result is not None and error is None:
            return sent
        try:
            yield from self.offer(sent, None if error is None or error.code in PASSING else error)
        except ApiError as refusal:
            return refusal
        return sent

    def _sign(self, wish: Wish, *, near: bool = False, instead_of: Sent | None = None) -> Walk[Sent]:
        """Under the next nonce that neither the node nor this outbox has used, but for what it is `instead_of`.
        `near`: just behind our last one, without asking."""
        if self.genesis_hash is None:
            self.genesis_hash = bytes.fromhex((yield head_call())["genesisHash"])
        nonce = (
            max(self.open) + 1
            if near and self.open
            else (yield account_call(self._signer.address))["nextNonce"]
        )
        while nonce in self.open and self.open[nonce] is not instead_of:
            nonce += 1
        fee = wish.fee if wish.fee is not None else (yield from self._fee(wish))
        tx = build_transaction(
            wish.type,
            wish.payload,
            signer=self._signer,
            nonce=nonce,
            fee=fee,
            genesis_hash=self.genesis_hash,
            witness=wish.witness,
        )
        sent = Sent(wish=wish, tx=tx, tx_id=transaction_id(tx, self.genesis_hash).hex())
        self.open[nonce] = sent
        return sent

    def _fee(self, wish: Wish) -> Walk[int]:
        """Asked once for each size of each type: a fee follows from them, from the key and from parameters."""
        place = (wish.type, len(jcs(wish.payload)))
        if wish.witness is None and place in self._fees:
            return self._fees[place]
        key, witness = key_to_text(self._signer.auth_key), wish.witness
        call = estimate_fee_call(wish.type, wish.payload, key, dict(witness) if witness is not None else None)
        self._fees[place] = checked_fee((yield call), wish.type, self._max_fee)
        return self._fees[place]

    def offer(self, sent: Sent, refusal: ApiError | None = None) -> Walk[None]:
        """Until a node has it; raises ApiError for what it will not have, and then nothing was spent. `refusal`: what
        was just said of it."""
        while True:
            if refusal is None:
                refusal = yield from self._send(sent)
            if refusal is None:
                return
            if _is_unknown(refusal):
                yield Pause(PAUSE_S)
            elif sent.may_be_taken or refusal.code in PASSING:
                yield Pause(PAUSE_S)
                yield from self._tend(sent.nonce)
                if sent.outcome is not None:
                    return
            elif refusal.code in NONCE_TAKEN or (refusal.code == "fee_too_low" and sent.wish.fee is None):
                self._fees.clear()
                yield Pause(PAUSE_S / 10)
                yield from self._tend(sent.nonce - 1)
                yield from self._sign_anew(sent)
            else:
                self._forget(sent)
                raise refusal
            refusal = None

    def _send(self, sent: Sent) -> Walk[ApiError | None]:
        """Once; None when a node has it."""
        before = sent.may_be_taken
        sent.may_be_taken = True
        try:
            result: SendResult = yield send_call(sent.tx)
        except Unreachable as error:
            return ApiError("too_busy", error.message, error.fix, 503)
        except ApiError as error:
            if not _is_unknown(error):
                sent.may_be_taken = before
            return error
        if result.known and not before:
            sent.may_be_taken = False
            return SAME_AS_ANOTHERS
        return None

    def _sign_anew(self, sent: Sent) -> Walk[None]:
        """The wish under another nonce; only what no block can hold may be signed anew. It stays open meanwhile: who
        asks for its nonce may be interrupted, and begins here again."""
        sent.may_be_taken = False
        fresh = yield from self._sign(sent.wish, instead_of=sent)
        self._forget(sent)
        sent.earlier.append(sent.tx_id)
        sent.tx, sent.tx_id, sent.may_be_taken = fresh.tx, fresh.tx_id, False
        self.open[sent.nonce] = sent

    def _forget(self, sent: Sent) -> None:
        if self.open.get(sent.nonce) is sent:
            del self.open[sent.nonce]

    # Following

    def look(self, sent: Sent, wait_s: float) -> Walk[str]:
        """`final`, `pending` or `lost`: what the node knows, which waits for finality for so long."""
        if sent.outcome is not None:
            return "final"
        if not sent.may_be_taken:
            return "lost"  # what has its id, if anything, is another wallet's
        try:
            answer = yield transaction_call(sent.tx_id, "final", wait_s, False)
        except Unreachable:
            yield Pause(PAUSE_S)
            return "lost"
        except ApiError as error:
            if error.status != 404 and error.code not in PASSING and not _is_unknown(error):
                raise
            return "lost"
        if answer["status"] in ("final", "failed") and answer.get("final", True):
            sent.outcome = answer
            return "final"
        return "lost" if answer["status"] == "dropped" else "pending"

    def recover(self, sent: Sent) -> Walk[None]:
        """It does not become final, or the node does not know it (any more): send it, and all others that are missing,
        again; or sign it anew when its nonce is another's for good. Raises ApiError when the node will not have it and
        no other may have taken it. What another wallet of this account has left out before it is not filled: the next
        wish gets that nonce."""
        refusal = yield from self._tend(max([sent.nonce, *self.open]), about=sent)
        if sent.outcome is not None:
            return
        if refusal is not None and not sent.may_be_taken:
            self._forget(sent)
            raise refusal
        if sent.may_be_taken:
            yield Pause(PAUSE_S)
        else:
            yield from self.offer(sent)

    def _tend(self, limit: int, *, about: Sent | None = None) -> Walk[ApiError | None]:
        """Look after all up to a nonce: what is in a block is done, what another transaction has overtaken is signed
        anew, what the node lacks is sent again. Returns why it will never have `about`, if so."""
        account = yield account_call(self._signer.address)
        past = [sent for nonce, sent in sorted(self.open.items()) if nonce <= min(limit, account["nonce"])]
        if past:
            used = yield from self._who_used(past[0].nonce)
            for sent in past:
                yield from self._compare(sent, used.get(sent.nonce))
        found = None
        for nonce in sorted(nonce for nonce in self.open if account["nextNonce"] <= nonce <= limit):
            sent = self.open[nonce]
            refusal = yield from self._send(sent)
            if refusal is None or refusal.code in PASSING or _is_unknown(refusal):
                continue
            if refusal.code in NONCE_TAKEN:
                if not sent.may_be_taken:
                    yield from self._sign_anew(sent)
            elif sent is about:
                found = refusal
        return found

    def close(self, sent: Sent) -> Json:
        """The outcome of what is final; raises TransactionFailed when the state has refused it."""
        assert sent.outcome is not None, "asked after it is final"
        self._forget(sent)
        if sent.outcome["status"] == "failed":
            receipt = sent.outcome.get("receipt") or {}
            reason = str(receipt.get("reason") or "failed")
            raise TransactionFailed(sent.tx_id, reason, str(receipt.get("message") or ""))
        return sent.outcome

    def _compare(self, sent: Sent, item: Json | None) -> Walk[None]:
        """With the transaction in a block that has its nonce. Ours: that is the outcome. Another one, or the same of
        another wallet: ours can never be in a block, and is signed anew. None was found, or its block may still be
        left: nothing is known, and nothing changes."""
        if item is None or not item.get("final", True):
            return
        if item["txHash"] == sent.tx_id and sent.may_be_taken:
            sent.outcome = item
            self._forget(sent)
        else:
            yield from self._sign_anew(sent)

    def _who_used(self, oldest: int) -> Walk[dict[int, Json]]:
        """This account's final transactions by nonce, from the newest back to one, as far as the node shows them."""
        used: dict[int, Json] = {}
        cursor = ""
        for _ in range(MAX_PAGES):
            page: Page = yield account_transactions_call(self._signer.address, cursor)
            for item in page.items:
                tx = item.get("tx") or {}
                if tx.get("sender") == self._signer.address:
                    used[int(tx["nonce"])] = item
            cursor = page.next
            if not cursor or oldest in used:
                break
        return used


def _is_unknown(error: ApiError) -> bool:
    """Did the server fail in a way that does not say whether it did what was asked?"""
    return error.code == "bad_answer" or (error.status >= 500 and error.code not in PASSING)


def wish_of_transfer(*, to: str, amount: int, data: str = "", fee: int | None = None) -> Wish:
    return Wish(type="TRANSFER", payload=transfer_payload(to=to, amount=amount, data=data), fee=fee)
