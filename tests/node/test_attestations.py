"""A claim without its attestation: what the node takes from a listed hub, and what it does not."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from aitbc.core.codec.canonical import jcs
from aitbc.core.codec.views import transaction_to_plain
from aitbc.node import service
from aitbc.node.attestations import MAX_ANSWER_BYTES
from aitbc.node.config import NodeConfig
from aitbc.node.main import create_app
from support.chain import Chain
from support.people import ALICE, BOB, PROVIDER, VALIDATOR

Reply = tuple[int, dict[str, str], bytes]
ELSEWHERE = "/not/allow-listed"


class FakeHub(ThreadingHTTPServer):
    """Answers the same to every POST, and remembers which paths were asked."""

    daemon_threads = True

    def __init__(self, replies: dict[str, Reply]) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.replies = replies
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answering(BaseHTTPRequestHandler):
    server: FakeHub

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.asked.append(self.path)
        status, headers, body = self.server.replies[self.path]
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        """Tests print nothing."""


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    thread = threading.Thread(target=hub.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


def ask(
    chain: Chain, folder: Path, replies: dict[str, Reply], payload: dict[str, Any], **changed: Any
) -> tuple[Any, list[str]]:
    """Submit a claim without its witness to a node with one listed hub; returns the answer and the paths asked.

    `changed`: fields of the transaction that are changed after it was signed.
    """
    with serving(FakeHub(replies)) as hub:
        config = NodeConfig(
            genesis=chain.document,
            data=folder / "node",
            proposer=VALIDATOR,
            never_voted=True,
            attest_urls=(hub.url,),
        )
        with TestClient(create_app(config)) as node:
            tx = transaction_to_plain(chain.sign(ALICE, "RECEIPT_CLAIM", payload))
            return node.post("/rpc/submitReceipt", json={**tx, **changed}).json(), hub.asked


@pytest.fixture
def claim(chain: Chain) -> tuple[dict[str, Any], bytes]:
    """A payload, and the honest hub's answer for it; the lock does not exist, so the chain refuses it in the end."""
    payload, witness = chain.claim_parts(PROVIDER, "ab" * 32)
    return payload, jcs({"exists": True, **witness})


def padded(answer: bytes, size: int) -> bytes:
    return answer + b" " * (size - len(answer))


@pytest.mark.parametrize("size", [0, MAX_ANSWER_BYTES])
def test_a_listed_hubs_word_completes_the_claim(
    chain: Chain, tmp_path: Path, claim: tuple[dict[str, Any], bytes], size: int
) -> None:
    payload, honest = claim
    replies = {"/attest/receipt": (200, {}, padded(honest, size))}
    answer, asked = ask(chain, tmp_path, replies, payload)
    assert (answer["code"], asked) == ("unknown_lock", ["/attest/receipt"])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_hub_cannot_send_the_node_to_another_place(
    chain: Chain, tmp_path: Path, claim: tuple[dict[str, Any], bytes], status: int
) -> None:
    """The answer waits where the redirect points to; nobody asks for it there."""
    payload, honest = claim
    replies = {"/attest/receipt": (status, {"location": ELSEWHERE}, b""), ELSEWHERE: (200, {}, honest)}
    answer, asked = ask(chain, tmp_path, replies, payload)
    assert answer["code"] == "attestation_missing"
    assert f"answered {status}" in answer["detail"]
    assert asked == ["/attest/receipt"]


def test_an_answer_is_read_no_further_than_its_bound(
    chain: Chain, tmp_path: Path, claim: tuple[dict[str, Any], bytes]
) -> None:
    payload, honest = claim
    replies = {"/attest/receipt": (200, {}, padded(honest, MAX_ANSWER_BYTES + 1))}
    answer, _ = ask(chain, tmp_path, replies, payload)
    assert answer["code"] == "attestation_missing"
    assert "its answer is too long" in answer["detail"]


@pytest.mark.parametrize(
    ("story", "changed", "code"),
    [
        ("not signed at all", {"sig": "00" * 64}, "bad_signature"),
        ("another fee than was signed", {"fee": 101}, "bad_signature"),
        ("in Bob's name", {"sender": BOB.address}, "wrong_key"),
    ],
)
def test_no_hub_is_asked_for_what_the_claimant_has_not_signed(
    chain: Chain, tmp_path: Path, claim: tuple[dict[str, Any], bytes], story: str, changed: Any, code: str
) -> None:
    payload, honest = claim
    replies = {"/attest/receipt": (200, {}, honest)}
    answer, asked = ask(chain, tmp_path, replies, payload, **changed)
    assert (answer["code"], asked) == (code, [])


def test_only_so_many_claims_wait_for_hubs(
    chain: Chain, tmp_path: Path, claim: tuple[dict[str, Any], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MAX_ASKING", 0)
    payload, honest = claim
    answer, asked = ask(chain, tmp_path, {"/attest/receipt": (200, {}, honest)}, payload)
    assert (answer["code"], asked) == ("too_busy", [])
