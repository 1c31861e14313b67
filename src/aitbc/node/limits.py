"""Who may ask a node how often: so many requests and transactions a second for one public address, more for one who has
a key. Requests of this machine and its network are not counted. docs/spec/rpc.md "Limits"
"""

import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from starlette.requests import HTTPConnection
from starlette.types import Scope

from aitbc.adapters.http.limits import RateLimit, owner_at, rate_limited
from aitbc.adapters.http.problems import Problem

BAD_SIGNATURE_COST = 20
"""Transactions that one with a wrong signature counts as: it was checked for nothing, and cost its sender nothing."""
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

    def _take(self, limit: RateLimit, owner: str, cost: int, what: str) -> None:
        if not owner:
            return
        wait_s = limit.wait_s(owner, cost)
        if wait_s > 0:
            self.refused += 1
            raise rate_limited(wait_s, what)

    def _owner(self, scope: Scope) -> tuple[str, int]:
        """Whom a request counts for, and how many times the usual it may; empty: not counted."""
        if self._keys:
            key = _api_key(scope)
            if key:
                if key not in self._keys:
                    raise Problem(
                        HTTPStatus.UNAUTHORIZED,
                        "bad_token",
                        "no such X-Api-Key",
                        "leave it out, or ask the operator for one",
                    )
                return f"key {key}", self._keys[key]
        client: Any = scope.get("client")
        return owner_at(client[0] if client else ""), 1


def _api_key(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            return str(value.decode("latin-1"))
    return ""
