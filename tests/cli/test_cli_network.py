"""Commands against a small devnet: what a user types, sees and can script on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aitbc.adapters.keystore import stores
from aitbc.adapters.keystore.wallet_file import KdfCost
from aitbc.cli import root
from aitbc.cli.errors import run
from aitbc.client.errors import ApiError, Unreachable
from aitbc.core.types.amounts import AIT
from support.small_network import PIXELS, PRICE, STORY, SmallNetwork


class Shell:
    """Runs command lines and keeps what they said."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> int:
        code = run(root, list(arguments))
        self.out, self.err = self._capsys.readouterr()
        return code

    def json(self, *arguments: str) -> object:
        assert self(*arguments, "--json") == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def sh(
    network: SmallNetwork, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Shell:
    monkeypatch.setenv("AITBC_RPC", network.rpc_url)
    monkeypatch.setenv("AITBC_HUB", network.hub_url)
    monkeypatch.setenv("AITBC_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return Shell(capsys)


# Money


def test_send_with_a_unit_waits_until_it_is_final(sh: Shell, network: SmallNetwork) -> None:
    assert sh("send", "bob", "25ait", "--from", "alice", "--wait", "final") == 0
    story, final = sh.out.splitlines()
    assert story.startswith("25 AIT from alice to bob, fee 0.0000")
    assert final.startswith("final in block 2: ")
    assert sh.err == ""
    assert sh("balance", "bob") == 0
    assert sh.out == "1,000,025 AIT\n"


def test_send_answers_programs_in_json(sh: Shell) -> None:
    sent = sh.json("send", "bob", "1.5mait", "--from", "alice")
    assert isinstance(sent, dict)
    assert (sent["status"], sent["receipt"]["status"]) == ("final", "ok")
    assert [event["amount"] for event in sent["receipt"]["events"]][-1] == 1_500


def test_send_may_return_at_once(sh: Shell, network: SmallNetwork) -> None:
    network.node.pending_only = True
    assert sh("send", "bob", "25ait", "--from", "alice", "--wait", "none") == 0
    assert sh.out.splitlines()[1].startswith("sent: ")


def test_waiting_too_long_is_exit_code_6(sh: Shell, network: SmallNetwork) -> None:
    network.node.pending_only = True
    assert sh("send", "bob", "25ait", "--from", "alice", "--timeout", "0.2") == 6
    assert "is not final after 0.2 s; look later with: aitbc tx " in sh.err
    assert sh.err.count("\n") == 1


def test_a_dry_run_sends_nothing(sh: Shell, network: SmallNetwork) -> None:
    before = len(network.node.blocks)
    shown = sh.json("send", "bob", "25ait", "--from", "alice", "--data", "hello", "--dry-run")
    assert isinstance(shown, dict)
    assert shown["tx"]["payload"]["data"] == "hello"
    assert shown["fee"] == shown["tx"]["fee"]
    assert len(network.node.blocks) == before
    assert sh("send", "bob", "25ait", "--from", "alice", "--dry-run") == 0
    assert sh.out.startswith("not sent: 25 AIT from alice to bob")


def test_what_the_chain_refuses_is_exit_code_4(sh: Shell) -> None:
    assert sh("send", "bob", "2000000ait", "--from", "alice") == 4
    assert sh.err.startswith("error: ")
    assert "aitbc explain insufficient_balance" in sh.err
    assert sh("send", "bob", "1ait", "--from", "alice", "--fee", "0uait") == 4
    assert sh.err.count("\n") == 1


def test_balances_of_all_names(sh: Shell) -> None:
    held = {entry["name"]: entry["balance"] for entry in sh.json("balance")}  # type: ignore[attr-defined]
    assert held["alice"] == 1_000_000 * AIT
    assert held["treasury"] == 0
    assert sh("balance") == 0
    assert "1,000,000 AIT" in sh.out


def test_the_faucet(sh: Shell) -> None:
    assert sh("faucet", "treasury", "5ait") == 0
    assert sh("balance", "treasury") == 0
    assert sh.out == "5 AIT\n"


# Names


def test_a_key_of_my_own_is_unlocked_by_its_password(
    sh: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").touch(mode=0o600)
    (tmp_path / "password").write_text("correct horse")
    monkeypatch.setenv("AITBC_PASSWORD_FILE", str(tmp_path / "password"))
    monkeypatch.setattr(
        stores.FileKeystore.__init__, "__kwdefaults__", {"cost": KdfCost(time_cost=1, memory_kib=8, lanes=1)}
    )
    assert sh("keys", "new", "work") == 0
    assert sh("faucet", "work", "5ait") == 0
    assert sh("send", "bob", "2ait", "--from", "work") == 0
    (tmp_path / "password").write_text("wrong horse")
    assert sh("send", "bob", "2ait", "--from", "work") == 1
    assert "password of 'work' is another" in sh.err


def test_public_keys_are_of_no_use_off_a_devnet(
    sh: Shell, network: SmallNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = network.node.answer
    real = answer("GET", "/rpc/genesis", {}, b"")

    def lie(method: str, path: str, query: dict[str, str], body: bytes) -> object:
        if path == "/rpc/genesis":
            return {**real, "params": {**real["params"], "devnet": 0}}
        return answer(method, path, query, body)

    from support.small_network import serving

    with serving(lie) as url:
        assert sh("send", "bob", "1ait", "--from", "alice", "--rpc", url) == 1
    assert "'bob' is a public devnet key" in sh.err


def test_unknown_names_and_mistyped_addresses(sh: Shell) -> None:
    assert sh("balance", "zoe") == 3
    assert "no key named 'zoe'; see: aitbc keys list" in sh.err
    assert sh("balance", "ait1ntpnqd73464d6wv6dfxhvtkk3nj5hkld5nycpx") == 2
    assert "a typing mistake?" in sh.err


# Chain


def test_head_block_and_tx(sh: Shell) -> None:
    sent = sh.json("send", "bob", "25ait", "--from", "alice")
    assert isinstance(sent, dict)
    assert sh("head") == 0
    assert sh.out.splitlines()[0] == "height   2"
    assert sh("block", "2") == 0
    assert sent["txHash"] in sh.out
    assert sh("tx", sent["txHash"]) == 0
    assert "status  final" in sh.out
    assert sh.json("tx", sent["txHash"], "--proof", "--wait", "1")["proof"]["header"]["height"] == 2  # type: ignore[index]


def test_not_found_is_exit_code_3(sh: Shell) -> None:
    assert sh("tx", "00" * 32) == 3
    assert sh("block", "99999") == 3


def test_unreachable_is_exit_code_5(sh: Shell) -> None:
    assert sh("head", "--rpc", "http://127.0.0.1:1") == 5
    assert "start one with: aitbc devnet" in sh.err
    assert sh("image", "x", "-o", "x.png", "--from", "alice", "--hub", "http://127.0.0.1:1") == 5
    assert sh("head", "--rpc", "nonsense") == 5
    assert sh.err.count("\n") == 1


# AI jobs


def test_an_image_with_its_receipt(sh: Shell, tmp_path: Path) -> None:
    made = sh(
        "image", "a red circle on blue", "-o", "out.png", "--from", "alice", "--size", "128", "--seed", "7"
    )
    assert made == 0, sh.err
    assert (tmp_path / "out.png").read_bytes() == PIXELS
    assert [line.split(":")[0] for line in sh.err.splitlines()] == [
        "quoted",
        "paying",
        "escrowed",
        "delivered",
        "claimed",
    ]
    assert sh.out == "out.png and out.png.receipt.json, 0.5 AIT for 2000 compute units, 2.1 AIT minted\n"
    assert sh("verify", "out.png.receipt.json") == 0
    assert sh.out.splitlines()[-1] == "this receipt holds; read the 1 note"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "out.png", "out.png.receipt.json"]
    assert list((tmp_path / "home" / "jobs").iterdir()) == [], "nothing is left to come back to"


def test_the_request_is_what_was_typed(sh: Shell, network: SmallNetwork) -> None:
    options = ("--size", "128", "--seed", "7", "--steps", "30")
    assert sh("image", "a red circle", "-o", "out.png", "--from", "alice", *options) == 0
    request = network.hub.jobs["job_0"]["quote"]["request"]
    expected = {"prompt": "a red circle", "width": 128, "height": 128, "seed": 7, "steps": 30}
    assert {name: request[name] for name in expected} == expected


def test_verify_in_each_way(sh: Shell, network: SmallNetwork, tmp_path: Path) -> None:
    assert sh("image", "a red circle", "-o", "out.png", "--from", "alice") == 0
    genesis_hash = network.node.genesis_hash.hex()
    pinned = sh.json("verify", "out.png.receipt.json", "--genesis-hash", genesis_hash)
    assert isinstance(pinned, dict)
    assert pinned["ok"]
    assert not any(check["warning"] for check in pinned["checks"])
    (tmp_path / "genesis.json").write_text(json.dumps(network.node.answer("GET", "/rpc/genesis", {}, b"")))
    assert sh("verify", "out.png.receipt.json", "--genesis", "genesis.json") == 0
    assert sh("verify", "out.png.receipt.json", "--genesis-hash", "00" * 32) == 1
    assert sh.out.splitlines()[-1] == "this receipt does not hold: genesis"
    assert sh("verify", "out.png.receipt.json", "--genesis-hash", "xyz") == 2
    (tmp_path / "out.png").write_bytes(b"another picture")
    assert sh("verify", "out.png.receipt.json") == 1
    assert sh("verify", "out.png.receipt.json", "--output", "out.png", "--no-output") == 2


def test_a_receipt_without_its_output_is_no_success(sh: Shell, tmp_path: Path) -> None:
    """`output_file` is signed by nobody: whoever empties it must not make the output look checked."""
    assert sh("image", "a red circle", "-o", "out.png", "--from", "alice") == 0
    receipt = tmp_path / "out.png.receipt.json"
    bundle = json.loads(receipt.read_text())
    for name in ("", "no-such-file.png", "out.png.receipt.json", "..", "/"):
        receipt.write_text(json.dumps({**bundle, "output_file": name}))
        assert sh("verify", "out.png.receipt.json") == 0, "the receipt's own name says which output"
        assert f"{len(PIXELS)} bytes hash to" in sh.out
    (tmp_path / "out.png").write_bytes(b"another picture")
    assert sh("verify", "out.png.receipt.json") == 1
    assert sh.out.splitlines()[-1] == "this receipt does not hold: output"
    (tmp_path / "out.png").unlink()
    assert sh("verify", "out.png.receipt.json") == 1
    assert sh.out.splitlines()[-1].startswith("not verified: the output is missing")
    assert "no out.png next to out.png.receipt.json; name it with --output" in sh.out
    assert sh("verify", "out.png.receipt.json", "--no-output") == 0
    assert "not checked: the output file was not given" in sh.out


def test_a_chain_that_only_the_file_vouches_for_is_said_in_the_last_line(
    sh: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aitbc.client.verify.KNOWN_CHAINS", {})
    assert sh("image", "a red circle", "-o", "out.png", "--from", "alice") == 0
    assert sh("verify", "out.png.receipt.json") == 0
    assert "only the file itself vouches for" in sh.out.splitlines()[-1]
    assert "--genesis-hash" in sh.out.splitlines()[-1]


def test_verify_of_what_is_no_receipt(sh: Shell, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    assert sh("verify", "text") == 1
    assert "is no JSON" in sh.err
    (tmp_path / "list").write_text("[1.5]")
    assert sh("verify", "list") == 1
    assert "this receipt does not hold: form" in sh.out
    assert sh("verify", "nothing") == 2


def test_a_receipt_file_cannot_make_verify_read_elsewhere(sh: Shell, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "deep" / "r.json").write_text(json.dumps({"output_file": "../secret"}))
    from aitbc.cli.receipts import _output_of

    assert _output_of(tmp_path / "deep" / "r.json", {"output_file": "../secret"}, None) is None


def test_a_chat_streams_its_text_and_keeps_it(sh: Shell, tmp_path: Path) -> None:
    assert sh("chat", "Once upon", "--from", "alice", "-o", "story.txt", "--max-tokens", "16") == 0
    assert sh.out == STORY + "\n"
    assert (tmp_path / "story.txt").read_text() == STORY
    assert sh("verify", "story.txt.receipt.json") == 0


def test_a_chat_without_a_file_shows_the_receipts_id(sh: Shell, tmp_path: Path) -> None:
    assert sh("chat", "Once upon", "--from", "alice") == 0
    assert sh.out == STORY + "\n"
    assert sh.err.splitlines()[-1].startswith("0.5 AIT for 2000 compute units, receipt rcpt_")
    told = sh.json("chat", "Once upon", "--from", "alice")
    assert isinstance(told, dict)
    assert told["text"] == STORY
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_text_cannot_command_the_terminal(sh: Shell, network: SmallNetwork, tmp_path: Path) -> None:
    """A provider that answers with escape sequences: clear the screen, set the title, C1's CSI, a backspace."""
    network.hub.story = "Once\x1b[2J\x1b]0;pwned\x07 upon\r\x9b31m a\ttime\b\x7f\nend"
    seen = "Once[2J]0;pwned upon31m a\ttime\nend\n"
    assert sh("chat", "Once upon", "--from", "alice", "-o", "story.txt") == 0
    assert sh.out == seen
    assert (tmp_path / "story.txt").read_bytes() == network.hub.story.encode(), "the file is what was signed"
    assert sh("verify", "story.txt.receipt.json") == 0


def test_an_error_cannot_command_the_terminal(sh: Shell, network: SmallNetwork) -> None:
    network.hub.fails_with = "broken\x1b[2J"
    assert sh("chat", "Once upon", "--from", "alice") == 1
    network.hub.quote_lie = {"model": "tiny\x1b[2J"}
    assert sh("chat", "Once upon", "--from", "alice") == 1
    assert "\x1b" not in sh.err


def test_too_dear_is_refused_before_paying(sh: Shell, network: SmallNetwork) -> None:
    assert sh("image", "x", "-o", "x.png", "--from", "alice", "--max-price", "1mait") == 1
    assert "the job costs 0.5 AIT, more than 0.001 AIT; allow more with --max-price" in sh.err


def test_without_a_word_of_the_user_no_job_costs_more_than_5_ait(sh: Shell, network: SmallNetwork) -> None:
    assert sh("image", "--help") == 0
    assert "[default: 5ait]" in " ".join(sh.out.split())
    network.hub.lock_amount = 5 * AIT + 1
    assert sh("image", "x", "-o", "x.png", "--from", "alice") == 1
    assert "the job costs 5.000001 AIT, more than 5 AIT" in sh.err
    assert sh("chat", "x", "--from", "alice") == 1
    network.hub.lock_amount = 5 * AIT
    assert sh("image", "x", "-o", "x.png", "--from", "alice") == 0


def test_a_node_that_asks_too_much_of_a_fee(sh: Shell, network: SmallNetwork) -> None:
    """The node proposes the blocks, so the fee it names would be its own."""
    network.hub.fails_with = "engine_failed"
    assert sh("image", "x", "-o", "x.png", "--from", "alice") == 1
    lock = network.hub.jobs["job_0"]["lock"]
    network.node.ahead_ms = 180_000
    blocks, network.node.asks_fee = len(network.node.blocks), 500_000 * AIT
    asked = "asks a fee of 500,000 AIT for a {}, more than 0.1 AIT; nothing was signed; use another node"
    for arguments, type in [
        (("send", "bob", "1ait", "--from", "alice"), "TRANSFER"),
        (("send", "bob", "1ait", "--from", "alice", "--dry-run"), "TRANSFER"),
        (("refund", lock, "--from", "bob"), "REFUND"),
        (("image", "x", "-o", "x.png", "--from", "alice"), "JOB_LOCK"),
        (("chat", "x", "--from", "alice"), "JOB_LOCK"),
    ]:
        assert sh(*arguments) == 1
        assert asked.format(type) in sh.err.splitlines()[-1]
    assert len(network.node.blocks) == blocks
    network.node.asks_fee = 2 * AIT
    assert sh("refund", lock, "--from", "bob", "--max-fee", "1ait") == 1
    assert sh("refund", lock, "--from", "bob", "--max-fee", "2ait") == 0
    assert sh.out.startswith(f"refund of escrow {lock}, fee 2 AIT\n")
    assert sh("send", "bob", "1ait", "--from", "alice", "--max-fee", "0.5ait") == 1
    assert "more than 0.5 AIT" in sh.err
    assert sh("send", "bob", "1ait", "--from", "alice", "--fee", "3ait") == 0, "--fee is the user's word"
    assert sh.out.startswith("1 AIT from alice to bob, fee 3 AIT\n")


def test_a_place_that_cannot_be_written_is_noticed_before_paying(
    sh: Shell, network: SmallNetwork, tmp_path: Path
) -> None:
    assert sh("image", "x", "-o", "no/such/folder/x.png", "--from", "alice") == 1
    assert "mkdir -p no/such/folder" in sh.err
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "y.png.receipt.json").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "z.png.receipt.json")
    (tmp_path / "link.png").symlink_to("pipe.png")
    places = {
        "folder.png": "'folder.png' is a directory",
        "y.png": "y.png.receipt.json is a folder",
        "pipe.png": "pipe.png is a device or a pipe",
        "link.png": "link.png is a device or a pipe",
        "z.png": "z.png.receipt.json is a device or a pipe",
        "n" * 250: "cannot be written: File name too long",
        "/proc/x.png": "/proc/x.png cannot be written",
    }
    for place, told in places.items():
        for command in ("image", "chat"):
            assert sh(command, "x", "-o", place, "--from", "alice") != 0
            assert told in sh.err
            assert sh.err.count("\n") == 1
    assert network.hub.jobs == {}
    assert (tmp_path / "pipe.png").is_fifo(), "it was left as it was"
    assert not [path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_a_link_stays_a_link(sh: Shell, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "out.png").symlink_to("pictures/red.png")
    assert sh("image", "x", "-o", "out.png", "--from", "alice") == 0
    assert (tmp_path / "out.png").is_symlink()
    assert (tmp_path / "pictures" / "red.png").read_bytes() == PIXELS


def test_a_failed_job_and_its_refund(sh: Shell, network: SmallNetwork) -> None:
    network.hub.fails_with = "engine_failed"
    assert sh("image", "x", "-o", "x.png", "--from", "alice") == 1
    error = sh.err.splitlines()[-1]
    lock = network.hub.jobs["job_0"]["lock"]
    assert error.startswith("error: the engine is no more; if the job is not paid by ")
    assert error.endswith(f"take the escrow back with: aitbc refund {lock} --from NAME")
    assert sh("refund", lock, "--from", "bob") == 4
    assert "aitbc explain refund_too_early" in sh.err
    network.node.ahead_ms = 180_000
    assert sh("refund", lock, "--from", "bob") == 0
    refunded = sh.json("tx", sh.out.split()[-1])
    assert isinstance(refunded, dict)
    assert [event["amount"] for event in refunded["receipt"]["events"] if event["kind"] == "refunded"] == [
        PRICE
    ]


def test_a_receipt_that_the_hub_never_claimed(
    sh: Shell, network: SmallNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "aitbc.client.jobs.add_claim.__kwdefaults__", {"watch": lambda _: None, "timeout": 0.2}
    )
    network.hub.claims = False
    assert sh("image", "x", "-o", "x.png", "--from", "alice") == 6
    error = sh.err.splitlines()[-1]
    assert "x.png and its receipt are written, without the claim" in error
    assert error.endswith("add it with: aitbc claim x.png.receipt.json --from NAME")
    assert sh("verify", "x.png.receipt.json") == 1
    assert sh("claim", "x.png.receipt.json", "--from", "provider") == 0, sh.err
    assert " is claimed, fee 0.0000" in sh.out
    assert sh("verify", "x.png.receipt.json") == 0


def test_a_receipt_file_gets_the_claim_that_others_made(
    sh: Shell, network: SmallNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the claim was waited for; meanwhile the hub claimed."""

    def interrupted(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("aitbc.cli.jobs.add_claim", interrupted)
    assert sh("image", "x", "-o", "x.png", "--from", "alice") == 130
    assert sh.err.splitlines()[-1] == (
        "error: stopped; x.png and its receipt are written, without the claim;"
        " add it with: aitbc claim x.png.receipt.json --from NAME"
    )
    assert sh("verify", "x.png.receipt.json") == 1
    blocks = len(network.node.blocks)
    for _ in range(2):
        assert sh("claim", "x.png.receipt.json", "--from", "alice") == 0
        assert "was claimed already; its proof is in x.png.receipt.json" in sh.out
        assert sh("verify", "x.png.receipt.json") == 0
    assert len(network.node.blocks) == blocks, "nothing was sent, no fee was paid"


# What is interrupted


def test_ctrl_c_after_sending_names_the_transaction(
    sh: Shell, network: SmallNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("aitbc.cli.submit.wait_final", interrupted)
    assert sh("send", "bob", "1ait", "--from", "alice") == 130
    sent = list(network.node.places)[-1]
    told = f"it may have been sent; before trying again, look with: aitbc tx {sent}"
    assert sh.err.strip() == f"error: stopped; {told}"
    assert sh("send", "bob", "1ait", "--from", "alice", "--json") == 130
    assert json.loads(sh.err)["error"]["code"] == "stopped"
    assert sh("faucet", "bob", "1ait") == 130
    assert f"aitbc tx {list(network.node.places)[-1]}" in sh.err


def test_a_node_lost_after_sending_names_the_transaction(
    sh: Shell, network: SmallNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_args: object, **_options: object) -> None:
        raise Unreachable(network.rpc_url, "try again", "gone")

    monkeypatch.setattr("aitbc.cli.submit.wait_final", lost)
    assert sh("send", "bob", "1ait", "--from", "alice") == 5
    assert sh.err.strip().endswith(f"look with: aitbc tx {list(network.node.places)[-1]}")
    assert sh.err.count("\n") == 1


@pytest.mark.parametrize("error", [("http_504", 504), ("bad_answer", 0)])
def test_a_proxy_that_gives_up_after_sending_leaves_the_transactions_name(
    sh: Shell, network: SmallNetwork, monkeypatch: pytest.MonkeyPatch, error: tuple[str, int]
) -> None:
    code, status = error

    def gave_up(*_args: object, **_options: object) -> None:
        raise ApiError(code, "the server failed", "", status)

    monkeypatch.setattr("aitbc.cli.submit.wait_final", gave_up)
    assert sh("send", "bob", "1ait", "--from", "alice") != 0
    assert sh.err.strip().endswith(f"look with: aitbc tx {list(network.node.places)[-1]}")


def test_a_paid_result_is_fetched_when_the_hub_is_back(
    sh: Shell, network: SmallNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aitbc.client.jobs.RESULT_S", 0.2)
    network.hub.away_for = 10**6
    assert sh("image", "x", "-o", "x.png", "--from", "alice") == 1
    assert "a result is fetched with: aitbc result job_0; " in sh.err.splitlines()[-1]
    assert "aitbc refund " in sh.err.splitlines()[-1]
    saved = tmp_path / "home" / "jobs" / "job_0.json"
    assert (saved.stat().st_mode & 0o777, saved.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert saved.parent.parent.stat().st_mode & 0o777 == 0o700
    assert sh("result") == 0
    assert sh.out.startswith(f"job_0  tiny-diffusion  {tmp_path}/x.png  escrow ")
    assert "token" not in sh.out
    assert sh("result", "job_0") == 1
    assert not (tmp_path / "x.png").exists()
    network.hub.away_for = 0
    assert sh("result", "job_0") == 0
    assert sh.out.startswith(f"{tmp_path}/x.png and {tmp_path}/x.png.receipt.json, 0.5 AIT for 2000")
    assert sh("verify", "x.png.receipt.json") == 0
    assert not saved.exists()
    assert sh("result") == 0
    assert sh.out == "no job waits for its result here\n"
    assert sh("result", "job_0") == 3
    assert sh("result", "../keys/work") == 3


def test_a_text_is_fetched_later_too(
    sh: Shell, network: SmallNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aitbc.client.jobs.RESULT_S", 0.2)
    network.hub.away_for = 10**6
    assert sh("chat", "x", "--from", "alice") == 1
    network.hub.away_for = 0
    assert sh("result", "job_0") == 0
    assert sh.out == STORY + "\n"
    network.hub.away_for = 10**6
    assert sh("chat", "x", "--from", "alice") == 1
    network.hub.away_for = 0
    assert sh("result", "job_1", "-o", "story.txt") == 0
    assert (tmp_path / "story.txt").read_text() == STORY


def test_a_full_disk_after_paying_does_not_lose_the_result(
    sh: Shell, network: SmallNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _data: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr("aitbc.cli.jobs.write_bytes", full)
        assert sh("image", "x", "-o", "x.png", "--from", "alice") == 1
    assert "No space left on device; the job is paid; fetch its result with: aitbc result job_0" in sh.err
    assert sh("result", "job_0", "-o", "y.png") == 0
    assert (tmp_path / "y.png").read_bytes() == PIXELS


def test_what_ended_without_a_result_or_a_payment_is_not_kept(
    sh: Shell, network: SmallNetwork, tmp_path: Path
) -> None:
    network.hub.fails_with = "engine_failed"
    assert sh("image", "x", "-o", "x.png", "--from", "alice") == 1
    network.hub.lock_amount = 2_000_000 * AIT
    assert sh("image", "x", "-o", "x.png", "--from", "alice", "--max-price", "3000000ait") == 4
    assert "aitbc re" not in sh.err.splitlines()[-1], "neither result nor refund"
    assert list((tmp_path / "home" / "jobs").iterdir()) == []


def test_a_damaged_saved_job_is_named(sh: Shell, tmp_path: Path) -> None:
    (tmp_path / "home" / "jobs").mkdir(parents=True)
    (tmp_path / "home" / "jobs" / "job_9.json").write_text("{}")
    assert sh("result", "job_9") == 1
    assert "job_9.json is no saved job" in sh.err
    assert sh("result") == 0, "the others are listed all the same"
    assert "job_9.json is no saved job" in sh.err


def test_a_receipt_is_exported_to_seed_003(sh: Shell) -> None:
    assert sh("image", "x", "-o", "x.png", "--from", "alice") == 0
    assert sh("receipt", "export", "x.png.receipt.json", "--format", "seed003") == 0
    exported = json.loads(sh.out)
    assert exported["receipt"]["units"] == 2
    assert len(exported["receipt_hash"]) == 64
    keccak = sh.json("receipt", "export", "x.png.receipt.json", "--format", "seed003", "--hash", "keccak256")
    assert isinstance(keccak, dict)
    assert keccak["receipt_hash"].startswith("0x")


# Terminals, pipes


def outside(network: SmallNetwork, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command line in a shell of its own."""
    return subprocess.run(
        ["bash", "-c", command],
        env={**os.environ, "AITBC_RPC": network.rpc_url, "PY": sys.executable, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_closed_pipe_is_no_traceback(network: SmallNetwork) -> None:
    done = outside(network, '"$PY" -m aitbc explain | head -1')
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_bytes_that_are_no_text_are_a_usage_error(network: SmallNetwork) -> None:
    done = outside(network, "\"$PY\" -m aitbc send bob 1ait --from alice --data $'\\xff'; echo $?")
    assert done.stdout == "2\n"
    assert "not UTF-8" in done.stderr
    assert "Traceback" not in done.stderr


def test_colours_and_bars_only_where_somebody_watches(network: SmallNetwork, tmp_path: Path) -> None:
    image = f'"$PY" -m aitbc image x -o {tmp_path}/x.png --from alice --hub {network.hub_url}'
    verify = f'"$PY" -m aitbc verify {tmp_path}/x.png.receipt.json'
    done = outside(network, f"{image} && {verify}")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    on_terminal = outside(network, f"script -qec '{verify}' /dev/null", TERM="xterm")
    if "script: " not in on_terminal.stderr and on_terminal.returncode == 0:
        assert "\x1b[32m" in on_terminal.stdout
        plain = outside(network, f"script -qec '{verify}' /dev/null", TERM="xterm", NO_COLOR="1")
        assert "\x1b[32m" not in plain.stdout
