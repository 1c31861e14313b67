"""Each wish ends in one transaction: wallets that share an account, on a node that loses everything it can."""

import random
from collections import Counter
from collections.abc import Callable, Generator
from typing import Any

import msgspec
import pytest

from aitbc.client.errors import ApiError, ClientError, Unreachable
from aitbc.client.http import Call
from aitbc.client.outbox import MAX_OPEN, Outbox, Pause, Sent, Walk, Wish, wish_of_transfer
from aitbc.client.signing import KeySigner
from support.model_node import ModelNode

KEY = KeySigner(b"\x07" * 32)
BOB = KeySigner(b"\x08" * 32).address


def wish(label: str, *, fee: int | None = None) -> Wish:
    return wish_of_transfer(to=BOB, amount=1, data=label, fee=fee)


def labels(node: ModelNode) -> list[str]:
    return [msgspec.json.decode(tx.payload)["data"] for tx in node.chain]


Step = Call[Any] | Pause


def run(node: ModelNode, walk: Walk[Any], at_pause: Callable[[], None] = lambda: None) -> Any:
    """To its end, with `at_pause` in every pause; questions that get no answer are asked again."""
    for _ in steps(node, walk, out := []):
        at_pause()
    return out[0]


def steps(node: ModelNode, walk: Walk[Any], out: list[Any]) -> Generator[None, None, None]:
    """One step of a walk at a time, so that several can be woven; what it returns is put into `out`."""
    answer: Any = None
    error: ClientError | None = None
    while True:
        try:
            step = walk.send(answer) if error is None else walk.throw(error)
        except StopIteration as end:
            out.append(end.value)
            return
        answer, error = None, None
        while not isinstance(step, Pause):
            try:
                answer = node.perform(step)
                break
            except Unreachable as lost:
                if step.method != "GET" and step.path != "/rpc/estimateFee":
                    error = lost
                    break
            except ApiError as refusal:
                error = refusal
                break
            yield
        yield


def settle(box: Outbox, wishes: list[Wish], *, many: bool) -> Walk[list[Sent]]:
    """What `Account` does with each."""
    if many:
        found = yield from box.submit_many(wishes)
        assert all(isinstance(sent, Sent) for sent in found)
        sents: list[Sent] = found  # type: ignore[assignment]
    else:
        sents = []
        for one in wishes:
            sent = yield from box.begin(one)
            yield from box.offer(sent)
            sents.append(sent)
    for sent in sents:
        while (yield from box.look(sent, 1)) != "final":
            yield from box.recover(sent)
        box.close(sent)
    return sents


@pytest.mark.parametrize("seed", range(300))
def test_nothing_is_lost_and_nothing_happens_twice(seed: int) -> None:
    """Two wallets of one account, requests and answers that are lost, a node that dies again and again, fees that push
    each other out of the pool."""
    chance = random.Random(seed)
    node = ModelNode(chance, knows_many=seed % 3 != 0)
    node.trouble = chance.choice([0.0, 0.05, 0.3])
    wishes = [
        [wish(f"{name}{i}", fee=chance.choice([None, 10, 11, 12, 20])) for i in range(12)] for name in "ab"
    ]
    boxes = [Outbox(KEY) for _ in wishes]
    woven: list[tuple[Generator[None, None, None], list[Any]]] = []
    for number, (box, part) in enumerate(zip(boxes, wishes, strict=True)):
        out: list[Any] = []
        woven.append((steps(node, settle(box, part, many=(seed + number) % 2 == 0), out), out))
    running = list(woven)
    for turn in range(200_000):
        if not running:
            break
        if turn == 20_000:
            node.trouble = 0.0  # the storm is over some day
        one = chance.choice(running)
        if next(one[0], "over") == "over":
            running.remove(one)
        if chance.random() < 0.1:
            node.block()
    assert running == [], "all came to an end"
    expected = Counter(f"{name}{i}" for name in "ab" for i in range(12))
    assert Counter(labels(node)) == expected
    assert all(box.open == {} for box in boxes)
    named = {sent.tx_id for _, out in woven for sent in out[0]}
    assert len(named) == 24


def test_a_refusal_for_good_is_raised_and_its_nonce_is_free(chance: random.Random) -> None:
    node, box = ModelNode(chance), Outbox(KEY)
    sent = run(node, box.begin(wish("poor")))
    with pytest.raises(ApiError, match="no money"):
        run(node, box.offer(sent))
    assert box.open == {}
    (good,) = run(node, settle(box, [wish("rich")], many=False), node.block)
    assert good.nonce == 1


def test_of_many_one_that_is_refused_fails_alone(chance: random.Random) -> None:
    node, box = ModelNode(chance), Outbox(KEY)
    found = run(node, box.submit_many([wish("one"), wish("poor"), wish("two")]))
    assert [isinstance(item, Sent) for item in found] == [True, False, True]
    (filled,) = run(node, settle(box, [wish("three")], many=False), node.block)
    assert filled.nonce == 2, "the next wish fills the gap"
    assert labels(node) == ["one", "three", "two"]


def test_many_are_sent_with_few_calls(chance: random.Random) -> None:
    node, box = ModelNode(chance), Outbox(KEY)
    run(node, box.submit_many([wish(f"w{i}") for i in range(8)]))
    assert node.calls <= 5
    assert len(node.pool) == 8


def test_what_may_be_in_a_pool_somewhere_is_not_signed_anew(chance: random.Random) -> None:
    """The other wallet has our nonce in this node's pool; our own transaction may wait at another node."""
    node, ours, theirs = ModelNode(chance), Outbox(KEY), Outbox(KEY)
    sent = run(node, ours.begin(wish("ours")))
    run(node, ours.offer(sent))
    node.kill()
    other = run(node, theirs.begin(wish("theirs")))
    run(node, theirs.offer(other))
    before = sent.tx_id
    run(node, ours.recover(sent))
    assert (sent.tx_id, sent.earlier) == (before, [])
    node.block()
    run(node, ours.recover(sent))
    assert sent.earlier == [before]
    node.block()
    assert labels(node) == ["theirs", "ours"]


def test_a_node_that_is_behind_makes_nobody_sign_twice(chance: random.Random) -> None:
    """Its account is newer than its history, as behind a load balancer: nothing is known, nothing is signed."""
    node, box = ModelNode(chance), Outbox(KEY)
    sent = run(node, box.begin(wish("once")))
    run(node, box.offer(sent))
    before, chain = sent.tx_id, node.chain
    node.block()
    real = node.perform

    def behind(call: Call[Any]) -> Any:
        if call.path.endswith("/transactions"):
            return call.read({"items": [], "next": None})
        return real(call)

    node.perform = behind  # type: ignore[method-assign]
    run(node, box.recover(sent))
    assert (sent.tx_id, sent.outcome) == (before, None)
    node.perform = real  # type: ignore[method-assign]
    run(node, box.recover(sent))
    assert sent.outcome is not None and len(chain) == 1


def test_fees_are_asked_once_for_each_size_and_bounded(chance: random.Random) -> None:
    node = ModelNode(chance)
    with pytest.raises(ClientError, match="nothing was signed"):
        run(node, Outbox(KEY, max_fee=9).begin(wish("dear")))


def test_an_outbox_is_bounded(chance: random.Random) -> None:
    node, box = ModelNode(chance), Outbox(KEY)
    sent = run(node, box.begin(wish("first")))
    box.open = dict.fromkeys(range(MAX_OPEN), sent)
    with pytest.raises(ClientError, match="on their way"):
        run(node, box.begin(wish("one more")))


@pytest.fixture
def chance() -> random.Random:
    return random.Random(1)
