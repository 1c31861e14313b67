"""`aitbc node status` for people: one line that says whether all is well, then a table of validators and of peers."""

from collections.abc import Sequence
from typing import Any

from aitbc.cli.show import printable, table
from aitbc.core.types.amounts import format_ait

Json = dict[str, Any]
MAX_EVENTS = 5
ADDRESS_LETTERS = 14
"""Enough to tell validators apart; --json has the rest."""


def lines_of(consensus: Json, peers: Sequence[Json]) -> list[str]:
    """What a terminal shows."""
    blocks = [
        _summary(consensus),
        _validators(consensus),
        _peers(peers),
        _faults(consensus),
        _events(consensus),
    ]
    return [printable(line) for block in blocks if block for line in (*block, "")][:-1]


def _summary(consensus: Json) -> list[str]:
    rows = [
        ("this node", f"{consensus['role']}, {consensus['part']}: {consensus['why']}"),
        ("address", consensus["address"] or "none"),
        ("head", f"block {consensus['height']}"),
        (
            "agreement",
            f"{consensus['mode']}, epoch {consensus['epoch']} (to block {consensus['epochEnds']}),"
            f" slot {consensus['slot']}, final slot {consensus['finalSlot']}",
        ),
        ("power", _power(consensus)),
        (
            "since start",
            f"{consensus['rounds']} slots over, {consensus['skips']} skipped,"
            f" {consensus['timeouts']} that this node voted to skip",
        ),
    ]
    return table(rows)


def _power(consensus: Json) -> str:
    """Whether those who are heard are enough."""
    heard = sum(v["power"] for v in consensus["validators"] if v["state"] in ("self", "ok", "slow"))
    need = consensus["quorum"]
    enough = "enough" if heard >= need else "TOO LITTLE: no block becomes final until more are heard"
    return f"{heard} of {consensus['power']} heard, {need} needed: {enough}"


def lines_of_work(consensus: Json, peers: Sequence[Json]) -> list[str]:
    """Of a node whose chain agrees by work."""
    rate = f", {consensus['triesPerSecond']:,} tries a second" if consensus["part"] == "mines" else ""
    lines = [
        f"{consensus['mode']}: block {consensus['height']}, final (by depth {consensus['finalityDepth']})"
        f" up to {consensus['finalHeight']}; this node ({consensus['role']}) {consensus['part']}"
        f" ({consensus['why']}){rate}",
        f"difficulty {int(consensus['difficulty']):,}, next reward {format_ait(consensus['nextReward'])},"
        f" {consensus['mined']} blocks of its own since start,"
        f" {consensus['reorganisations']} reorganisations (deepest {consensus['deepestReorganisation']})",
    ]
    if consensus["miners"]:
        turns = [
            ("* " if address == consensus["author"] else "  ") + _short(address)
            for address in consensus["miners"]
        ]
        lines += ["miners in their turns (* made the head):", *["  " + turn for turn in turns]]
    return [printable(line) for line in [*lines, *_peers(peers)]]


def _validators(consensus: Json) -> list[str]:
    header = ("validator", "power", "state", "heard", "late", "led", "skipped", "votes missed")
    rows = [
        (
            ("* " if member["address"] == consensus["leader"] else "  ") + _short(member["address"]),
            str(member["power"]),
            member["state"],
            _ago(member["heardMs"]),
            _milliseconds(member["lateMs"]),
            str(member["led"]),
            str(member["skipped"]),
            str(member["missed"]),
        )
        for member in consensus["validators"]
    ]
    return table([("  " + header[0], *header[1:]), *rows])


def _peers(peers: Sequence[Json]) -> list[str]:
    if not peers:
        return ["no peers"]
    header = ("peer", "address", "role", "link", "block", "ping", "clock", "points")
    rows = [
        (
            peer["key"][:16],
            peer["where"],
            peer["role"],
            ("out" if peer["outbound"] else "in") + (", kept" if peer["configured"] else ""),
            str(peer["head_height"]),
            _milliseconds(peer["latency_ms"]),
            f"{peer['clock_skew_ms']:+} ms",
            str(peer["points"]),
        )
        for peer in peers
    ]
    return ["  " + line for line in table([header, *rows])]


def _faults(consensus: Json) -> list[str]:
    return [
        f"FAULT: {fault['validator']} {_deed(fault['kinds'])} in slot {fault['slot']} of epoch"
        f" {fault['epoch']}; evidence: {fault['evidence']}"
        for fault in consensus["faults"]
    ]


def _deed(kinds: list[str]) -> str:
    return f"signed {' and '.join(kinds)}" if len(kinds) == 2 else "led with an invalid transaction"


def _events(consensus: Json) -> list[str]:
    return [
        f"  slot {event['slot']} of epoch {event['epoch']}: {_WORDS[event['what']]} {_short(event['leader'])}"
        f" ({event['reason'] or str(event['lateMs']) + ' ms after it was due'})"
        for event in consensus["events"][:MAX_EVENTS]
    ]


_WORDS = {
    "timeout": "this node voted to skip",
    "skipped": "skipped, led by",
    "slow": "slow leader",
    "invalid": "not valid, from",
}


def _short(address: str) -> str:
    return address[:ADDRESS_LETTERS] + "…"


def _milliseconds(value: int | None) -> str:
    return "" if value is None else f"{value} ms"


def _ago(value: int | None) -> str:
    if value is None:
        return ""
    return f"{value} ms ago" if value < 10_000 else f"{value // 1000} s ago"
