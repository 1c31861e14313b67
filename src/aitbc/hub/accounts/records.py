"""What the hub keeps of accounts, keys, sessions and holds. docs/spec/accounts.md"""

import msgspec


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A bearer key. Only its hash is kept; `budget` counts base units over the key's whole life."""

    id: str
    account: str
    label: str
    budget: int | None
    """The most that may be spent with it; None: as much as the account has."""
    spent: int
    held: int
    rpm: int | None
    """Requests a minute; None: no limit of its own."""
    tpm: int | None
    """Tokens a minute, prompt and answer; None: no limit of its own."""
    models: list[str]
    """Models that it may ask for; empty: all."""
    expires_ms: int
    """0: never."""
    created_ms: int
    revoked_ms: int
    """0: it is good."""


class Payer(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks: an account, by one of its keys or by its own signature."""

    account: str
    key: ApiKey | None = None
    """None: the request was signed by the account's address."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A final lock that pays receipts of many jobs, each from a place of its own."""

    lock: str
    owner: str
    """The account that made it for its own jobs; empty for the hub's, which pays for prepaid balances."""
    client: str
    """Sender of the lock: what receipts call the client."""
    amount: int
    committed: int
    """Prices of the places that were given out, as far as they are known; the rest is free."""
    places: int
    next_place: int
    deliver_by_ms: int
    claim_until_ms: int
    randomness: bytes
    """Hash of the block that holds the lock."""
    state: str
    """`opening` until the lock is final, `open`, `ended` after its claim time."""

    def has_room(self, *, price: int, deliver_by_ms: int) -> bool:
        return (
            self.state == "open"
            and self.next_place < self.places
            and self.committed + price <= self.amount
            and deliver_by_ms <= self.deliver_by_ms
        )


class Seat(msgspec.Struct, frozen=True, kw_only=True):
    """The place in a session that one job got."""

    lock: str
    place: int
    client: str
    claim_until_ms: int
    randomness: bytes


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """Money set aside for one job, until it is known what it cost."""

    job_id: str
    account: str
    key_id: str
    """Empty for a signed request."""
    purse: str
    """The ledger account that it came from and that the rest goes back to, without its prefix."""
    lock: str
    amount: int
    tokens: int
    """What was taken from the key's tokens a minute."""
    route: str
    state: str
    """`held`, `settled` or `released`."""
    created_ms: int


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """One finished job as its payer sees it."""

    at_ms: int
    job_id: str
    account: str
    key_id: str
    route: str
    kind: str
    model: str
    state: str
    """`complete`, `partial`, or how it ended without a result."""
    units: int
    price: int
    receipt_id: str
    duration_ms: int


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Balances of one account, in base units."""

    account: str
    free: int
    held: int
    sessions: list[Session]
