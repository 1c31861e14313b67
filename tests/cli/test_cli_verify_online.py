"""`aitbc verify` on a chain whose validators have changed: offline with the whole file, with --rpc without it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aitbc.cli import root
from aitbc.cli.errors import run
from aitbc.core.codec.keytext import key_to_text
from aitbc.node.proofs import prove_final
from support.ledger import people
from support.paid_work import paid_work
from support.people import PROVIDER
from support.small_network import PIXELS, Refusal, serving
from support.voters import VotedLedger

ANN, BEN = MEMBERS = people("member", 2)
Verify = Callable[..., int]


@pytest.fixture(scope="module")
def chain() -> VotedLedger:
    """Ann decides epoch 0, Ann and Ben what follows."""
    chain = VotedLedger(voters=MEMBERS, authorities=(ANN,), more=[*MEMBERS, PROVIDER], epoch_length=4)
    chain.register(PROVIDER)
    named = [{"address": who.address, "pubkey": key_to_text(who.auth_key)} for who in MEMBERS]
    assert chain.change((ANN,), authorities=named) == "done"
    chain.go_to(8)
    return chain


@pytest.fixture
def rpc(chain: VotedLedger) -> Iterator[str]:
    def answer(_method: str, path: str, _query: Any, _body: bytes) -> Any:
        parts = path.strip("/").split("/")
        if parts[:2] != ["rpc", "finality"]:
            raise Refusal(404, "not_found")
        return prove_final(chain.executor, chain.store, int(parts[2]))

    with serving(answer) as url:
        yield url


@pytest.fixture
def verify(chain: VotedLedger, tmp_path: Path) -> Verify:
    """Of a file that names the block's certificate and not who signed it, as 0.1.0 wrote it."""
    bundle = paid_work(chain, PROVIDER)
    proof = prove_final(chain.executor, chain.store, chain.height)
    bundle["claim"].update(header=proof["headers"][0], certificate=proof["certificate"])
    (tmp_path / "out.png").write_bytes(PIXELS)
    file = tmp_path / "out.png.receipt.json"
    file.write_text(json.dumps(bundle))
    return lambda *options: run(
        root, ["verify", str(file), "--genesis-hash", chain.genesis_hash.hex(), *options]
    )


def test_offline_it_is_not_verified(verify: Verify, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify() == 1
    certificate, last = capsys.readouterr().out.splitlines()[-2:]
    assert "not proved: the file does not say whose votes" in certificate
    assert last.startswith("not verified: nothing proves who made the claim's block final")


def test_with_a_node_it_holds(verify: Verify, rpc: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify("--rpc", rpc) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "this receipt holds"
    assert "signed by 2 of 2 validators" in lines[-2]


def test_a_url_of_the_environment_makes_nobody_online(
    verify: Verify, rpc: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AITBC_RPC", rpc)
    assert verify() == 1


def test_a_node_that_does_not_answer(verify: Verify) -> None:
    assert verify("--rpc", "http://127.0.0.1:9") == 5
