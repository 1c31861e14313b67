"""What the network adds to a job: lock final → answer minus engine time, and answer → mint final in block times.

Goals: ≤ 150 ms over the engine's own time; mint final ≤ 2 block times after the answer.
"""

import time

from common import devnet, save, spread

from aitbc.adapters.keystore import devnet_keys
from aitbc.client.hub import HubClient
from aitbc.client.jobs import FinishedJob, JobRequest, add_claim, run_job
from aitbc.client.node import NodeClient
from aitbc.client.progress import Progress
from aitbc.client.signing import KeySigner
from aitbc.core.types.amounts import AIT

RUNS = 12
BLOCK_TIME_MS = 1_000
REQUESTS = {
    "chat": JobRequest(kind="chat", request={"prompt": "Once upon", "max_tokens": 64}, max_price=5 * AIT),
    "image": JobRequest(kind="image", request={"prompt": "a red circle on blue"}, max_price=5 * AIT),
}


def one_job(
    node: NodeClient, hub: HubClient, signer: KeySigner, wanted: JobRequest
) -> tuple[float, float, float]:
    """(engine ms, ms from lock final to answer, block times from answer to mint final)."""
    at: dict[str, float] = {}

    def watch(progress: Progress) -> None:
        at.setdefault(progress.stage, time.perf_counter())

    job: FinishedJob = run_job(node, hub, signer, wanted, watch=watch)
    answered = time.perf_counter()
    add_claim(node, hub, job, watch=watch)
    claimed = time.perf_counter()
    engine_ms = float(job.bundle["details"]["gpu_ms"])
    return engine_ms, (answered - at["escrowed"]) * 1000, (claimed - answered) * 1000 / BLOCK_TIME_MS


def main() -> None:
    results = {}
    with (
        devnet("--block-time-ms", str(BLOCK_TIME_MS)) as net,
        NodeClient(net.rpc) as node,
        HubClient(net.hub) as hub,
    ):
        signer = KeySigner(devnet_keys()["alice"])
        for kind, wanted in REQUESTS.items():
            one_job(node, hub, signer, wanted)
            rows = [one_job(node, hub, signer, wanted) for _ in range(RUNS)]
            results[kind] = {
                "engine_ms": spread([row[0] for row in rows], 1),
                "lock_final_to_answer_ms": spread([row[1] for row in rows], 1),
                "over_engine_ms": spread([row[1] - row[0] for row in rows], 1),
                "answer_to_mint_final_blocks": spread([row[2] for row in rows], 2),
            }
    save("job_latency", "over engine <= 150 ms; answer to mint final <= 2 block times", results)


if __name__ == "__main__":
    main()
