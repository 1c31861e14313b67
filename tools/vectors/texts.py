"""Vectors of addresses and of canonical JSON."""

from hashlib import sha256
from typing import Any

import by_the_book as book
from fixtures import keys

Json = Any


def addresses() -> Json:
    derived = [
        {"name": f"devnet {name}", "seed": key.seed.hex(), "auth_key": key.auth.hex(), "key_text": key.text,
         "payload": sha256(key.public).digest()[:20].hex(), "address": key.address}
        for name, key in keys().items()
    ]  # fmt: skip
    payloads = {
        "all zero": bytes(20),
        "all one": b"\xff" * 20,
        "first bit": b"\x80" + bytes(19),
        "last bit": bytes(19) + b"\x01",
        "counting": bytes(range(20)),
    }
    good = book.bech32(bytes(range(20)))
    swapped = good[:10] + good[11] + good[10] + good[12:]
    refused = {
        "empty": "",
        "prefix only": "ait1",
        "one character short": good[:-1],
        "one character long": good + "q",
        "upper case": good.upper(),
        "mixed case": good[:-1] + good[-1].upper(),
        "other prefix": book.bech32(bytes(range(20)), prefix="aiu"),
        "no separator": "ait0" + good[4:],
        "last character changed": good[:-1] + ("q" if good[-1] != "q" else "p"),
        "two characters swapped": swapped,
        "a character outside the alphabet": good[:10] + "b" + good[11:],
        "a letter that is not ASCII": good[:10] + "é" + good[11:],
        "bech32m instead of bech32": book.bech32(bytes(range(20)), constant=0x2BC830A3),
        "19 bytes": book.bech32(bytes(19)),
        "21 bytes": book.bech32(bytes(21)),
        "space in front": " " + good[:-1],
    }
    key = keys()["alice"]
    key_texts = {
        "empty": ("", "bad_hex"),
        "31 bytes": (key.text[2:], "bad_hex"),
        "33 bytes": (key.text + "00", "bad_hex"),
        "upper case": (key.text.upper(), "bad_hex"),
        "0x in front": ("0x" + key.text, "bad_hex"),
        "scheme named where none is": ("ed25519:" + key.text, "unknown_scheme"),
        "unknown scheme": ("p256:02" + key.text, "unknown_scheme"),
    }
    assert swapped != good
    return {
        "spec": "docs/spec/keys.md",
        "mnemonic": book.DEVNET_MNEMONIC,
        "mnemonic_seed": book.mnemonic_seed(book.DEVNET_MNEMONIC).hex(),
        "path": "m/44'/2048'/i', i in the order of the list",
        "keys": derived,
        "payloads": [
            {"name": name, "payload": payload.hex(), "address": book.bech32(payload)}
            for name, payload in payloads.items()
        ],
        "refused": [{"name": n, "address": text, "reason": "bad_address"} for n, text in refused.items()],
        "refused_keys": [{"name": n, "key_text": t, "reason": why} for n, (t, why) in key_texts.items()],
        "refused_auth_keys": [
            {"name": "empty", "auth_key": "", "reason": "unknown_scheme"},
            {"name": "unknown scheme", "auth_key": "7f" + key.text, "reason": "unknown_scheme"},
            {"name": "31 bytes", "auth_key": "00" + key.text[2:], "reason": "out_of_range"},
            {"name": "33 bytes", "auth_key": "00" + key.text + "00", "reason": "out_of_range"},
        ],
    }


def canonical_json() -> Json:
    values = {
        "empty object": {},
        "empty list": [],
        "nothing": None,
        "truth": {"no": False, "yes": True},
        "integers at the edges": [0, -1, 1, 2**31, 2**32, 2**53 - 1, -(2**53) + 1],
        "keys in order": {"b": 1, "a": 2, "B": 3, "A": 4, "_": 5, "10": 6, "9": 7, "": 8, "a1": 9, "a b": 10},
        "nested": {"z": [{"y": 1, "x": [1, [2, [3]]]}], "a": {"c": {"d": {}}}},
        "control characters": "".join(chr(code) for code in range(0x20)),
        "characters that need no escape": "/<>&'\x7f\u0080\u2028\u2029\ufeff\ufffd\uffff",
        "quote and backslash": 'say "no" \\ maybe',
        "composed and decomposed are two texts": ["\u00e9", "e\u0301"],
        "beyond the first plane": "\U0001f600\U0010ffff",
        "a number as text": "9223372036854775807",
    }
    return {
        "spec": "docs/spec/encoding.md",
        "values": [{"name": n, "value": v, "bytes": book.jcs(v).hex()} for n, v in values.items()],
        "transfer_to": keys()["bob"].address,
        "texts": _texts(keys()["bob"].address),
    }


def _texts(to: str) -> list[Json]:
    """TRANSFER payloads as bytes: what the canonical decoder and the JSON decoder say to each; null is accepted."""
    address = f'"to":"{to}"'
    deep = "[" * 2_000 + "]" * 2_000
    nested = ["malformed", "wrong_type", "unknown_field"]

    def amount(text: str) -> bytes:
        return f'{{"amount":{text},{address}}}'.encode()

    def data(text: str) -> bytes:
        return f'{{"amount":1,"data":"{text}",{address}}}'.encode()

    cases: list[tuple[str, bytes, Json, Json]] = [
        ("canonical", amount("1"), None, None),
        ("largest amount", amount(str(2**53 - 1)), None, None),
        ("data", data("x"), None, None),
        ("data of 1,024 characters", data("x" * 1024), None, None),
        ("data of 1,024 characters of four bytes each", data("\U0001f600" * 1024), None, None),
        ("escapes that must be", data("\\u0000\\b\\t\\n\\f\\r\\u001f\\\"\\\\"), None, None),
        # second spellings of a good value: fine as JSON, not canonical
        ("space after a colon", f'{{"amount": 1,{address}}}'.encode(), "not_canonical", None),
        ("space at the end", amount("1") + b" ", "not_canonical", None),
        ("keys out of order", f'{{{address},"amount":1}}'.encode(), "not_canonical", None),
        ("a default spelled out", data(""), "not_canonical", None),
        ("a letter escaped", data("\\u0078"), "not_canonical", None),
        ("a solidus escaped", data("\\/"), "not_canonical", None),
        ("capital hexadecimal in an escape", data("\\u001F"), "not_canonical", None),
        ("a long escape where a short one exists", data("\\u000a"), "not_canonical", None),
        ("a surrogate pair escaped", data("\\ud83d\\ude00"), "not_canonical", None),
        # numbers
        ("zero", amount("0"), "out_of_range", "out_of_range"),
        ("negative", amount("-1"), "out_of_range", "out_of_range"),
        ("2^53", amount(str(2**53)), "out_of_range", "out_of_range"),
        ("2^63", amount(str(2**63)), "out_of_range", "out_of_range"),
        ("2^64", amount(str(2**64)), "out_of_range", "out_of_range"),
        ("5,000 digits", amount("9" * 5000), "out_of_range", "out_of_range"),
        ("1.0", amount("1.0"), "float_not_allowed", "float_not_allowed"),
        ("1.5", amount("1.5"), "float_not_allowed", "float_not_allowed"),
        ("1e2", amount("1e2"), "float_not_allowed", "float_not_allowed"),
        ("1E+2", amount("1E+2"), "float_not_allowed", "float_not_allowed"),
        ("1e400", amount("1e400"), "float_not_allowed", "float_not_allowed"),
        ("NaN", amount("NaN"), "malformed", ["malformed", "float_not_allowed"]),
        ("-Infinity", amount("-Infinity"), "malformed", ["malformed", "float_not_allowed"]),
        ("leading zero", amount("01"), "malformed", "malformed"),
        ("plus sign", amount("+1"), "malformed", "malformed"),
        ("a letter after a digit", amount("1x"), "malformed", "malformed"),
        # types
        ("text for a number", amount('"1"'), "wrong_type", "wrong_type"),
        ("truth for a number", amount("true"), "wrong_type", "wrong_type"),
        ("null for a number", amount("null"), "wrong_type", "wrong_type"),
        ("a number for text", b'{"amount":1,"to":1}', "wrong_type", "wrong_type"),
        ("null for a default", f'{{"amount":1,"data":null,{address}}}'.encode(), "wrong_type", "wrong_type"),
        ("a list", b"[]", "wrong_type", "wrong_type"),
        ("null", b"null", "wrong_type", "wrong_type"),
        # fields
        ("missing field", b'{"amount":1}', "missing_field", "missing_field"),
        ("unknown field", f'{{"amount":1,{address},"x":1}}'.encode(), "unknown_field", "unknown_field"),
        ("a known name in capitals", f'{{"Amount":1,"amount":1,{address}}}'.encode(), "unknown_field", "unknown_field"),
        ("the same key twice, same value", f'{{"amount":1,"amount":1,{address}}}'.encode(), "not_canonical", "duplicate_key"),
        ("the same key twice, other value", f'{{"amount":2,"amount":1,{address}}}'.encode(), "not_canonical", "duplicate_key"),
        ("the same key twice, one escaped", f'{{"amount":1,"\\u0061mount":1,{address}}}'.encode(), "not_canonical", "duplicate_key"),
        ("data of 1,025 characters", data("x" * 1025), "out_of_range", "out_of_range"),
        # text that is none
        ("half a surrogate pair, escaped", data("\\ud800"), "malformed", "malformed"),
        ("the other half", data("\\udc00"), "malformed", "malformed"),
        ("halves in the wrong order", data("\\ude00\\ud83d"), "malformed", "malformed"),
        ("half a surrogate pair in UTF-8", data("?").replace(b"?", b"\xed\xa0\x80"), "malformed", "malformed"),
        ("a pair as six bytes (CESU-8)", data("?").replace(b"?", b"\xed\xa0\xbd\xed\xb8\x80"), "malformed", "malformed"),
        ("an overlong form", data("?").replace(b"?", b"\xc0\xaf"), "malformed", "malformed"),
        ("beyond U+10FFFF", data("?").replace(b"?", b"\xf4\x90\x80\x80"), "malformed", "malformed"),
        ("a byte that starts nothing", data("?").replace(b"?", b"\xff"), "malformed", "malformed"),
        ("a control character as it is", data("\x01"), "malformed", "malformed"),
        ("a line break as it is", data("\n"), "malformed", "malformed"),
        ("unknown escape", data("\\x41"), "malformed", "malformed"),
        ("a byte order mark", b"\xef\xbb\xbf" + amount("1"), "malformed", "malformed"),
        ("UTF-16 with a mark", b"\xff\xfe" + amount("1").decode().encode("utf-16-le"), "malformed", "malformed"),
        ("UTF-16 without a mark", amount("1").decode().encode("utf-16-le"), "malformed", "malformed"),
        ("UTF-32", amount("1").decode().encode("utf-32-be"), "malformed", "malformed"),
        # not JSON
        ("nothing at all", b"", "malformed", "malformed"),
        ("cut short", amount("1")[:-1], "malformed", "malformed"),
        ("something after the end", amount("1") + b"x", "malformed", "malformed"),
        ("two values", amount("1") + amount("1"), "malformed", "malformed"),
        ("a comma too many", f'{{"amount":1,{address},}}'.encode(), "malformed", "malformed"),
        ("single quotes", b"{'amount':1}", "malformed", "malformed"),
        ("a comment", amount("1") + b"//", "malformed", "malformed"),
        ("a key without quotes", b"{amount:1}", "malformed", "malformed"),
        ("nesting without end", ("[" * 2_000).encode(), "wrong_type", nested),
        ("deep nesting in a known field", f'{{"amount":1,"data":{deep},{address}}}'.encode(), "wrong_type", nested),
        ("deep nesting in an unknown field", f'{{"amount":1,{address},"x":{deep}}}'.encode(), "unknown_field", nested),
    ]  # fmt: skip
    return [{"name": n, "bytes": raw.hex(), "canonical": c, "json": j} for n, raw, c, j in cases]
