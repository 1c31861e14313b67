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


SAME = wish_of_transfer(to=BOB, amount=1)
"""What two wallets wish at once: under one nonce the bytes are the same, and so is the id."""


@pytest.mark.parametrize("seed", range(60))
def test_the_same_wish_of_two_wallets_happens_twice(seed: int) -> None:
    chance = random.Random(seed)
    node = ModelNode(chance, knows_many=seed % 3 != 0)
    woven: list[tuple[Generator[None, None, None], list[Any]]] = []
    boxes = [Outbox(KEY), Outbox(KEY)]
    for number, box in enumerate(boxes):
        out: list[Any] = []
        woven.append((steps(node, settle(box, [SAME] * 6, many=(seed + number) % 2 == 0), out), out))
    running = list(woven)
    for _ in range(20_000):
        if not running:
            break
        one = chance.choice(running)
        if next(one[0], "over") == "over":
            running.remove(one)
        if chance.random() < 0.1:
            node.block()
    assert running == [], "all came to an end"
    assert len(node.chain) == 12
    assert len({sent.tx_id for _, out in woven for sent in out[0]}) == 12, "each wallet names its own"
    assert all(box.open == {} for box in boxes)


@pytest.mark.parametrize("many", [False, True])
def test_what_one_wallet_sent_and_got_no_answer_for_is_its_own(chance: random.Random, many: bool) -> None:
    """The node says that it knows it, when it is sent again."""
    node, box, real = ModelNode(chance), Outbox(KEY), ModelNode.perform
    lost: list[Call[Any]] = []

    def loses_the_first_answer(call: Call[Any]) -> Any:
        answer = real(node, call)
        if call.method == "POST" and call.path.startswith("/rpc/sendTx") and not lost:
            lost.append(call)
            raise Unreachable("model", "", "the answer is lost")
        return answer

    node.perform = loses_the_first_answer  # type: ignore[method-assign]
    (sent,) = run(node, settle(box, [SAME], many=many), node.block)
    assert (len(lost), len(node.chain), sent.earlier) == (1, 1, [])


def test_who_is_interrupted_before_signing_anew_takes_nothing_of_the_others(chance: random.Random) -> None:
    """Its id is still that of the other wallet's transaction, which becomes final."""
    node, ours, theirs = ModelNode(chance), Outbox(KEY), Outbox(KEY)
    sent, other = run(node, ours.begin(SAME)), run(node, theirs.begin(SAME))
    run(node, theirs.offer(other))
    walk = ours.offer(sent)
    step = next(walk)
    assert isinstance(step, Call)
    assert isinstance(walk.send(node.perform(step)), Pause), "it is about to sign anew"
    walk.close()
    node.block()
    while run(node, ours.look(sent, 1)) != "final":
        run(node, ours.recover(sent))
        node.block()
    assert sent.tx_id != other.tx_id
    assert [tx.nonce for tx in node.chain] == [1, 2]


def test_an_interrupted_wish_is_not_left_behind(chance: random.Random) -> None:
    """Time was up between finding that its nonce is another's and asking for a new one."""
    node, ours, theirs = ModelNode(chance), Outbox(KEY), Outbox(KEY)
    sent = run(node, ours.begin(wish("ours")))
    run(node, ours.offer(sent))
    node.kill()
    run(node, theirs.offer(run(node, theirs.begin(wish("theirs")))))
    node.block()
    walk, answer = ours.recover(sent), None
    calls: list[str] = []
    while calls[-2:] != [f"/rpc/account/{KEY.address}/transactions", f"/rpc/account/{KEY.address}"]:
        step = walk.send(answer)
        assert isinstance(step, Call)
        calls.append(step.path)
        answer = node.perform(step)
    walk.close()
    assert ours.open == {1: sent}
    while run(node, ours.look(sent, 1)) != "final":
        run(node, ours.recover(sent))
        node.block()
    assert labels(node) == ["theirs", "ours"]


def test_a_refusal_of_what_another_node_may_hold_is_not_the_end(chance: random.Random) -> None:
    """This node is behind: it has not seen the deposit. The node that took the payment has."""
    node, box, real, refuses = ModelNode(chance), Outbox(KEY), ModelNode.perform, True
    sent = run(node, box.begin(wish("once")))
    run(node, box.offer(sent))
    taken = dict(node.pool)
    node.kill()

    def behind(call: Call[Any]) -> Any:
        if call.path == "/rpc/sendTx" and refuses:
            raise ApiError("insufficient_balance", "0 ait", status=400)
        return real(node, call)

    node.perform = behind  # type: ignore[method-assign]
    run(node, box.recover(sent))
    assert box.open == {1: sent}, "it is on its way as before"
    refuses = False
    node.pool = taken
    node.block()
    run(node, box.recover(sent))
    assert sent.outcome is not None and labels(node) == ["once"]


@pytest.mark.parametrize("ours_is_on_it", [True, False])
def test_a_block_that_may_still_be_left_settles_nothing(chance: random.Random, ours_is_on_it: bool) -> None:
    """Where work agrees: on the branch that is seen first our nonce is ours or another's, and on the one that wins it
    is the other way round."""
    node, ours, theirs = ModelNode(chance), Outbox(KEY), Outbox(KEY)
    sent, other = run(node, ours.begin(wish("ours"))), run(node, theirs.begin(wish("theirs")))
    run(node, ours.offer(sent))
    node.kill()
    run(node, theirs.offer(other))
    node.chain, node.is_deep = [sent.tx if ours_is_on_it else other.tx], False
    before = sent.tx_id
    assert run(node, ours.look(sent, 1)) != "final"
    run(node, ours.recover(sent))
    assert (sent.outcome, sent.tx_id, sent.earlier) == (None, before, [])
    node.chain, node.is_deep = [other.tx if ours_is_on_it else sent.tx], True
    node.kill()
    while run(node, ours.look(sent, 1)) != "final":
        run(node, ours.recover(sent))
        node.block()
    assert labels(node) == (["theirs", "ours"] if ours_is_on_it else ["ours"])


def test_a_failure_that_may_still_be_left_is_not_told(chance: random.Random) -> None:
    node, box = ModelNode(chance), Outbox(KEY)
    sent = run(node, box.begin(wish("once")))
    run(node, box.offer(sent))
    walk = box.look(sent, 1)
    next(walk)
    with pytest.raises(StopIteration) as end:
        walk.send({"txHash": sent.tx_id, "status": "failed", "final": False, "confirmations": 1})
    assert (end.value.value, sent.outcome) == ("pending", None)


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
