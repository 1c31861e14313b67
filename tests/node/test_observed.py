"""Metrics in good form, logs with seed 000's fields, traces that arrive."""

import json
import logging
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from aitbc.adapters.telemetry import tracing
from aitbc.adapters.telemetry.logs import JsonFormatter
from aitbc.core.codec.views import transaction_to_plain
from aitbc.node.config import NodeConfig
from aitbc.node.main import create_app
from aitbc.ports import StorageError
from support.chain import Chain
from support.people import ALICE, BOB, VALIDATOR

SEED_001 = [
    "blockchain_blocks_total", "blockchain_transactions_total", "blockchain_consensus_rounds",
    "blockchain_network_peers",
]  # fmt: skip
UNITS = re.compile(r"_(milliseconds|ms|minutes|hours|kilobytes|kb|mb|percent)(_|$)")


def complaints(text: str) -> list[str]:
    """What `promtool check metrics` would say: its rules, for machines without it."""
    found = []
    for family in text_string_to_metric_families(text):
        name = family.name
        samples = {sample.name for sample in family.samples}
        if not family.documentation:
            found.append(f"{name} has no help")
        if not re.fullmatch(r"[a-z_:][a-z0-9_:]*", name):
            found.append(f"{name} is not in snake case")
        if UNITS.search(name):
            found.append(f"{name} has no base unit")
        if family.type == "counter" and samples - {f"{name}_total"}:
            found.append(f"counter {name} does not end in _total")
        if family.type != "counter" and name.endswith("_total"):
            found.append(f"{name} ends in _total and is no counter")
        if family.type != "histogram" and re.search(r"_(count|sum|bucket)$", name):
            found.append(f"{name} is named like a part of a histogram")
        if family.type == "histogram":
            counts = [sample.value for sample in family.samples if sample.name.endswith("_bucket")]
            if counts != sorted(counts):
                found.append(f"buckets of {name} are not cumulative")
        keys = [(sample.name, *sorted(sample.labels.items())) for sample in family.samples]
        if len(set(keys)) != len(keys):
            found.append(f"{name} has a sample twice")
    return found


def send(node: TestClient, chain: Chain, nonce: int) -> None:
    tx = chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": 1}, nonce=nonce)
    assert node.post("/rpc/sendTx?wait=final", json=transaction_to_plain(tx)).json()["status"] == "final"


def test_metrics_have_the_seeds_names_and_good_form(node: TestClient, chain: Chain) -> None:
    for nonce in (1, 2):
        send(node, chain, nonce)
    old = transaction_to_plain(chain.sign(ALICE, "TRANSFER", {"to": BOB.address, "amount": 9}, nonce=1))
    assert node.post("/rpc/sendTx", json=old).status_code == 400
    with node.websocket_connect("/rpc/ws") as ws:
        ws.receive_json()
        text = node.get("/metrics").text
    for name in SEED_001:
        assert re.search(rf"^{name} \d", text, re.M), name
    assert complaints(text) == []
    assert "blockchain_followers 1.0" in text
    assert 'blockchain_transactions_refused_total{reason="bad_nonce"} 1.0' in text
    assert re.search(r"^blockchain_commit_seconds_count [2-9]", text, re.M)
    assert re.search(r"^blockchain_block_interval_seconds_count [1-9]", text, re.M)
    assert "process_resident_memory_bytes" in text
    promtool = shutil.which("promtool")
    if promtool:
        checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
        ours = [line for line in checked.stderr.splitlines() if not line.startswith("process_")]
        assert ours == []


def test_the_rules_would_notice() -> None:
    bad = "# TYPE commit_milliseconds gauge\ncommit_milliseconds 1\n# HELP x_total y\n# TYPE x_total gauge\nx_total 1\n"
    assert complaints(bad) == [
        "commit_milliseconds has no help",
        "commit_milliseconds has no base unit",
        "x_total ends in _total and is no counter",
    ]


def test_a_block_is_a_log_line_with_the_seeds_fields(
    node: TestClient, chain: Chain, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    send(node, chain, 1)
    lines = [json.loads(JsonFormatter().format(record)) for record in caplog.records]
    block = next(line for line in lines if line["message"] == "block" and line["txs"] == 1)
    assert (block["component"], block["event"]) == ("chain", "final")
    assert block["height"] >= 1
    assert block["latency_ms"] >= 0
    assert {"ts_ms", "level", "logger"} <= set(block)


# Traces


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    got: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.path.encode() + self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    thread.join()
    server.server_close()


def test_requests_are_traced_when_an_endpoint_is_named(
    chain: Chain, tmp_path: Path, collector: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, got = collector
    made: list[Any] = []
    real = tracing.tracer_provider

    def remembered(*args: Any, **options: Any) -> Any:
        made.append(real(*args, **options))
        return made[-1]

    monkeypatch.setattr("aitbc.node.main.tracer_provider", remembered)
    config = NodeConfig(
        genesis=chain.document, data=tmp_path, proposer=VALIDATOR, never_voted=True, otel_endpoint=endpoint
    )
    with TestClient(create_app(config)) as node:
        send(node, chain, 1)
        node.get("/rpc/getHead")
        assert made[0].force_flush()
    body = b"".join(got)
    assert body.startswith(b"/v1/traces")
    assert b"/rpc/sendTx" in body
    assert b"/rpc/getHead" in body
    assert b"aitbc-node" in body
    made[0].shutdown()


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(StorageError, match=r"pip install 'aitbc\[otel\]'"):
        tracing.tracer_provider("http://127.0.0.1:4318", program="x")
