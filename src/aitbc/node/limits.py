"""Who may ask a node how often: so many requests and transactions a second for one public address, more for one who has
a key. Requests of this machine and its network are not counted. docs/spec/rpc.md "Limits"
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from starlette.requests import HTTPConnection
from starlette.types import Scope

from aitbc.adapters.http.limits import RateLimit, owner_at, rate_limited
from aitbc.adapters.http.problems import Problem
from aitbc.core.types.reasons import Reason, Rejected

BAD_SIGNATURE_COST = 20
"""Transactions that one with a wrong signature counts as: it was checked for nothing, and cost its sender nothing."""
WRONG_KEYS = (0.1, 20)
"""Wrong X-Api-Keys of one public address: a second, and at once. A mistake in a program is soon seen; a key of eight
characters is not guessed at six a minute."""
FREE_PATHS = ("/health", "/health/live", "/health/ready")


class Limits:
    """Of one node."""

    def __init__(
        self,
        *,
        requests: tuple[float, int],
        transactions: tuple[float, int],
        keys: Mapping[str, int],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """(a second, at once) for each public address; `keys`: X-Api-Key → how many times as much who sends it may."""
        self._keys = keys
        self._monotonic = monotonic
        self._requests = self._with_keys(*requests)
        self._transactions = self._with_keys(*transactions)
        self._wrong_keys = RateLimit(*WRONG_KEYS, monotonic=monotonic)
        self.refused = 0
        """Requests, since the node began."""

    def _with_keys(self, per_second: float, burst: int) -> dict[int, RateLimit]:
        return {
            times: RateLimit(per_second * times, burst * times, monotonic=self._monotonic)
            for times in {1, *self._keys.values()}
        }

    def guard(self, scope: Scope) -> None:
        """Count a request; raises Problem when there were too many."""
        if scope["path"] not in FREE_PATHS:
            owner, times = self._owner(scope)
            self._take(self._requests[times], owner, 1, "requests")

    def transactions(self, connection: HTTPConnection, count: int) -> None:
        """Count transactions before they are looked at."""
        owner, times = self._owner(connection.scope)
        self._take(self._transactions[times], owner, count, "transactions")

    def bad_signatures(self, connection: HTTPConnection, count: int) -> None:
        """They cost their sender later ones."""
        owner, times = self._owner(connection.scope)
        if owner and count:
            self._transactions[times].wait_s(owner, (BAD_SIGNATURE_COST - 1) * count)

    @contextmanager
    def one_transaction(self, connection: HTTPConnection) -> Iterator[None]:
        """Count one before it is looked at, and what a wrong signature costs after it was."""
        self.transactions(connection, 1)
        try:
            yield
        except Rejected as rejection:
            self.bad_signatures(connection, rejection.reason is Reason.BAD_SIGNATURE)
            raise

    def _take(self, limit: RateLimit, owner: str, cost: int, what: str) -> None:
        if not owner:
            return
        wait_s = limit.wait_s(owner, cost)
        if wait_s > 0:
            self.refused += 1
            raise rate_limited(wait_s, what)

    def _owner(self, scope: Scope) -> tuple[str, int]:
        """Whom a request counts for, and how many times the usual it may; empty: not counted."""
        client: Any = scope.get("client")
        owner = owner_at(client[0] if client else "")
        key = _api_key(scope) if self._keys else ""
        if not key:
            return owner, 1
        self._refuse_guesses(owner)
        if key not in self._keys:
            if owner:
                self._wrong_keys.wait_s(owner)
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                "bad_token",
                "no such X-Api-Key",
                "leave it out, or ask the operator for one",
            )
        return f"key {key}", self._keys[key]

    def _refuse_guesses(self, owner: str) -> None:
        """Whoever has guessed too often learns nothing of any key for a while, not of a right one either."""
        wait_s = self._wrong_keys.left_s(owner) if owner else 0.0
        if wait_s > 0:
            self.refused += 1
            raise rate_limited(wait_s, "wrong keys")


def _api_key(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            return str(value.decode("latin-1"))
    return ""
