"""How agreement goes, in the words of `GET /rpc/consensus`. docs/spec/rpc.md "Consensus"."""

from typing import Any

from aitbc.core.consensus.simplex.record import SLOW_PART, Member
from aitbc.core.consensus.simplex.rules import Simplex
from aitbc.core.ledger.elector import mode_of
from aitbc.core.ledger.state import Overlay
from aitbc.node.runtime import NodeRuntime
from aitbc.node.subscriptions import incident_to_plain

Json = dict[str, Any]
MAX_EVENTS = 32


def consensus_view(runtime: NodeRuntime) -> Json:
    engine, executor = runtime.engine(), runtime.executor
    part, why = _part(runtime, engine)
    return {
        "mode": mode_of(executor.state),
        "height": executor.head.block.header.height,
        "epoch": engine.epoch.number,
        "epochEnds": engine.epoch.last_height,
        "slot": engine.frontier,
        "finalSlot": engine.final_slot,
        "leader": engine.epoch.validators[engine.epoch.leader_of(engine.frontier)].address,
        "address": runtime.address,
        "part": part,
        "why": why,
        "peers": runtime.network.peers if runtime.network else 0,
        "power": sum(engine.epoch.powers),
        "quorum": engine.epoch.quorum,
        "rounds": engine.record.rounds,
        "skips": engine.record.skips,
        "timeouts": engine.record.timeouts,
        "validators": [
            _member(runtime, engine, position) for position in range(len(engine.epoch.validators))
        ],
        "faults": [
            {
                "validator": charge.fault.validator,
                "epoch": charge.fault.epoch,
                "slot": charge.fault.slot,
                "kinds": charge.kinds,
                "evidence": str(charge.progress),
                "txHash": charge.tx_id.hex() if charge.tx_id else None,
            }
            for charge in runtime.accuser.charges.values()
        ],
        "events": [
            incident_to_plain(incident, at_ms)
            for at_ms, incident in list(runtime.measures.incidents)[: -MAX_EVENTS - 1 : -1]
        ],
    }


def _part(runtime: NodeRuntime, engine: Simplex) -> tuple[str, str]:
    """`votes`, `watches` or `follows`, and why."""
    if runtime.stopped.is_set():
        return "stopped", "its log says why"
    if runtime.network is not None and runtime.network.catching_up.is_fetching:
        view = runtime.network.catching_up.view()
        rate = f", {view.blocks_per_s} blocks a second, {view.eta_s} s to go" if view.blocks_per_s else ""
        return "catches_up", f"block {view.height} of {view.target}{rate}"
    if not runtime.address:
        return "follows", "it has no validator's key (--proposer-key), or one that its account has no more"
    if not engine.is_member:
        until_ms = Overlay(runtime.executor.state).bond("validator", runtime.address).jailed_until_ms
        jailed = until_ms > runtime.executor.head.block.header.timestamp_ms
        why = f"it is jailed until {until_ms}" if jailed else "its address is not in this epoch's set"
        return "follows", why
    if not engine.may_vote:
        return "watches", (
            "its log or guard was lost, so it votes in the first epoch in which it cannot have voted"
            f" (after height {engine.epoch.last_height} at the earliest)"
        )
    return "votes", "its key is in this epoch's set"


def _member(runtime: NodeRuntime, engine: Simplex, position: int) -> Json:
    member = engine.epoch.validators[position]
    known = engine.record.members[member.address]
    is_self = member.address == runtime.address
    heard_ms = None if known.heard_ms is None else max(0, runtime.now_ms() - known.heard_ms)
    return {
        "address": member.address,
        "power": member.power,
        "state": "self" if is_self else _state(engine, known, position, heard_ms),
        "heardMs": None if is_self else heard_ms,
        "lateMs": known.late_ms,
        "led": known.led,
        "skipped": known.skipped,
        "timeouts": known.timeouts,
        "missed": known.missed,
        "invalid": known.invalid,
    }


def _state(engine: Simplex, known: Member, position: int, heard_ms: int | None) -> str:
    """`unheard`: nothing came yet; `silent`: not waited for, or nothing came for longer than the living are quiet;
    `slow`: its newest proposal was; else `ok`."""
    if heard_ms is None:
        return "unheard"
    if engine.is_dead(position) or heard_ms > engine.silence_ms:
        return "silent"
    slow = known.late_ms is not None and known.late_ms * SLOW_PART >= engine.timeout_ms
    return "slow" if slow else "ok"
