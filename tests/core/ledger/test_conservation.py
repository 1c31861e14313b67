"""No coin is made or lost, whoever makes the mistake: at the bound of the supply, in a wrong rule, on a wrong disk."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from aitbc.core.codec.records import record_bytes
from aitbc.core.ledger.context import BlockContext
from aitbc.core.ledger.state import Overlay, check_whole_supply
from aitbc.core.ledger.transactions import TYPES
from aitbc.core.types.amounts import AIT, MAX_TOTAL
from aitbc.core.types.reasons import BrokenInvariant, Reason
from aitbc.core.types.records import STORES, Account, Param, Record
from aitbc.core.types.transactions import VerifiedTransaction
from support.chain import Chain
from support.people import ALICE, BOB, EVE, FAUCET, HUB, PROVIDER, VALIDATOR, person

WHALE = person("whale")
FEE = 100
MINT = 2 * AIT + AIT // 10
"""Of one claim: to the provider and to the hub."""


def fill_supply(chain: Chain, *, room: int) -> None:
    """Leave room for so many more base units."""
    chain.endow(WHALE, MAX_TOTAL - chain.supply() - room)


def whole_state(chain: Chain) -> dict[str, dict[str, Record]]:
    return {store: dict(chain.executor.state.items(store)) for store in STORES}


def test_a_mint_that_does_not_fit_undoes_the_payment_before_it() -> None:
    """The price has been paid and the lock closed when the mint is refused: all of it must go, fee and nonce stay."""
    chain = Chain()
    chain.register(PROVIDER)
    payload, witness = chain.claim_parts(PROVIDER, chain.lock())
    fill_supply(chain, room=MINT - 1)
    before = whole_state(chain)
    burned = Overlay(chain.executor.state).supply("burned")
    outcome = chain.do(BOB, "RECEIPT_CLAIM", payload, witness=witness)
    assert (outcome.ok, outcome.reason, outcome.events) == (False, Reason.SUPPLY_EXHAUSTED, [])
    before["accounts"][BOB.address] = Account(1_000 * AIT - FEE, 1, BOB.auth_key)
    half_of_two_fees = Account(FEE, 0, b"")
    before["accounts"][VALIDATOR.address] = half_of_two_fees
    before["params"]["supply.burned"] = Param(value=str(burned + FEE // 2))
    assert whole_state(chain) == before


def test_the_last_mint_that_fits_fills_the_supply() -> None:
    chain = Chain()
    chain.register(PROVIDER)
    payload, witness = chain.claim_parts(PROVIDER, chain.lock())
    fill_supply(chain, room=MINT)
    assert chain.do(BOB, "RECEIPT_CLAIM", payload, witness=witness).ok
    assert chain.supply() == MAX_TOTAL - FEE // 2


@pytest.mark.parametrize(("room", "reason"), [(AIT, ""), (AIT - 1, Reason.SUPPLY_EXHAUSTED)])
def test_the_faucet_runs_dry_at_the_bound_of_the_supply(room: int, reason: str) -> None:
    chain = Chain()
    fill_supply(chain, room=room)
    assert chain.do(FAUCET, "FAUCET", {"to": EVE.address, "amount": AIT}, fee=0).reason == reason
    assert MAX_TOTAL - chain.supply() == (room if reason else 0)


WRONG_RULES: list[tuple[str, Callable[[Overlay], None], str]] = [
    ("a coin out of nothing", lambda state: state.credit(EVE.address, 1), "coins are conserved"),
    ("a coin that vanishes", lambda state: state.debit(BOB.address, 1), "coins are conserved"),
    ("a mint that nobody gets", lambda state: state.add_supply("minted", 1), "coins are conserved"),
    ("a burn that nobody pays", lambda state: state.add_supply("burned", 1), "coins are conserved"),
    (
        "a mint past the bound",
        lambda state: (state.credit(EVE.address, AIT), state.add_supply("minted", AIT))[0],
        "the supply stays below 2\\^63",
    ),
]


@pytest.mark.parametrize(("story", "rule", "what"), WRONG_RULES, ids=[row[0] for row in WRONG_RULES])
def test_a_rule_that_counts_wrong_stops_the_block(
    monkeypatch: pytest.MonkeyPatch, story: str, rule: Callable[[Overlay], None], what: str
) -> None:
    def apply(_context: BlockContext, state: Overlay, _tx: VerifiedTransaction) -> list[Any]:
        rule(state)
        return []

    chain = Chain()
    fill_supply(chain, room=AIT // 2)
    monkeypatch.setitem(TYPES, "TRANSFER", TYPES["TRANSFER"]._replace(apply=apply))
    before, root = whole_state(chain), chain.executor.state.root()
    with pytest.raises(BrokenInvariant, match=what):
        chain.block(chain.verified(ALICE, "TRANSFER", {"to": HUB.address, "amount": 1}))
    assert (whole_state(chain), chain.executor.state.root()) == (before, root)
    assert chain.executor.head.block.header.height == 0


def test_a_state_that_holds_more_than_was_ever_made_is_noticed() -> None:
    chain = Chain()
    account = Overlay(chain.executor.state).account(EVE.address)
    richer = record_bytes(Account(account.balance + 1, 0, b""))
    chain.executor.state.data["accounts"][EVE.address] = richer
    with pytest.raises(BrokenInvariant, match="what is held equals the supply"):
        check_whole_supply(chain.executor.state)


UNDER_O = """
from aitbc.core.ledger.state import Overlay, State, check_supply, check_whole_supply
from aitbc.core.types.reasons import BrokenInvariant
state = State()
overlay = Overlay(state)
overlay.credit("somebody", 1)
state.stage(overlay.writes)
for check in (lambda: check_supply(overlay), lambda: (state.publish(), check_whole_supply(state))):
    try:
        check()
    except BrokenInvariant:
        print("stopped")
"""


def test_python_without_assertions_still_counts() -> None:
    done = subprocess.run(
        [sys.executable, "-O", "-c", UNDER_O], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["stopped", "stopped"]
