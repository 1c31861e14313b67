"""Pages of who is registered. A record may hold 16 KB, so what is found on the loop is taken apart beside it.
docs/spec/rpc.md"""

from typing import Any

import msgspec

from aitbc.core.codec.records import record_from_bytes
from aitbc.core.ledger.state import State

Json = dict[str, Any]
Found = list[tuple[str, bytes]]
"""(address, record bytes) in address order."""


def registered(state: State, role: str, *, address: str, after: str, limit: int) -> Found:
    """One by address, or those after an address; on the loop, which alone moves the head."""
    prefix, records = f"{role}:", state.data["registry"]
    if address:
        keys = [prefix + address] if prefix + address in records else []
    else:
        keys = state.registry_page(prefix, after=prefix + after, limit=limit)
    return [(key.removeprefix(prefix), records[key]) for key in keys]


def registry_page(role: str, found: Found, limit: int) -> Json:
    """`next` is the `after` of the page that follows; `found` has one more than a page when there is one."""
    items = [
        {"address": address, **msgspec.to_builtins(record_from_bytes("registry", f"{role}:{address}", data))}
        for address, data in found[:limit]
    ]
    return {"items": items, "next": items[-1]["address"] if len(found) > limit else None}
