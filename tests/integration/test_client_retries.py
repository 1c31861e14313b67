"""A client that retries everything loses nothing and does nothing twice, while its node is killed with -9."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from aitbc.client.errors import ApiError, TimedOut
from aitbc.client.node import AsyncNodeClient, NodeClient
from aitbc.client.outbox import Sent, Wish, wish_of_transfer
from aitbc.client.sender import Account, AsyncAccount, Unsettled
from aitbc.client.signing import KeySigner
from support.lone_node import LoneNode, lone_node

VALIDATOR, ALICE = b"\x01" * 32, KeySigner(b"\x02" * 32)
BOB = KeySigner(b"\x03" * 32).address
KILLS = 3
PAYMENTS = 36
"""Of each wallet."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneNode]:
    with lone_node(tmp_path_factory.mktemp("chain"), VALIDATOR, {ALICE.address: 1_000}) as running:
        yield running


def received(rpc: str, prefix: str) -> Counter[str]:
    """What Bob got, by its text."""
    found: Counter[str] = Counter()
    with NodeClient(rpc) as client:
        cursor = ""
        while True:
            page = client.account_transactions(BOB, cursor)
            found.update(item["tx"]["payload"].get("data", "") for item in page.items)
            cursor = page.next
            if not cursor:
                return Counter({text: times for text, times in found.items() if text.startswith(prefix)})


def wish(text: str) -> Wish:
    return wish_of_transfer(to=BOB, amount=1, data=text)


class Payer(threading.Thread):
    """A wallet of Alice's that sends one after the other, and waits for all."""

    def __init__(self, name: str, rpc: str, progress: threading.Semaphore) -> None:
        super().__init__(name=name, daemon=True)
        self.rpc, self.progress = rpc, progress
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with NodeClient(self.rpc, timeout=5) as client:
                account = Account(client, ALICE)
                sents = [self._send(account, number) for number in range(PAYMENTS)]
                for sent in sents:
                    assert account.wait(sent)["status"] == "final"
                assert account.open == []
        except BaseException as error:
            self.error = error

    def _send(self, account: Account, number: int) -> Sent:
        sent = account.send(wish(f"{self.name}-{number}"))
        self.progress.release()
        return sent


def test_two_wallets_of_one_account_outlive_a_node_that_is_killed(node: LoneNode) -> None:
    progress = threading.Semaphore(0)
    payers = [Payer(name, node.rpc, progress) for name in ("left", "right")]
    for payer in payers:
        payer.start()
    for _ in range(KILLS):
        for _ in range(2 * PAYMENTS // (KILLS + 2)):
            assert progress.acquire(timeout=60)
        node.kill()  # whatever was in its pool is gone; some answers are on their way
        node.start(wait=False)
    for payer in payers:
        payer.join(90)
        assert not payer.is_alive()
        if payer.error is not None:
            raise payer.error
    expected = Counter(f"{payer.name}-{number}" for payer in payers for number in range(PAYMENTS))
    assert received(node.rpc, "left") + received(node.rpc, "right") == expected


def test_tasks_share_an_account(node: LoneNode) -> None:
    async def main() -> None:
        async with AsyncNodeClient(node.rpc) as client:
            account = AsyncAccount(client, ALICE)
            work = [account.settle(wish(f"task-{number}")) for number in range(20)]
            outcomes = await asyncio.gather(*work)
            assert {outcome["status"] for outcome in outcomes} == {"final"}
            many = await account.send_many([wish(f"task-many-{number}") for number in range(30)])
            for sent in many:
                assert isinstance(sent, Sent)
                await account.wait(sent)
            assert account.open == []

    node.await_answer()
    asyncio.run(main())
    assert set(received(node.rpc, "task").values()) == {1}
    assert len(received(node.rpc, "task")) == 50


def test_when_time_is_up_the_same_can_be_waited_for_later(node: LoneNode) -> None:
    node.await_answer()
    with NodeClient(node.rpc) as client:
        account = Account(client, ALICE)
        account.settle(wish("late"))
        node.kill()
        with pytest.raises(TimedOut, match="no answer in time"):
            account.send(
                wish("late too"), timeout=0.5
            )  # nothing was signed: its nonce could not be asked for
        assert account.open == []
        node.start()
        sent = account.send(wish("later"))
        node.kill()
        with pytest.raises(Unsettled) as told:
            account.wait(sent, timeout=0.5)
        node.start()
        assert account.wait(told.value.sent)["status"] == "final"
    assert received(node.rpc, "late") == Counter({"late": 1, "later": 1})


def test_an_account_signs_for_the_chain_that_its_client_is_for(node: LoneNode) -> None:
    node.await_answer()
    with NodeClient(node.rpc) as client:
        client.expected_chain = b"x" * 32
        with pytest.raises(ApiError) as told:
            Account(client, ALICE).send(wish("elsewhere"))
    assert told.value.code == "bad_signature"
