"""Double entry: every event moves amounts between ledger accounts and adds up to nothing. docs/spec/accounts.md

A ledger account is `<what>:<whose>`. `free` and `held` belong to a payer (an account, or a session's lock) and are
never negative; `chain` is what came in from the chain, `granted` what the operator gave, `income` what jobs cost,
`escrow` what lies in locks that clients made, `checking` what the hub pays itself to have work done again. Nothing is
ever changed or deleted: what is wrong is put right by another event.
"""

from typing import NamedTuple

CHAIN, GRANTED, INCOME, ESCROW, CHECKING = "chain:", "granted:", "income:", "escrow:", "checking:"

CHECKS = "hub:checks"
"""The account in whose name the hub has work done again. No key and no address can have this name."""


class Posting(NamedTuple):
    account: str
    amount: int


class Event(NamedTuple):
    """Something that happened once: its name is unique, so that nothing is counted twice."""

    name: str
    postings: tuple[Posting, ...]


def free(purse: str) -> str:
    return f"free:{purse}"


def held(purse: str) -> str:
    return f"held:{purse}"


def may_be_negative(account: str) -> bool:
    return not account.startswith(("free:", "held:"))


def deposited(*, tx_id: str, account: str, amount: int) -> Event:
    """A TRANSFER to the hub is final."""
    return _event(f"deposit:{tx_id}", (CHAIN, -amount), (free(account), amount))


def granted(*, name: str, account: str, amount: int) -> Event:
    """The operator gives, or with a negative amount takes back."""
    return _event(f"grant:{name}", (GRANTED, -amount), (free(account), amount))


def session_opened(*, lock: str, amount: int) -> Event:
    """A client's own session lock is final."""
    return _event(f"session:{lock}", (ESCROW, -amount), (free(lock), amount))


def session_ended(*, lock: str, rest: int) -> Event:
    """Its claim time is over; what was not earned is the chain's to give back."""
    return _event(f"ended:{lock}", (free(lock), -rest), (ESCROW, rest))


def checks_paid(*, job_id: str, amount: int) -> Event:
    """The hub's own account gets what it lacks for a check: a cost that the same job earns again as income."""
    return _event(f"check:{job_id}", (CHECKING, -amount), (free(CHECKS), amount))


def reserved(*, job_id: str, purse: str, amount: int) -> Event:
    return _event(f"hold:{job_id}", (free(purse), -amount), (held(purse), amount))


def settled(*, job_id: str, purse: str, reserved: int, price: int, own_lock: bool) -> Event:
    """The job cost `price`, 0 when it came to nothing; from a client's own lock the chain pays, else the hub has earned
    it."""
    assert 0 <= price <= reserved, "nobody pays more than was set aside"
    to = ESCROW if own_lock else INCOME
    return _event(f"end:{job_id}", (held(purse), -reserved), (free(purse), reserved - price), (to, price))


def _event(name: str, *postings: tuple[str, int]) -> Event:
    assert sum(amount for _, amount in postings) == 0, "what leaves one account arrives in another"
    return Event(name, tuple([Posting(*posting) for posting in postings]))
