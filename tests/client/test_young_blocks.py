"""Where work agrees a transaction that failed may succeed on the branch that wins: who waits for finality waits on."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from aitbc.client.errors import TransactionFailed
from aitbc.client.jobs import wait_final
from aitbc.core.jobs.reasons import Refused
from aitbc.hub.chain import final_transaction

Json = dict[str, Any]
YOUNG: Json = {
    "status": "failed",
    "final": False,
    "confirmations": 1,
    "receipt": {"reason": "insufficient_balance", "message": "0 ait"},
}


def test_a_wait_for_finality_goes_on() -> None:
    answers = [YOUNG, {**YOUNG, "status": "included"}, {"status": "final", "final": True}]
    node: Any = SimpleNamespace(transaction=lambda *_args, **_options: answers.pop(0))
    assert wait_final(node, "ab" * 32, 30)["status"] == "final"


def test_a_wait_for_a_block_is_over() -> None:
    node: Any = SimpleNamespace(transaction=lambda *_args, **_options: YOUNG)
    with pytest.raises(TransactionFailed):
        wait_final(node, "ab" * 32, 30, included=True)


def test_a_hub_does_not_judge_by_a_young_block() -> None:
    async def transaction(*_args: Any, **_options: Any) -> Json:
        return YOUNG

    chain: Any = SimpleNamespace(transaction=transaction)
    with pytest.raises(Refused, match="nothing starts before it is final"):
        asyncio.run(final_transaction(chain, "ab" * 32, wait_s=0))
