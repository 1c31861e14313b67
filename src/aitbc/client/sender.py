"""An account that sends: `Account` and, with the same names, `AsyncAccount`.

    account = Account(NodeClient("http://127.0.0.1:8080"), KeySigner(seed))
    account.settle(wish_of_transfer(to="ait1…", amount=25_000_000))

Nonces are its affair, also when several threads, tasks or other wallets send from the same account. Whatever happens on
the way, nodes that die included, each wish ends in one transaction (`outbox.py` says how).
"""

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any, TypeVar

from aitbc.client.errors import ApiError, ClientError, TimedOut, Unreachable
from aitbc.client.http import Call
from aitbc.client.node import AsyncNodeClient, NodeClient
from aitbc.client.outbox import LOOK_S, PASSING, PAUSE_S, Outbox, Pause, Sent, Walk, Wish, wish_of_transfer
from aitbc.client.transactions import MAX_FEE, Signer

Json = dict[str, Any]
T = TypeVar("T")

PATIENCE_S = 60.0
"""How long a send, or a wait for finality, goes on by default: longer than a node takes to start again."""

__all__ = ["Account", "AsyncAccount", "Sent", "Unsettled", "Wish", "wish_of_transfer"]


class Unsettled(TimedOut):
    """Time is up, and the transaction may or may not be in a block some day."""

    def __init__(self, sent: Sent) -> None:
        super().__init__(
            f"{sent.tx_id} is not final in time", "wait on for the same: account.wait(error.sent)"
        )
        self.sent = sent
        """To wait on for. A new wish in its place could happen beside it."""


class Account:
    """For threads. One for each account and process: it knows which nonces are on their way."""

    def __init__(self, node: NodeClient, signer: Signer, *, max_fee: int = MAX_FEE) -> None:
        self._node = node
        self._outbox = Outbox(signer, max_fee=max_fee, genesis_hash=node.expected_chain)
        self._turn = threading.Lock()

    def transfer(self, to: str, amount: int, *, data: str = "", timeout: float = PATIENCE_S) -> Sent:
        return self.send(wish_of_transfer(to=to, amount=amount, data=data), timeout=timeout)

    def send(self, wish: Wish, *, timeout: float = PATIENCE_S) -> Sent:
        """Until a node has it. Raises ApiError when it is refused (nothing is spent then), TimedOut when no node was
        there to ask, and Unsettled when one may have taken it."""
        deadline = time.monotonic() + timeout
        with _Turn(self._turn, deadline):
            sent = self._perform(self._outbox.begin(wish), deadline)
            try:
                self._perform(self._outbox.offer(sent), deadline)
            except TimedOut:
                raise Unsettled(sent) from None
            return sent

    def send_many(self, wishes: Sequence[Wish], *, timeout: float = PATIENCE_S) -> list[Sent | ApiError]:
        """Many with few calls, in the order of the wishes: what was sent, or why it is refused. When time is up, those
        that were signed are still on their way: `open` lists them."""
        deadline = time.monotonic() + timeout
        with _Turn(self._turn, deadline):
            return self._perform(self._outbox.submit_many(wishes), deadline)

    def wait(self, sent: Sent, *, timeout: float = PATIENCE_S) -> Json:
        """getTx's answer once it is final. Raises TransactionFailed, or Unsettled when time is up."""
        deadline = time.monotonic() + timeout
        try:
            while self._perform(self._outbox.look(sent, _span(deadline)), deadline) != "final":
                with _Turn(self._turn, deadline):
                    self._perform(self._outbox.recover(sent), deadline)
        except TimedOut:
            raise Unsettled(sent) from None
        with self._turn:
            return self._outbox.close(sent)

    def settle(self, wish: Wish, *, timeout: float = PATIENCE_S) -> Json:
        """Send, and wait until it is final."""
        deadline = time.monotonic() + timeout
        sent = self.send(wish, timeout=timeout)
        return self.wait(sent, timeout=max(0.0, deadline - time.monotonic()))

    @property
    def open(self) -> list[Sent]:
        """What is on its way, by nonce."""
        with self._turn:
            return [sent for _, sent in sorted(self._outbox.open.items())]

    def _perform(self, walk: Walk[T], deadline: float) -> T:
        answer: Any = None
        error: ClientError | None = None
        while True:
            try:
                step = walk.send(answer) if error is None else walk.throw(error)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            answer, error = None, None
            if isinstance(step, Pause):
                time.sleep(_within(step.seconds, deadline))
                continue
            try:
                answer = self._ask(step, deadline)
            except TimedOut:
                raise
            except ClientError as refusal:
                error = refusal

    def _ask(self, call: Call[Any], deadline: float) -> Any:
        """Questions are asked again while nobody answers."""
        while True:
            try:
                return self._node.perform(call)
            except (Unreachable, ApiError) as error:
                if not _may_ask_again(call, error):
                    raise
            time.sleep(_within(PAUSE_S, deadline))


class AsyncAccount:
    """`Account` for an event loop."""

    def __init__(self, node: AsyncNodeClient, signer: Signer, *, max_fee: int = MAX_FEE) -> None:
        self._node = node
        self._outbox = Outbox(signer, max_fee=max_fee, genesis_hash=node.expected_chain)
        self._turn = asyncio.Lock()

    async def transfer(self, to: str, amount: int, *, data: str = "", timeout: float = PATIENCE_S) -> Sent:
        return await self.send(wish_of_transfer(to=to, amount=amount, data=data), timeout=timeout)

    async def send(self, wish: Wish, *, timeout: float = PATIENCE_S) -> Sent:
        deadline = time.monotonic() + timeout
        async with _AsyncTurn(self._turn, deadline):
            sent = await self._perform(self._outbox.begin(wish), deadline)
            try:
                await self._perform(self._outbox.offer(sent), deadline)
            except TimedOut:
                raise Unsettled(sent) from None
            return sent

    async def send_many(
        self, wishes: Sequence[Wish], *, timeout: float = PATIENCE_S
    ) -> list[Sent | ApiError]:
        deadline = time.monotonic() + timeout
        async with _AsyncTurn(self._turn, deadline):
            return await self._perform(self._outbox.submit_many(wishes), deadline)

    async def wait(self, sent: Sent, *, timeout: float = PATIENCE_S) -> Json:
        deadline = time.monotonic() + timeout
        try:
            while await self._perform(self._outbox.look(sent, _span(deadline)), deadline) != "final":
                async with _AsyncTurn(self._turn, deadline):
                    await self._perform(self._outbox.recover(sent), deadline)
        except TimedOut:
            raise Unsettled(sent) from None
        return self._outbox.close(sent)

    async def settle(self, wish: Wish, *, timeout: float = PATIENCE_S) -> Json:
        deadline = time.monotonic() + timeout
        sent = await self.send(wish, timeout=timeout)
        return await self.wait(sent, timeout=max(0.0, deadline - time.monotonic()))

    @property
    def open(self) -> list[Sent]:
        return [sent for _, sent in sorted(self._outbox.open.items())]

    async def _perform(self, walk: Walk[T], deadline: float) -> T:
        answer: Any = None
        error: ClientError | None = None
        while True:
            try:
                step = walk.send(answer) if error is None else walk.throw(error)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            answer, error = None, None
            if isinstance(step, Pause):
                await asyncio.sleep(_within(step.seconds, deadline))
                continue
            try:
                answer = await self._ask(step, deadline)
            except TimedOut:
                raise
            except ClientError as refusal:
                error = refusal

    async def _ask(self, call: Call[Any], deadline: float) -> Any:
        while True:
            try:
                return await self._node.perform(call)
            except (Unreachable, ApiError) as error:
                if not _may_ask_again(call, error):
                    raise
            await asyncio.sleep(_within(PAUSE_S, deadline))


class _Turn:
    """A lock that is waited for until a deadline."""

    def __init__(self, lock: threading.Lock, deadline: float) -> None:
        self._lock, self._deadline = lock, deadline

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=max(0.0, self._deadline - time.monotonic())):
            raise _too_late()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class _AsyncTurn:
    def __init__(self, lock: asyncio.Lock, deadline: float) -> None:
        self._lock, self._deadline = lock, deadline

    async def __aenter__(self) -> None:
        try:
            async with asyncio.timeout(max(0.0, self._deadline - time.monotonic())):
                await self._lock.acquire()
        except TimeoutError:
            raise _too_late() from None

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


def _span(deadline: float) -> float:
    return max(0.0, min(LOOK_S, deadline - time.monotonic()))


def _within(seconds: float, deadline: float) -> float:
    """So long a pause; raises TimedOut when there is no time for another attempt after it."""
    if time.monotonic() + seconds >= deadline:
        raise _too_late()
    return seconds


def _may_ask_again(call: Call[Any], error: ClientError) -> bool:
    """A question changes nothing; a submission is for the outbox to repeat."""
    is_question = call.method == "GET" or call.path == "/rpc/estimateFee"
    passes = isinstance(error, Unreachable) or (
        isinstance(error, ApiError) and (error.code in PASSING or error.status >= 500)
    )
    return is_question and passes


def _too_late() -> TimedOut:
    return TimedOut("no answer in time", "try again, or allow more time")
