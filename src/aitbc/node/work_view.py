"""How agreement by work goes, in the words of `GET /rpc/consensus`. docs/spec/rpc.md "Consensus"."""

from typing import Any

from aitbc.core.consensus.nakamoto.work import work_of
from aitbc.core.sync.ranges import SyncState
from aitbc.node.work_runtime import WorkRuntime

Json = dict[str, Any]


def work_view(runtime: WorkRuntime) -> Json:
    engine, consensus = runtime.work.engine, runtime.executor.loaded.genesis.consensus
    assert consensus.work is not None, "this chain agrees by work"
    part, why = _part(runtime)
    miner, neighbours = runtime.miner, runtime.neighbours
    return {
        "mode": consensus.mode,
        "height": runtime.executor.head.block.header.height,
        "finalHeight": engine.final.height,
        "finalityDepth": consensus.work.finality_depth,
        "bestHeight": engine.best.height,
        "weight": str(engine.head.weight),
        "difficulty": str(work_of(engine.head.child_target)),
        "author": engine.head.author,
        "nextReward": runtime.reward_of_next(),
        "address": runtime.address,
        "part": part,
        "why": why,
        "peers": neighbours.peers if neighbours else 0,
        "triesPerSecond": miner.rate if miner else 0,
        "mined": runtime.mined,
        "reorganisations": runtime.reorganisations,
        "deepestReorganisation": runtime.deepest,
        "held": runtime.work.held,
        "miners": list(runtime.listed_miners),
    }


def _part(runtime: WorkRuntime) -> tuple[str, str]:
    """`mines`, `follows`, `catches_up` or `stopped`, and why."""
    if runtime.stopped.is_set():
        return "stopped", "its log says why"
    view = runtime.sync_view()
    if view is not None and view.state is not SyncState.LIVE:
        return "catches_up", f"block {view.height} of {view.target}"
    if runtime.author is None:
        return "follows", "it has nobody to mine for (--proposer-key, --mine-to), or no mining processes"
    return "mines", f"on {runtime.author.workers} processes"
