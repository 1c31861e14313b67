"""The formats of docs/spec a second time, from the chapters alone: nothing here imports the package.

Slow and obvious on purpose: trees are defined by recursion and rebuilt for every question.
"""

import hmac
import itertools
from collections.abc import Mapping, Sequence
from hashlib import pbkdf2_hmac, sha256
from typing import Any

import curve25519

Json = Any

# numbers.md, encoding.md


def u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


def fields(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def preimage(tag: str, *parts: bytes) -> bytes:
    return fields(tag.encode(), *parts)


def tagged(tag: str, *parts: bytes) -> bytes:
    return sha256(preimage(tag, *parts)).digest()


def hash_text(data: bytes) -> str:
    return "sha256:" + sha256(data).hexdigest()


_SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def jcs_text(value: Json) -> str:
    """RFC 8785 on our domain: no floats."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            assert abs(value) < 2**53, "signed JSON holds integers of 53 bits"
            return str(value)
        case str():
            return '"' + "".join(_SHORT.get(c) or (f"\\u{ord(c):04x}" if c < " " else c) for c in value) + '"'
        case list() | tuple():
            return "[" + ",".join(jcs_text(item) for item in value) + "]"
        case dict():
            names = sorted(value, key=lambda name: name.encode("utf-16-be"))
            return "{" + ",".join(f"{jcs_text(name)}:{jcs_text(value[name])}" for name in names) + "}"
    raise TypeError(type(value))


def jcs(value: Json) -> bytes:
    return jcs_text(value).encode()


def msgpack(value: Any) -> bytes:
    """The shortest form of what the wire holds: arrays, texts, bytes, integers, nil, booleans."""
    match value:
        case None:
            return b"\xc0"
        case bool():
            return b"\xc3" if value else b"\xc2"
        case int():
            return _msgpack_integer(value)
        case str():
            raw = value.encode()
            if len(raw) < 32:
                return bytes([0xA0 | len(raw)]) + raw
            return _sized(len(raw), (0xD9, 0xDA, 0xDB)) + raw
        case bytes():
            return _sized(len(value), (0xC4, 0xC5, 0xC6)) + value
        case list() | tuple():
            head = bytes([0x90 | len(value)]) if len(value) < 16 else _sized(len(value), (None, 0xDC, 0xDD))
            return head + b"".join(msgpack(item) for item in value)
    raise TypeError(type(value))


def _msgpack_integer(value: int) -> bytes:
    if -32 <= value < 128:
        return value.to_bytes(1, "big", signed=value < 0)
    if value < 0:
        head, size = next((0xD0 + i, 2**i) for i in range(4) if value >= -(2 ** (8 * 2**i - 1)))
        return bytes([head]) + value.to_bytes(size, "big", signed=True)
    head, size = next((0xCC + i, 2**i) for i in range(4) if value < 2 ** (8 * 2**i))
    return bytes([head]) + value.to_bytes(size, "big")


def _sized(size: int, heads: tuple[int | None, int, int]) -> bytes:
    for head, width in zip(heads, (1, 2, 4), strict=True):
        if head is not None and size < 2 ** (8 * width):
            return bytes([head]) + size.to_bytes(width, "big")
    raise OverflowError(size)


# keys.md

_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def _bech32_checksum(prefix: str, values: list[int], constant: int) -> list[int]:
    check = 1
    expanded = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    for value in [*expanded, *values, 0, 0, 0, 0, 0, 0]:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for i, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> i & 1 else 0
    check ^= constant
    return [check >> 5 * (5 - i) & 31 for i in range(6)]


def bech32(payload: bytes, *, prefix: str = "ait", constant: int = 1) -> str:
    """BIP-173 text of some bytes; constant 0x2bc830a3 makes bech32m, which we refuse."""
    bits = "".join(f"{byte:08b}" for byte in payload)
    bits += "0" * (-len(bits) % 5)
    values = [int(bits[i : i + 5], 2) for i in range(0, len(bits), 5)]
    values += _bech32_checksum(prefix, values, constant)
    return prefix + "1" + "".join(_BECH32[value] for value in values)


class Key:
    """An Ed25519 seed with everything that follows from it."""

    def __init__(self, seed: bytes) -> None:
        self.seed = seed
        self.public = curve25519.public_key(seed)
        self.auth = b"\x00" + self.public
        self.text = self.public.hex()
        self.address = bech32(sha256(self.public).digest()[:20])

    def sign(self, digest: bytes) -> bytes:
        return curve25519.sign(self.seed, digest)


DEVNET_MNEMONIC = "test test test test test test test test test test test junk"
DEVNET_NAMES = (
    "validator", "faucet", "hub", "provider", "alice", "bob", "carol", "treasury", "synthetic-attester",
)  # fmt: skip


def mnemonic_seed(mnemonic: str) -> bytes:
    return pbkdf2_hmac("sha512", mnemonic.encode(), b"mnemonic", 2048)


def slip10(seed: bytes, *path: int) -> bytes:
    node = hmac.digest(b"ed25519 seed", seed, "sha512")
    for index in path:
        data = b"\x00" + node[:32] + (2**31 + index).to_bytes(4, "big")
        node = hmac.digest(node[32:], data, "sha512")
    return node[:32]


def devnet_keys() -> dict[str, Key]:
    seed = mnemonic_seed(DEVNET_MNEMONIC)
    return {name: Key(slip10(seed, 44, 2048, i)) for i, name in enumerate(DEVNET_NAMES)}


# transactions.md, receipts.md


def transaction_preimage(tx: Mapping[str, Any], genesis_hash: bytes) -> bytes:
    return preimage(
        "aitbc/transaction/1",
        genesis_hash,
        tx["type"].encode(),
        tx["sender"].encode(),
        u64(tx["nonce"]),
        u64(tx["fee"]),
        jcs(tx["payload"]),
    )


def envelope_id(tx_id: bytes, pubkey: bytes, sig: bytes, witness: bytes) -> bytes:
    return tagged("aitbc/envelope/1", tx_id, pubkey, sig, witness)


def transaction_wire(tx: Mapping[str, Any], pubkey: bytes, sig: bytes, witness: bytes) -> list[Any]:
    return [tx["type"], tx["sender"], tx["nonce"], tx["fee"], jcs(tx["payload"]), pubkey, sig, witness]


def receipt_digest(core: Json, genesis_hash: bytes) -> bytes:
    return tagged("aitbc/receipt/1", genesis_hash, jcs(core))


def attestation_digest(attestation: Json, genesis_hash: bytes) -> bytes:
    return tagged("aitbc/attestation/1", genesis_hash, jcs(attestation))


def countersignature_digest(provider: str, hub: str, genesis_hash: bytes) -> bytes:
    return tagged("aitbc/countersign/1", genesis_hash, provider.encode(), hub.encode())


def seed003(details: Mapping[str, Any]) -> bytes:
    """Seed 003's receipt as minified JSON with sorted keys; thousandths written as shortest decimals."""
    texts = {
        name: jcs_text(details[name]) for name in ("job_id", "provider", "client", "model", "prompt_hash")
    }
    texts |= {name: jcs_text(details[name]) for name in ("nonce", "chain_id")}
    texts |= {
        "units": _thousandths(details["units"]),
        "unit_type": '"gpu_seconds"',
        "started_at": _thousandths(details["started_ms"]),
        "finished_at": _thousandths(details["finished_ms"]),
        "artifact_sha256": jcs_text(details["output_hash"].removeprefix("sha256:")),
        "hub_id": jcs_text(details["hub"]),
    }
    return ("{" + ",".join(f'"{name}":{texts[name]}' for name in sorted(texts)) + "}").encode()


def _thousandths(value: int) -> str:
    return f"{value // 1000}.{value % 1000:03d}".rstrip("0").rstrip(".")


_ROTATIONS = (
    (0, 36, 3, 41, 18),
    (1, 44, 10, 45, 2),
    (62, 6, 43, 15, 61),
    (28, 55, 25, 21, 56),
    (27, 20, 39, 8, 14),
)


def keccak256(data: bytes) -> bytes:
    """Keccak with the padding of before FIPS 202, as Ethereum has it."""
    rate = 136
    data += b"\x01" + bytes(-(len(data) + 1) % rate)
    data = data[:-1] + bytes([data[-1] | 0x80])
    lanes = [[0] * 5 for _ in range(5)]
    for start in range(0, len(data), rate):
        for i in range(rate // 8):
            word = int.from_bytes(data[start + 8 * i : start + 8 * i + 8], "little")
            lanes[i % 5][i // 5] ^= word
        lanes = _keccak_f(lanes)
    return b"".join(lanes[i % 5][i // 5].to_bytes(8, "little") for i in range(4))


def _rotate(value: int, by: int) -> int:
    return (value << by | value >> 64 - by) & (1 << 64) - 1 if by else value


def _keccak_f(a: list[list[int]]) -> list[list[int]]:
    register = 1
    for _ in range(24):
        c = [a[x][0] ^ a[x][1] ^ a[x][2] ^ a[x][3] ^ a[x][4] for x in range(5)]
        d = [c[x - 1] ^ _rotate(c[(x + 1) % 5], 1) for x in range(5)]
        b = [[0] * 5 for _ in range(5)]
        for x in range(5):
            for y in range(5):
                b[y][(2 * x + 3 * y) % 5] = _rotate(a[x][y] ^ d[x], _ROTATIONS[x][y])
        a = [[b[x][y] ^ (~b[(x + 1) % 5][y] & b[(x + 2) % 5][y]) for y in range(5)] for x in range(5)]
        for j in range(7):
            if register & 1:
                a[0][0] ^= 1 << (1 << j) - 1
            register = register << 1 ^ (0x171 if register & 0x80 else 0)
    return a


# state.md: records and the indexed 4-ary tree

STORES = ("accounts", "receipts", "locks", "validators", "registry", "params")


def account_bytes(balance: int, nonce: int, auth: bytes) -> bytes:
    return u64(balance) + u64(nonce) + auth


class IndexedTree:
    """What each slot holds, and nothing else; every hash computed anew for every question."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.slots: dict[int, tuple[bytes, bytes]] = {0: (b"", b"")}
        """Slot → key and value of the taken ones."""

    def update(self, changes: Mapping[bytes, bytes | None]) -> None:
        """What one block does: None removes a key."""
        for key in sorted(changes):
            if changes[key] is None and key in self.places():
                del self.slots[self.places()[key]]
        for key in sorted(changes):
            value = changes[key]
            if value is not None:
                lowest_free = next(slot for slot in itertools.count(1) if slot not in self.slots)
                self.slots[self.places().get(key, lowest_free)] = (key, value)

    def put(self, key: bytes, value: bytes) -> int:
        self.update({key: value})
        return self.places()[key]

    def places(self) -> dict[bytes, int]:
        return {key: slot for slot, (key, _) in self.slots.items()}

    def count(self) -> int:
        return 1 + max(self.slots)

    def next_key(self, key: bytes) -> bytes:
        return min((other for other in self.places() if other > key), default=b"")

    def leaf(self, slot: int) -> bytes:
        if slot not in self.slots:
            return bytes(32)
        key, value = self.slots[slot]
        return sha256(b"\x00" + fields(key, value, self.next_key(key))).digest()

    def levels(self) -> list[list[bytes]]:
        row = [self.leaf(slot) for slot in range(self.count())]
        levels = [row]
        while len(row) > 1:
            row = row + [bytes(32)] * (-len(row) % 4)
            levels[-1] = row
            row = [sha256(b"\x01" + b"".join(row[i : i + 4])).digest() for i in range(0, len(row), 4)]
            levels.append(row)
        return levels

    def root(self) -> bytes:
        return tagged("aitbc/store/1", self.name.encode(), u64(self.count()), self.levels()[-1][0])

    def prove(self, key: bytes) -> Json:
        """Of the key, or of the greatest key below it when it is not there."""
        places = self.places()
        if key not in places:
            key = max(other for other in places if other < key)
        position = index = places[key]
        groups = []
        for row in self.levels()[:-1]:
            group = row[position // 4 * 4 : position // 4 * 4 + 4]
            del group[position % 4]
            groups.append([node.hex() for node in group])
            position //= 4
        return {
            "index": index,
            "count": self.count(),
            "key": key.hex(),
            "value": self.slots[index][1].hex(),
            "next_key": self.next_key(key).hex(),
            "groups": groups,
        }


def state_root(roots: Sequence[bytes]) -> bytes:
    return tagged("aitbc/state/1", *roots)


# blocks.md: list trees, mountain ranges, headers, outcomes


def list_top(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 §2.1: the left side is the largest power of two below the length."""
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01" + list_top(leaves[:split]) + list_top(leaves[split:])).digest()


def list_root(leaves: Sequence[bytes]) -> bytes:
    return tagged("aitbc/list/1", u64(len(leaves)), list_top(leaves) if leaves else b"")


def list_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    if len(leaves) == 1:
        return []
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if index < split:
        return [*list_path(leaves[:split], index), list_top(leaves[split:])]
    return [*list_path(leaves[split:], index - split), list_top(leaves[:split])]


def mountains(leaves: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """A perfect tree for every bit of the count, highest first."""
    peaks, start = [], 0
    for height in reversed(range(len(leaves).bit_length())):
        if len(leaves) >> height & 1:
            peaks.append((height, list_top(leaves[start : start + (1 << height)])))
            start += 1 << height
    return peaks


def history_root(leaves: Sequence[bytes]) -> bytes:
    return tagged("aitbc/history/1", u64(len(leaves)), b"".join(peak for _, peak in mountains(leaves)))


def history_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The path within the leaf's own mountain, then the other peaks."""
    start, path, others = 0, list[bytes](), list[bytes]()
    for height, peak in mountains(leaves):
        end = start + (1 << height)
        if start <= index < end:
            path = list_path(leaves[start:end], index - start)
        else:
            others.append(peak)
        start = end
    return path + others


HEADER_FIELDS = (
    "version", "chain_id", "height", "parent", "timestamp_ms", "proposer", "txs_root", "outcomes_root",
    "state_root", "next_validators_hash", "history_root", "extra", "seal",
)  # fmt: skip


def header_preimage(header: Mapping[str, Any]) -> bytes:
    encode = {int: u64, str: str.encode, bytes: bytes}
    return preimage("aitbc/header/1", *[encode[type(header[name])](header[name]) for name in HEADER_FIELDS])


def header_hash(header: Mapping[str, Any]) -> bytes:
    return sha256(header_preimage(header)).digest()


def header_json(header: Mapping[str, Any]) -> Json:
    """As the RPC writes it (seed 000 §5 and what it lacks)."""
    return {
        "hash": header_hash(header).hex(),
        "parent": header["parent"].hex(),
        "height": header["height"],
        "timestamp": header["timestamp_ms"] // 1000,
        "proposer": header["proposer"],
        "stateRoot": header["state_root"].hex(),
        "version": header["version"],
        "chainId": header["chain_id"],
        "timestampMs": header["timestamp_ms"],
        "txsRoot": header["txs_root"].hex(),
        "outcomesRoot": header["outcomes_root"].hex(),
        "nextValidatorsHash": header["next_validators_hash"].hex(),
        "historyRoot": header["history_root"].hex(),
        "extra": header["extra"].hex(),
        "seal": header["seal"].hex(),
    }


def outcome_leaf(
    tx_id: bytes, ok: bool, reason: str, fee: int, events: Sequence[tuple[str, str, int]]
) -> bytes:
    listed = b"".join(fields(kind.encode(), key.encode(), u64(amount)) for kind, key, amount in events)
    return fields(tx_id, b"\x01" if ok else b"\x00", reason.encode(), u64(fee), listed)


# finality.md


def validators_hash(members: Sequence[tuple[str, bytes, int]]) -> bytes:
    return tagged("aitbc/validators/1", *[fields(a.encode(), key, u64(power)) for a, key, power in members])


def candidate_id(candidate: Mapping[str, Any], chain_id: str, genesis_hash: bytes) -> bytes:
    slots = [u64(candidate[name]) for name in ("epoch", "slot", "parent_slot")]
    return tagged(
        "aitbc/candidate/1",
        chain_id.encode(),
        genesis_hash,
        *slots,
        candidate["parent_id"],
        candidate["block_hash"],
    )


def vote_digest(kind: str, candidate: Mapping[str, Any], chain_id: str, genesis_hash: bytes) -> bytes:
    return tagged(
        "aitbc/vote/1",
        chain_id.encode(),
        genesis_hash,
        kind.encode(),
        u64(candidate["epoch"]),
        u64(candidate["slot"]),
        candidate_id(candidate, chain_id, genesis_hash),
    )


# draw.md


def ticket_of(lock: str, task: int, attempt: int) -> str:
    return "sha256:" + tagged("aitbc/ticket/1", bytes.fromhex(lock), u64(task), u64(attempt)).hex()


def draw(table: Sequence[Mapping[str, Any]], ticket: str, randomness: bytes) -> str:
    """Address of the winner."""
    wheel = tagged("aitbc/draw/1", ticket.encode(), randomness, hash_text(jcs(list(table))).encode())
    point = int.from_bytes(wheel, "big") % sum(row["weight"] for row in table)
    for row in table:
        if point < row["weight"]:
            return str(row["address"])
        point -= row["weight"]
    raise AssertionError("the weights cover the wheel")
