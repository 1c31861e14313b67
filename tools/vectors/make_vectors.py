"""Write tests/vectors/*.json from the chapters of docs/spec, without the package: `python tools/vectors/make_vectors.py`.

Keys, times and numbers are fixed, so a second run writes the same bytes. `--out DIR` writes somewhere else.
"""

import argparse
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import batches
import blocks
import by_the_book as book
import logs
import nakamoto
import p2p
import schemes
import signatures
import texts
import transactions
import version2
import work

Json = Any

FILES: dict[str, Callable[[], Json]] = {
    "addresses.json": texts.addresses,
    "jcs.json": texts.canonical_json,
    "ed25519.json": signatures.ed25519,
    "schemes.json": schemes.schemes,
    "certificates.json": signatures.certificates,
    "transactions.json": version2.transactions,
    "batches.json": batches.batches,
    "digests.json": version2.digests,
    "fees.json": version2.fees,
    "params.json": version2.params,
    "receipts.json": transactions.receipts,
    "headers.json": blocks.headers,
    "lists.json": blocks.lists,
    "mountains.json": blocks.mountains,
    "indexed_tree.json": blocks.indexed_tree,
    "records.json": blocks.records,
    "genesis.json": blocks.genesis,
    "jobs.json": work.jobs,
    "logs.json": logs.logs,
    "nakamoto.json": nakamoto.nakamoto,
    "p2p.json": p2p.p2p,
}


def render(content: Json) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=True) + "\n").encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    here = Path(__file__).resolve().parents[2]
    parser.add_argument("--out", type=Path, default=here / "tests" / "vectors")
    out: Path = parser.parse_args().out
    for name, build in FILES.items():
        data = render(build())
        (out / name).write_bytes(data)
        print(f"{name:22} {len(data):>8,} bytes  {sha256(data).hexdigest()[:16]}")


assert book.keccak256(b"").hex().startswith("c5d2460186f7233c"), "Ethereum's hash of nothing"

if __name__ == "__main__":
    main()
