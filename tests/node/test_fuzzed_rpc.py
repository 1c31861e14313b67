"""Made-up requests after the OpenAPI document: whatever is asked, the node answers as the document says, never with an
error of its own."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from aitbc.core.codec.views import transaction_to_plain
from aitbc.node.config import NodeConfig
from aitbc.node.main import create_app
from support.chain import VERSION_2, Chain, genesis
from support.people import ALICE, BOB, FAUCET, SYNTHETIC, VALIDATOR
from support.served import served

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
QUIET = settings(
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A node with some blocks, that lets nobody wait."""
    import httpx2

    from aitbc.core.ledger.genesis import ConsensusSettings

    chain = Chain(
        genesis(consensus=ConsensusSettings(block_time_ms=0, idle_ms=600_000), activations=VERSION_2)
    )
    config = NodeConfig(
        genesis=chain.document,
        data=tmp_path_factory.mktemp("fuzzed"),
        proposer=VALIDATOR,
        never_voted=True,
        faucet=FAUCET,
        synthetic_attester=SYNTHETIC,
    )
    with served(create_app(config)) as where, httpx2.Client(base_url=where) as node:
        for nonce in range(1, 6):
            tx = chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": nonce}, nonce=nonce)
            assert (
                node.post("/rpc/sendTx?wait=final", json=transaction_to_plain(tx)).json()["status"] == "final"
            )
        yield where


def play(url: str, cases: int) -> int:
    """At least so many requests, spread over all operations; those without parameters have few different ones."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    asked = itertools.count()
    total = 0
    for turn in itertools.count():
        for operation in operations:

            @seed(turn)
            @settings(QUIET, max_examples=max(1, min(50, cases // len(operations))))
            @given(case=operation.as_strategy())
            def ask(case: Any) -> None:
                next(asked)
                if "timeout" in (case.query or {}):
                    case.query["timeout"] = 0
                case.validate_response(case.call(timeout=20), checks=CHECKS)

            ask()
        total = next(asked) - turn
        if total >= cases:
            return total
    raise AssertionError("endless")


def play_on(url: str, stories: int, steps: int) -> None:
    """Stories: what one answer names is asked for next."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    machine: Any = schema.as_state_machine()

    class Story(machine):  # type: ignore[misc]
        def validate_response(self, response: Any, case: Any, **options: Any) -> None:
            case.validate_response(response, checks=CHECKS)

        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"timeout": 20}

    Story.run(settings=settings(QUIET, max_examples=stories, stateful_step_count=steps))


def test_some_hundred_requests(url: str) -> None:
    assert play(url, 200) >= 200


def test_some_stories(url: str) -> None:
    play_on(url, stories=8, steps=8)


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_ten_thousand_requests(url: str) -> None:
    assert play(url, 10_000) >= 10_000
    play_on(url, stories=100, steps=20)
