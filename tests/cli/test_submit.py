"""Two commands that sign the same at the same moment are two payments; a file that is sent twice is one."""

import json
import random
from typing import Any

import httpx2
import pytest

from aitbc.cli.settings import Settings
from aitbc.cli.submit import MAX_SIGNINGS, submit
from aitbc.client.errors import ApiError, ClientError
from aitbc.client.http import Call
from aitbc.client.node import NodeClient
from aitbc.client.signing import KeySigner
from aitbc.client.transactions import Prepared, prepare, transfer_payload
from support.model_node import GENESIS_HASH, ModelNode

KEY = KeySigner(b"\x07" * 32)
BOB = KeySigner(b"\x08" * 32).address


def served(model: ModelNode) -> NodeClient:
    def answer(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content) if request.content else None
        call: Call[Any] = Call(
            method=request.method, path=request.url.path, body=body, read=lambda plain: plain
        )
        try:
            return httpx2.Response(200, json=model.perform(call))
        except ApiError as error:
            return httpx2.Response(error.status, json={"code": error.code, "detail": error.message})

    client = NodeClient("http://model", transport=httpx2.MockTransport(answer))
    client.expected_chain = GENESIS_HASH
    return client


def signed(node: NodeClient) -> Prepared:
    return prepare(node, "TRANSFER", transfer_payload(to=BOB, amount=1), signer=KEY)


@pytest.fixture
def model() -> ModelNode:
    return ModelNode(random.Random(1))


def test_two_commands_at_once_pay_twice(model: ModelNode, settings: Settings) -> None:
    with served(model) as node:
        first, second = signed(node), signed(node)
        assert first == second, "neither knew of the other"
        for prepared in (first, second):
            submit(settings, node, prepared, "1 uait", wait="none", timeout=1, anew=lambda: signed(node))
    assert sorted(model.pool) == [1, 2]


def test_a_file_that_is_broadcast_twice_pays_once(model: ModelNode, settings: Settings) -> None:
    with served(model) as node:
        prepared = signed(node)
        for _ in range(2):
            submit(settings, node, prepared, "1 uait", wait="none", timeout=1)
    assert sorted(model.pool) == [1]


def test_a_node_that_knows_everything_is_not_asked_for_ever(model: ModelNode, settings: Settings) -> None:
    """One behind a load balancer whose account is never up to date."""
    with served(model) as node:
        prepared = signed(node)
        node.submit(prepared.tx)
        before = model.calls
        with pytest.raises(ClientError, match="this was not sent"):
            submit(settings, node, prepared, "1 uait", wait="none", timeout=1, anew=lambda: prepared)
        assert model.calls - before == MAX_SIGNINGS


@pytest.fixture
def settings() -> Settings:
    return Settings()
