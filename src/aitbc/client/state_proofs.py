"""Check what a node proves of the state and of ancestors, with SHA-256 and nothing else of ours.

The rules are written here a second time, from docs/spec/state.md and blocks.md, so that a mistake in the tree is not
made again by whoever checks it. A proof is as good as the root that the caller brings: `stateRoot` or `historyRoot`
of a header that they trust, because they checked its certificate (`aitbc.client.verify`) or because it came from a
node of their own. Of a certificate inside an answer only its `blockHash` is compared; its signatures are not checked
here. Keys that no chapter names are not looked at.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Any, NamedTuple

STORES = ("accounts", "receipts", "locks", "validators", "registry", "params")


class BadProof(Exception):
    """The answer does not prove what it says; the message names what does not fit."""


class AccountRecord(NamedTuple):
    balance: int
    nonce: int
    auth_key: bytes
    """Empty until the account has signed something."""


def check_state_proof(answer: object, state_root_hex: str, *, store: str, key: str) -> bytes | None:
    """Bytes of the record that was asked for, or None: it is proved that the state has none under this key.

    `answer` is that of `GET /rpc/proof/{store}/{key}`. Raises BadProof, and nothing else.
    """
    header = _part(answer, "header")
    _check_header(header, _part(answer, "certificate"))
    _same("stateRoot", _part(header, "stateRoot"), state_root_hex)
    _same("store", _part(answer, "store"), store)
    _same("key", _part(answer, "key"), key)
    roots = {name: _hash(_part(answer, "storeRoots"), name) for name in STORES}
    if _tagged("aitbc/state/1", *roots.values()) != _hash(header, "stateRoot"):
        raise BadProof("storeRoots do not make the header's stateRoot")
    leaf = _part(answer, "leaf")
    if _root_of_store(_text(answer, "store"), leaf, _part(answer, "groups")) != roots.get(store):
        raise BadProof("leaf and groups do not make the root of the store")
    asked, found, following = _text(answer, "key"), _text(leaf, "key"), _text(leaf, "next")
    if asked and asked == found:
        return _bytes(leaf, "value")
    if found < asked and (asked < following or not following):
        return None
    raise BadProof(f"the leaf is neither that of {key[:80]!r} nor one that jumps over it")


def check_ancestor(answer: object, history_root_hex: str) -> None:
    """Refuse an answer whose `header` is not that of an ancestor of its `head`; which height it has is for the
    caller to see.

    `answer` is that of `GET /rpc/proof/history/{height}`. Raises BadProof, and nothing else.
    """
    header, head = _part(answer, "header"), _part(answer, "head")
    _check_header(header, None)
    _check_header(head, _part(answer, "certificate"))
    _same("historyRoot", _part(head, "historyRoot"), history_root_hex)
    index, count = _number(header, "height"), _number(answer, "count")
    if count != _number(head, "height") or index >= count:
        raise BadProof(f"a head over {count} blocks cannot prove block {index}")
    nodes = _hashes(_part(answer, "nodes"), "nodes")
    if _root_of_history(_hash(header, "hash"), index, count, nodes) != _hash(head, "historyRoot"):
        raise BadProof("header and nodes do not make the head's historyRoot")


def header_hash_of(header: object) -> str:
    """The block hash of a header in JSON, from every field but `hash` itself."""
    return _tagged("aitbc/header/1", *[read(header, name) for name, read in _HEADER]).hex()


def account_of(record: bytes) -> AccountRecord:
    """What the record of an account says."""
    if len(record) < 16:
        raise BadProof(f"an account record has at least 16 bytes, not {len(record)}")
    return AccountRecord(int.from_bytes(record[:8], "big"), int.from_bytes(record[8:16], "big"), record[16:])


def _check_header(header: object, certificate: object) -> None:
    block_hash = header_hash_of(header)
    _same("hash", _part(header, "hash"), block_hash)
    _same("timestamp", _part(header, "timestamp"), _number(header, "timestampMs") // 1000)
    if certificate is not None:
        _same("blockHash", _part(certificate, "blockHash"), block_hash)


def _root_of_store(store: bytes, leaf: object, groups: object) -> bytes:
    """docs/spec/state.md, Proofs."""
    position, width = _number(leaf, "index"), _number(leaf, "count")
    if position >= width:
        raise BadProof(f"leaf {position} is beyond the {width} of its store")
    node = sha256(b"\x00" + _fields(_text(leaf, "key"), _bytes(leaf, "value"), _text(leaf, "next"))).digest()
    for group in _list(groups, "groups"):
        others = _hashes(group, "group")
        if width <= 1 or len(others) != 3:
            raise BadProof("groups are not three nodes for each level")
        others.insert(position % 4, node)
        node = sha256(b"\x01" + b"".join(others)).digest()
        position, width = position // 4, (width + 3) // 4
    if width != 1:
        raise BadProof("groups do not reach the top")
    return _tagged("aitbc/store/1", store, _u64(leaf, "count"), node)


def _root_of_history(leaf: bytes, index: int, count: int, nodes: list[bytes]) -> bytes:
    """docs/spec/blocks.md, History: climb to the peak of the leaf's own mountain, then put the peaks side by side."""
    heights = [height for height in reversed(range(count.bit_length())) if count >> height & 1]
    mine = next(height for height in heights if index >> height == (count >> height) - 1)
    if len(nodes) != mine + len(heights) - 1:
        raise BadProof(f"block {index} of {count} is proved by {mine + len(heights) - 1} nodes")
    node = sha256(b"\x00" + leaf).digest()
    for height, other in enumerate(nodes[:mine]):
        node = sha256(b"\x01" + (other + node if index >> height & 1 else node + other)).digest()
    others = iter(nodes[mine:])
    peaks = [node if height == mine else next(others) for height in heights]
    return _tagged("aitbc/history/1", count.to_bytes(8, "big"), b"".join(peaks))


def _fields(*parts: bytes) -> bytes:
    return b"".join([len(part).to_bytes(4, "big") + part for part in parts])


def _tagged(tag: str, *parts: bytes) -> bytes:
    return sha256(_fields(tag.encode(), *parts)).digest()


# Reading an answer, whatever it is


def _part(record: object, name: str) -> Any:
    if not isinstance(record, dict) or name not in record:
        raise BadProof(f"{name} is missing")
    return record[name]


def _number(record: object, name: str) -> int:
    value = _part(record, name)
    if type(value) is not int or not 0 <= value < 2**63:
        raise BadProof(f"{name} is no number from 0 to 2^63 - 1")
    return value


def _u64(record: object, name: str) -> bytes:
    return _number(record, name).to_bytes(8, "big")


def _text(record: object, name: str) -> bytes:
    value = _part(record, name)
    try:
        return str.encode(value)
    except (TypeError, UnicodeEncodeError):
        raise BadProof(f"{name} is no text") from None


def _bytes(record: object, name: str) -> bytes:
    return _unhex(_part(record, name), name)


def _hash(record: object, name: str) -> bytes:
    return _hashes([_part(record, name)], name)[0]


def _hashes(values: object, name: str) -> list[bytes]:
    hashes = [_unhex(value, name) for value in _list(values, name)]
    if any(len(value) != 32 for value in hashes):
        raise BadProof(f"{name} is not of 32 bytes")
    return hashes


def _unhex(value: object, name: str) -> bytes:
    """Bytes have one spelling: two lower-case digits each."""
    try:
        data = bytes.fromhex(value) if isinstance(value, str) else None
    except ValueError:
        data = None
    if data is None or data.hex() != value:
        raise BadProof(f"{name} is not hexadecimal")
    return data


def _list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadProof(f"{name} is no list")
    return value


def _same(name: str, given: object, wanted: object) -> None:
    if type(given) is not type(wanted) or given != wanted:
        raise BadProof(f"{name} is not {str(wanted)[:80]!r}")


_HEADER: tuple[tuple[str, Callable[[object, str], bytes]], ...] = (
    ("version", _u64),
    ("chainId", _text),
    ("height", _u64),
    ("parent", _hash),
    ("timestampMs", _u64),
    ("proposer", _text),
    ("txsRoot", _hash),
    ("outcomesRoot", _hash),
    ("stateRoot", _hash),
    ("nextValidatorsHash", _hash),
    ("historyRoot", _hash),
    ("extra", _bytes),
    ("seal", _bytes),
)
"""In the order in which the block hash covers them."""
