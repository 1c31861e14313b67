"""A devnet in one thread for client and command line tests: a real executor behind stdlib HTTP, and a tiny hub.

Blocks, outcomes, certificates, receipts and attestations are real and signed; a transaction is final when it was
sent. `SmallNetwork.hub` has switches for the ways in which a hub can fail or lie.
"""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from aitbc.adapters.keystore import devnet_keys
from aitbc.client.signing import KeySigner
from aitbc.client.transactions import build_transaction, countersignature_witness, register_payload
from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.digests import (
    attestation_digest,
    candidate_id,
    countersignature_digest,
    details_hash_of,
    envelope_id,
    outcome_leaf,
    receipt_core_digest,
    receipt_id_of,
    vote_digest,
)
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.codec.views import (
    block_to_plain,
    certificate_to_plain,
    header_to_plain,
    outcome_to_plain,
    transaction_from_json,
    transaction_to_plain,
)
from aitbc.core.crypto.hashing import hash_text
from aitbc.core.crypto.merkle import prove_item
from aitbc.core.executor import Executor
from aitbc.core.ledger.admission import verify_transaction
from aitbc.core.ledger.devnet import devnet_genesis
from aitbc.core.ledger.fees import required_fee
from aitbc.core.ledger.state import Overlay
from aitbc.core.types.blocks import Candidate, Certificate, CommittedBlock
from aitbc.core.types.reasons import Rejected
from aitbc.core.types.receipts import Attestation, ReceiptCore, ReceiptDetails
from aitbc.core.types.transactions import Transaction

Json = dict[str, Any]
PIXELS = b"\x89PNG\r\n\x1a\n not really a picture"
STORY = "Once upon a time there was a test."
UNITS, PRICE = 2_000, 500_000


class Refusal(Exception):
    def __init__(self, status: int, code: str, detail: str = "no", fix: str = "") -> None:
        super().__init__(code)
        self.status = status
        self.body = {"code": code, "detail": detail, "fix": fix, "title": code, "status": status}


class SmallNode:
    """The node's RPC over an executor; every transaction gets its own final block."""

    def __init__(self, genesis: Callable[[Any], Any] = lambda devnet: devnet) -> None:
        """`genesis`: what becomes of the devnet's."""
        self.signers = {name: KeySigner(seed) for name, seed in devnet_keys().items()}
        self.genesis = genesis(devnet_genesis({name: one.auth_key for name, one in self.signers.items()}))
        self.executor = Executor(jcs(self.genesis), None)
        self.genesis_hash = self.executor.loaded.hash
        self.blocks: list[CommittedBlock] = [self.executor.head]
        self.places: dict[str, int] = {}
        self.claims: dict[str, str] = {}
        self.paid: dict[str, Any] = {}
        """Receipts as the history keeps them: a settled one has no record in the state."""
        self.ahead_ms = 0
        self.pending_only = False
        self.asks_fee: int | None = None
        """What it says a transaction costs, when that is not the truth."""
        self._lock = threading.Lock()

    def submit(self, tx: Transaction) -> str:
        with self._lock:
            verified = verify_transaction(tx, self.genesis_hash)
            tx_id = verified.id.hex()
            if self.pending_only or tx_id in self.places:
                return tx_id
            for paid in self._add([verified]):
                self.claims[paid.receipt_id] = tx_id
                self.paid[paid.receipt_id] = paid
            self.places[tx_id] = len(self.blocks) - 1
            return tx_id

    def idle(self) -> None:
        """An empty block."""
        with self._lock:
            self._add([])

    def _add(self, verified: list[Any]) -> list[Any]:
        """A block; the receipts that it pays."""
        now_ms = max(int(time.time() * 1000) + self.ahead_ms, self._head.timestamp_ms + 1)
        validator = self.signers["validator"]
        built = self.executor.build(verified, proposer=validator.address, timestamp_ms=now_ms)
        if built.refused:
            raise built.refused[0][1]
        certificate = self._certificate(built.hash, built.block.header.height)
        committed = self.executor.seal(built, certificate).block
        self.executor.publish(built, committed)
        self.blocks.append(committed)
        return list(built.receipts)

    @property
    def _head(self) -> Any:
        return self.blocks[-1].block.header

    def _validators(self) -> list[Json]:
        only = self.signers["validator"]
        return [{"address": only.address, "pubkey": key_to_text(only.auth_key), "power": 1}]

    def _certificate(self, block_hash: bytes, height: int) -> Certificate:
        candidate = Candidate(0, height, height - 1, bytes(32), block_hash)
        chain_id = self.genesis.chain_id
        digest = vote_digest(
            kind="final",
            epoch=0,
            slot=height,
            candidate=candidate_id(candidate, chain_id, self.genesis_hash),
            chain_id=chain_id,
            genesis_hash=self.genesis_hash,
        )
        return Certificate("final", candidate, 1, [self.signers["validator"].sign(digest)])

    def send(self, who: str, type: str, payload: Json, *, fee: int = 100, witness: Json | None = None) -> str:
        signer = self.signers[who]
        nonce = Overlay(self.executor.state).account(signer.address).nonce + 1
        tx = build_transaction(
            type,
            payload,
            signer=signer,
            nonce=nonce,
            fee=fee,
            genesis_hash=self.genesis_hash,
            witness=witness,
        )
        return self.submit(tx)

    def account(self, address: str) -> Json:
        record = Overlay(self.executor.state).account(address)
        return {
            "address": address,
            "balance": record.balance,
            "nonce": record.nonce,
            "nextNonce": record.nonce + 1,
            "pubkey": key_to_text(record.auth) if record.auth else "",
        }

    def transaction(self, tx_id: str, *, proof: bool) -> Json:
        if tx_id not in self.places:
            if self.pending_only:
                return {"status": "pending", "txHash": tx_id, "receipt": None, "proof": None}
            raise Refusal(404, "unknown_transaction", f"no transaction {tx_id}")
        block = self.blocks[self.places[tx_id]]
        outcome, tx = block.outcomes[0], block.block.txs[0]
        view = {
            "status": "final" if outcome.ok else "failed",
            "txHash": tx_id,
            "height": block.block.header.height,
            "index": 0,
            "tx": transaction_to_plain(tx),
            "receipt": outcome_to_plain(outcome),
            "proof": None,
        }
        if proof:
            assert block.certificate is not None
            view["proof"] = {
                "header": header_to_plain(block.block.header, block.hash),
                "certificate": certificate_to_plain(block.certificate),
                "txProof": _proof([envelope_id(outcome.tx_id, tx)]),
                "outcomeProof": _proof([outcome_leaf(outcome)]),
            }
        return view

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> Any:
        """One RPC call; the routes that client and command line use."""
        parts = path.strip("/").split("/")
        match [method, *parts]:
            case ["GET", "health"]:
                return {"status": "ok"}
            case ["GET", "rpc", "getHead"]:
                return {
                    "height": self._head.height,
                    "hash": self.blocks[-1].hash.hex(),
                    "timestampMs": self._head.timestamp_ms,
                    "chainId": self.genesis.chain_id,
                    "genesisHash": self.genesis_hash.hex(),
                }
            case ["GET", "rpc", "genesis"]:
                return json.loads(self.executor.loaded.document)
            case ["GET", "rpc", "params"]:
                return msgspec.to_builtins(self.genesis.params)
            case ["GET", "rpc", "getBlock", height] if height.isdecimal() and int(height) < len(self.blocks):
                block = self.blocks[int(height)]
                ids = [outcome.tx_id for outcome in block.outcomes]
                return block_to_plain(block.block.header, block.hash, block.certificate, ids)
            case ["GET", "rpc", "getBlock", other]:
                raise Refusal(404, "unknown_block", f"no block {other}")
            case ["GET", "rpc", "getBalance" | "account", address]:
                return self.account(address)
            case ["GET", "rpc", "getTx", tx_id]:
                return self.transaction(tx_id, proof=query.get("proof") == "1")
            case ["GET", "rpc", "lock", key]:
                record = self.executor.state.get("locks", key)
                if record is None:
                    raise Refusal(404, "unknown_lock")
                return {"id": key, **msgspec.to_builtins(record)}
            case ["GET", "rpc", "receipts", key]:
                record = self.executor.state.get("receipts", key) or self.paid.get(key)
                if record is None:
                    raise Refusal(404, "unknown_receipt")
                return {"receipt_id": key, **msgspec.to_builtins(record), "txHash": self.claims[key]}
            case ["GET", "rpc", "params"]:
                return msgspec.to_builtins(self.executor.state.params)
            case ["GET", "rpc", "proof", "params", key]:
                made = self.executor.prove("params", key, height=self._head.height)
                return {"leaf": {"key": made.proof.key.decode(), "value": made.proof.value.hex()}}
            case ["GET", "rpc", "registry"]:
                return {"items": []}
            case ["GET", "rpc", "validators"]:
                return {"items": self._validators()}
            case ["GET", "rpc", "finality", height]:
                block = self.blocks[int(height)]
                assert block.certificate is not None
                return {
                    "headers": [header_to_plain(block.block.header, block.hash)],
                    "certificate": certificate_to_plain(block.certificate),
                    "validators": self._validators(),
                }
            case ["GET", "rpc", "supply"]:
                return {"total": 1}
            case ["POST", "rpc", "sendTx" | "submitReceipt"]:
                return {"txHash": self.submit(transaction_from_json(body))}
            case ["POST", "rpc", "estimateFee"]:
                if self.asks_fee is not None:
                    return {"fee": self.asks_fee}
                payload = jcs(json.loads(body)["payload"])
                key = self.signers["alice"].auth_key
                return {"fee": required_fee(self.executor.state.params, len(payload), key)}
            case ["POST", "admin", "mintFaucet"]:
                wish = json.loads(body)
                payload = {"to": wish["address"], "amount": wish["amount"]}
                return {"txHash": self.send("faucet", "FAUCET", payload, fee=0)}
        raise Refusal(404, "not_found", f"{method} {path}")


def _proof(leaves: list[bytes]) -> Json:
    proof = prove_item(leaves, 0)
    return {"index": proof.index, "count": proof.count, "path": [node.hex() for node in proof.path]}


@dataclass
class SmallHub:
    """A hub with one provider that answers every image with the same bytes and every chat with the same story."""

    node: SmallNode
    claims: bool = True
    fails_with: str = ""
    quote_lie: Json = field(default_factory=dict)
    """Fields of the quote to replace."""
    result_lie: Json = field(default_factory=dict)
    lock_amount: int = PRICE
    delivers: Json = field(default_factory=dict)
    """Facts of another job, for which the result has a flawless receipt."""
    away_for: int = 0
    """So many questions for a result are not answered."""
    story: str = STORY
    break_stream_after: int = 0
    """The first event stream ends after so many events."""
    claim_after_ms: int = 120_000
    jobs: dict[str, Json] = field(default_factory=dict)
    canceled: list[str] = field(default_factory=list)
    streams: int = 0

    def answer(self, method: str, path: str, _query: dict[str, str], body: bytes) -> Any:
        parts = path.strip("/").split("/")
        match [method, *parts]:
            case ["GET", "v1", "health"]:
                return {"status": "ok", "gpu": "none", "model": "tiny", "providers": 1}
            case ["GET", "v1", "hub"]:
                signer = self.node.signers["hub"]
                return {
                    "address": signer.address,
                    "pubkey": key_to_text(signer.auth_key),
                    "chain_id": self.node.genesis.chain_id,
                    "genesis_hash": self.node.genesis_hash.hex(),
                }
            case ["POST", "v1", "quotes"]:
                return self._quote(json.loads(body))
            case ["POST", "v1", "jobs"]:
                asked = json.loads(body)
                return self._start(asked["job_id"], asked["lock"])
            case ["GET", "v1", "jobs", job_id]:
                return self._status(job_id)
            case ["GET", "v1", "jobs", job_id, "result"]:
                if self.away_for:
                    self.away_for -= 1
                    raise Refusal(503, "hub_stopping")
                return {**self.jobs[job_id]["result"], **self.result_lie}
            case ["POST", "v1", "jobs", job_id, "cancel"]:
                self.canceled.append(job_id)
                return {"job_id": job_id, "state": "canceled"}
        raise Refusal(404, "not_found", f"{method} {path}")

    def _quote(self, asked: Json) -> Json:
        job_id = f"job_{len(self.jobs)}"
        model = asked.get("model") or ("tiny-diffusion" if asked["kind"] == "image" else "tiny-lm")
        request = {"kind": asked["kind"], "model": model, "nonce": "00" * 16, "seed": 0, **asked["request"]}
        now_ms = int(time.time() * 1000)
        quote = {
            "job_id": job_id,
            "job_token": f"token-{job_id}",
            "hub": self.node.signers["hub"].address,
            "client": asked["client"],
            "kind": asked["kind"],
            "model": model,
            "request": request,
            "request_hash": hash_text(jcs(request)),
            "units": UNITS,
            "price": PRICE,
            "deliver_by_ms": now_ms + 60_000,
            "claim_until_ms": now_ms + self.claim_after_ms,
            "expires_ms": now_ms + 30_000,
        }
        names = ("hub", "job_id", "request_hash", "deliver_by_ms", "claim_until_ms")
        quote["lock"] = {**{name: quote[name] for name in names}, "amount": self.lock_amount}
        quote |= self.quote_lie
        self.jobs[job_id] = {"quote": quote, "state": "quoted", "claim_tx": "", "receipt_id": ""}
        return quote

    def _start(self, job_id: str, lock: str) -> Json:
        job = self.jobs[job_id]
        job["lock"] = lock
        if self.fails_with:
            job["state"] = "failed"
            return {"job_id": job_id, "state": "queued"}
        told = {**job["quote"], **{name: value for name, value in self.delivers.items() if name != "lock"}}
        result = make_result(self.node, told, self.delivers.get("lock", lock), self.story)
        job.update(state="delivered", result=result, receipt_id=result["receipt_id"])
        if self.claims and not self.delivers:
            payload = {
                **result["core"],
                "receipt_id": result["receipt_id"],
                "miner_sig": result["provider_sig"],
            }
            witness = {"attestation": result["attestation"], "sig": result["attestation_sig"]}
            job["claim_tx"] = self.node.send("hub", "RECEIPT_CLAIM", payload, witness=witness)
            job["state"] = "settled"
        return {"job_id": job_id, "state": "queued"}

    def _status(self, job_id: str) -> Json:
        job = self.jobs[job_id]
        view = {name: job[name] for name in ("state", "claim_tx", "receipt_id")}
        return {"job_id": job_id, **view, "reason": self.fails_with, "message": "the engine is no more"}

    def events(self, job_id: str) -> list[Json]:
        if self.fails_with:
            return [{"state": "queued"}, {"state": "running"}, {"state": "failed"}]
        words = [{"text": word} for word in (self.story[:10], self.story[10:])]
        middle = (
            words
            if self.jobs[job_id]["quote"]["kind"] == "chat"
            else [{"progress": [1, 2]}, {"progress": [2, 2]}]
        )
        return [{"state": "queued"}, {"state": "running"}, *middle, {"state": "delivered"}]


def make_result(node: SmallNode, quote: Json, lock: str, story: str = STORY) -> Json:
    """A delivered result with a real receipt, signed by the devnet's provider, and a real attestation."""
    provider, hub = node.signers["provider"], node.signers["hub"]
    image = quote["kind"] == "image"
    data = PIXELS if image else story.encode()
    now_ms = int(time.time() * 1000)
    details = ReceiptDetails(
        v=1,
        chain_id=node.genesis.chain_id,
        job_id=quote["job_id"],
        task=0,
        attempt=1,
        ticket=hash_text(b"ticket"),
        client=quote["client"],
        provider=provider.address,
        hub=hub.address,
        kind=quote["kind"],
        model=quote["model"],
        model_digest=hash_text(b"weights"),
        profile=hash_text(b"profile"),
        seed="0",
        request_hash=quote["request_hash"],
        prompt_hash=hash_text(quote["request"]["prompt"].encode()),
        output_hash=hash_text(data),
        transcript_root=hash_text(b"transcript"),
        candidates_hash=hash_text(b"candidates"),
        units=UNITS,
        unit_type="compute_units",
        counts={"steps": 20},
        notes={},
        gpu_ms=7,
        price=quote["price"],
        pay={"mode": "lock", "id": lock},
        started_ms=now_ms - 1_900,
        finished_ms=now_ms,
        status="complete",
        verify="hash",
        nonce="ab" * 16,
    )
    core = ReceiptCore(
        job_id=quote["job_id"],
        client_addr=quote["client"],
        miner_addr=provider.address,
        compute_units=UNITS,
        price=quote["price"],
        output_hash=details.output_hash,
        lock=lock,
        task=0,
        attempt=1,
        nonce=details.nonce,
        details_hash=details_hash_of(details),
    )
    receipt_id = receipt_id_of(core, node.genesis_hash)
    attestation = Attestation(
        receipt_id=receipt_id,
        lock=lock,
        job_id=core.job_id,
        hub=hub.address,
        client=core.client_addr,
        provider=core.miner_addr,
        task=0,
        attempt=1,
        units=UNITS,
        price=quote["price"],
        output_hash=core.output_hash,
        routed="random",
        candidates_hash=details.candidates_hash,
    )
    return {
        "job_id": quote["job_id"],
        "media_type": "image/png" if image else "text/plain; charset=utf-8",
        "data_base64": base64.b64encode(data).decode(),
        "details": msgspec.to_builtins(details),
        "core": msgspec.to_builtins(core),
        "receipt_id": receipt_id,
        "provider_sig": provider.sign(receipt_core_digest(core, node.genesis_hash)).hex(),
        "provider_pubkey": key_to_text(provider.auth_key),
        "attestation": msgspec.to_builtins(attestation),
        "attestation_sig": hub.sign(attestation_digest(attestation, node.genesis_hash)).hex(),
        "hub_pubkey": key_to_text(hub.auth_key),
        "claim_tx": None,
    }


@dataclass
class SmallNetwork:
    node: SmallNode
    hub: SmallHub
    rpc_url: str
    hub_url: str


@contextmanager
def small_network() -> Iterator[SmallNetwork]:
    """Node and hub on free ports, with a registered provider; gone at the end."""
    node = SmallNode()
    provider, hub_signer = node.signers["provider"], node.signers["hub"]
    digest = countersignature_digest(provider.address, hub_signer.address, node.genesis_hash)
    witness = countersignature_witness(hub=hub_signer.address, signature=hub_signer.sign(digest))
    node.send("provider", "REGISTER", register_payload(role="provider", models=[]), fee=0, witness=witness)
    hub = SmallHub(node)
    with serving(node.answer) as rpc_url, serving(hub.answer, hub) as hub_url:
        yield SmallNetwork(node, hub, rpc_url, hub_url)


@contextmanager
def serving(answer: Any, hub: SmallHub | None = None) -> Iterator[str]:
    """Serve `answer(method, path, query, body)` as JSON; a hub's event streams too."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            split = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(split.query).items()}
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if hub is not None and split.path.endswith("/events"):
                self._stream(split.path.split("/")[3])
                return
            try:
                self._json(200, answer(self.command, split.path, query, body))
            except Refusal as refusal:
                self._json(refusal.status, refusal.body)
            except Rejected as rejected:
                self._json(400, {"code": rejected.reason, "detail": rejected.message, "fix": "mend it"})

        do_GET = do_POST = handle_any

        def _json(self, status: int, value: Any) -> None:
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _stream(self, job_id: str) -> None:
            assert hub is not None
            hub.streams += 1
            events = hub.events(job_id)
            if hub.streams == 1 and hub.break_stream_after:
                events = events[: hub.break_stream_after]
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            self.wfile.write(b": hello\n\n")
            for event in events:
                self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
            self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            """Tests print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
