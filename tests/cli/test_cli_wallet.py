"""The wallet against a real node on a chain of its own: every kind of account and every type of transaction."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aitbc.adapters.keystore import stores
from aitbc.adapters.keystore.wallet_file import KdfCost
from aitbc.cli import root
from aitbc.cli.errors import run
from aitbc.cli.transactions import TYPES
from aitbc.client.signing import KeySigner
from aitbc.core.ledger.transactions import TYPES as LEDGER_TYPES
from support.lone_node import LoneNode, lone_node

AUTHOR, ALICE, BOB, CAROL = (bytes([n]) * 32 for n in (1, 2, 3, 4))
SECRETS = {"author": AUTHOR, "ann": ALICE, "ben": BOB, "cleo": CAROL}
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneNode]:
    funded = {KeySigner(seed).address: 10_000 for seed in (AUTHOR, ALICE)}
    hub = ["--listed-hub", KeySigner(AUTHOR).address]
    with lone_node(tmp_path_factory.mktemp("chain"), AUTHOR, funded, more=hub) as node:
        yield node


class Wallet:
    """A home folder with keys, and the command line in it."""

    def __init__(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self._capsys, self.folder = capsys, folder
        self.home = folder / "home"
        self.out = self.err = ""

    def __call__(self, *words: str, code: int = 0) -> str:
        found = run(root, ["--home", str(self.home), *words])
        self.out, self.err = self._capsys.readouterr()
        assert found == code, self.out + self.err
        return self.out

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json"))

    def balance(self, name: str) -> int:
        return int(self.json("balance", name)["balance"])

    def at(self, home: str) -> "Wallet":
        """The same person at another machine."""
        other = Wallet(self._capsys, self.folder)
        other.home = self.folder / home
        return other


@pytest.fixture
def wallet(
    chain: LoneNode, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Wallet:
    monkeypatch.setenv("AITBC_RPC", chain.rpc)
    (tmp_path / "password").touch(mode=0o600)
    (tmp_path / "password").write_text(PASSWORD)
    monkeypatch.setenv("AITBC_PASSWORD_FILE", str(tmp_path / "password"))
    monkeypatch.setattr(
        stores.FileKeystore.__init__, "__kwdefaults__", {"cost": KdfCost(time_cost=1, memory_kib=8, lanes=1)}
    )
    monkeypatch.chdir(tmp_path)
    wallet = Wallet(capsys, tmp_path)
    capsys.readouterr()
    return wallet


def give(wallet: Wallet, *names: str) -> None:
    """Import some of the four keys."""
    for name in names:
        (wallet.folder / f"{name}.hex").write_text(SECRETS[name].hex())
        wallet("keys", "import", name, str(wallet.folder / f"{name}.hex"))


# Chains


def test_the_first_use_of_a_node_is_told_and_remembered(wallet: Wallet, chain: LoneNode) -> None:
    give(wallet, "ann", "ben")
    wallet("send", "ben", "1ait", "--from", "ann")
    assert f"first use of {chain.rpc}: it says it is on ait-test, genesis" in wallet.err
    wallet("send", "ben", "1ait", "--from", "ann")
    assert wallet.err == ""
    assert wallet.json("chain", "list")["nodes"].keys() == {chain.rpc}


def test_a_node_that_changes_its_chain_gets_no_signature(
    wallet: Wallet, chain: LoneNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The liar says that it is on the other chain, where the same key has coins."""
    give(wallet, "ann", "ben")
    wallet("send", "ben", "1ait", "--from", "ann")
    signed: list[bytes] = []
    monkeypatch.setattr(KeySigner, "sign", lambda _, digest: signed.append(digest) or b"")
    pins = wallet.home / "chains.json"
    honest = pins.read_text()
    pins.write_text(honest.replace(wallet.json("head")["genesisHash"], "ab" * 32))
    wallet("send", "ben", "1ait", "--from", "ann", code=4)
    assert "nothing was signed" in wallet.err
    assert f"aitbc chain forget {chain.rpc}" in wallet.err
    wallet("chain", "forget", chain.rpc)
    wallet("send", "ben", "1ait", "--from", "ann", code=4)
    assert "is known, and this says to be ait-test" in wallet.err
    assert signed == []


def test_chain_names_the_only_one_to_sign_for(wallet: Wallet) -> None:
    give(wallet, "ann", "ben")
    genesis_hash = wallet.json("head")["genesisHash"]
    wallet("send", "ben", "1ait", "--from", "ann", "--chain", "ait-main", code=4)
    assert "is chain ait-test" in wallet.err
    wallet("send", "ben", "1ait", "--from", "ann", "--chain", genesis_hash[:12])
    wallet("send", "ben", "1ait", "--from", "ann", "--chain", "ait-test")


def test_a_chain_can_be_known_before_any_node(wallet: Wallet, chain: LoneNode) -> None:
    give(wallet, "ann", "ben")
    other = json.loads(chain.genesis.read_text())
    other["timestamp"] += 1
    (wallet.folder / "genesis.json").write_text(json.dumps(other))
    wallet("chain", "add", str(wallet.folder / "genesis.json"))
    wallet("send", "ben", "1ait", "--from", "ann", code=4)
    wallet("chain", "forget", "ait-test")
    wallet("chain", "add", str(chain.genesis))
    wallet("send", "ben", "1ait", "--from", "ann")


# Keys that are elsewhere


def test_a_cold_key_signs_on_a_machine_without_network(
    wallet: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    cold = wallet.at("cold")
    give(cold, "ann")
    public = cold.json("keys", "show", "ann")["pubkey"]
    wallet("keys", "watch", "savings", public)
    give(wallet, "ben")
    before = wallet.balance("ben")
    wallet("send", "ben", "3ait", "--from", "savings", code=1)
    assert "is not here; import it, or write the transaction to a file" in wallet.err
    wallet("send", "ben", "3ait", "--from", "savings", "--unsigned", "tx.json")
    wallet("tx", "broadcast", "tx.json", code=1)
    assert "0 of 1 signatures" in wallet.err
    with monkeypatch.context() as unplugged:
        unplugged.setenv("AITBC_RPC", "http://127.0.0.1:9")
        cold("tx", "sign", "tx.json", "--key", "ann")
        assert "3 AIT" in cold.err and "ait-test, genesis" in cold.err
    sent = wallet.json("tx", "broadcast", "tx.json")
    assert sent["status"] == "final"
    assert wallet.balance("ben") == before + 3_000_000
    again = wallet.json("tx", "broadcast", "tx.json")
    assert again["txHash"] == sent["txHash"]
    assert wallet.balance("ben") == before + 3_000_000


def test_only_an_address_is_enough_to_watch(wallet: Wallet) -> None:
    wallet("keys", "watch", "rich", KeySigner(ALICE).address)
    assert wallet.balance("rich") > 0
    assert "rich" in wallet("keys", "list")
    wallet("keys", "watch", "rich", KeySigner(BOB).address, code=1)
    wallet("keys", "watch", "poor", "ait1nonsense", code=2)
    wallet("keys", "forget", "rich")
    assert "rich" not in wallet("keys", "list")


def test_two_of_three_sign_on_their_own_machines(wallet: Wallet) -> None:
    machines = {name: wallet.at(f"of-{name}") for name in ("ann", "ben", "cleo")}
    keys = {}
    for name, machine in machines.items():
        give(machine, name)
        keys[name] = machine.json("keys", "show", name)["pubkey"]
    members = [part for key in keys.values() for part in ("--member", key)]
    team = machines["ann"].json("keys", "multisig", "team", "-k", "2", *members)
    swapped = [part for key in reversed(keys.values()) for part in ("--member", key)]
    assert machines["ben"].json("keys", "multisig", "team", "-k", "2", *swapped)["address"] == team["address"]
    ann, ben, cleo = (machines[name] for name in ("ann", "ben", "cleo"))
    ann("send", team["address"], "50ait", "--from", "ann")

    ann("send", "team", "1ait", "--from", "team", code=1)
    assert "team signs with 2 of 3 keys" in ann.err
    ann("send", KeySigner(BOB).address, "7ait", "--from", "team", "--unsigned", "tx.json")
    ben("tx", "sign", "tx.json", "--key", "ben", "-o", "ben.json")
    cleo("tx", "sign", "tx.json", "--key", "cleo", "-o", "cleo.json")
    ann("tx", "broadcast", "ben.json", code=1)
    assert "1 of 2 signatures" in ann.err
    ann("tx", "combine", "ben.json", "cleo.json", "-o", "both.json")
    assert ann.json("tx", "decode", "both.json")["missing"] == 0
    assert ann.json("tx", "broadcast", "both.json")["status"] == "final"
    assert ann.balance("team") < 43_000_000

    ann("send", KeySigner(BOB).address, "8ait", "--from", "team", "--unsigned", "other.json")
    ben("tx", "combine", "other.json", "ben.json", "-o", "x.json", code=1)
    assert "one file is transaction" in ben.err
    wallet("keys", "import", "stranger", str(_hex(wallet, 9)))
    wallet("tx", "sign", "other.json", "--key", "stranger", code=1)
    assert "neither the key of" in wallet.err


def test_what_was_changed_on_the_way_is_refused(wallet: Wallet) -> None:
    """Between the first signature and the second, somebody writes another amount into the file."""
    give(wallet, "ann", "ben")
    wallet("keys", "multisig", "both", "-k", "2", "--member", "ann", "--member", "ben")
    wallet("send", "both", "9ait", "--from", "ann")
    wallet("send", "ben", "1ait", "--from", "both", "--unsigned", "tx.json")
    wallet("tx", "sign", "tx.json", "--key", "ann")
    file = wallet.folder / "tx.json"
    file.write_text(file.read_text().replace('"amount": 1000000', '"amount": 8000000'))
    wallet("tx", "sign", "tx.json", "--key", "ben", code=1)
    assert "is not good for this transaction" in wallet.err
    file.write_text('{"format": "aitbc-transaction-1"')
    wallet("tx", "sign", "tx.json", "--key", "ben", code=1)
    assert wallet.err.count("\n") == 1


def test_a_file_that_gives_a_known_chain_another_name_is_not_signed(wallet: Wallet) -> None:
    give(wallet, "ann", "ben")
    wallet("send", "ben", "1ait", "--from", "ann", "--unsigned", "tx.json")
    file = wallet.folder / "tx.json"
    file.write_text(file.read_text().replace('"ait-test"', '"ait-playground"'))
    wallet("tx", "sign", "tx.json", "--key", "ann", code=4)
    assert "is known, and this says to be ait-playground" in wallet.err


# Every type


def test_every_type_of_the_ledger_can_be_made() -> None:
    assert set(TYPES) == set(LEDGER_TYPES)


def test_a_bond_goes_in_and_out(wallet: Wallet) -> None:
    give(wallet, "ann")
    before = wallet.balance("ann")
    wallet("stake", "100ait", "--role", "hub", "--from", "ann")
    assert wallet.balance("ann") < before - 99_000_000
    wallet("unstake", "40ait", "--role", "hub", "--from", "ann")
    wallet("withdraw", "--role", "hub", "--from", "ann", code=4)
    assert "the next part is free at block time" in wallet.err
    wallet("unstake", "100ait", "--role", "hub", "--from", "ann", code=4)
    assert "100 AIT to unstake, 60 AIT staked" in wallet.err


def test_a_parameter_is_proposed_approved_and_sent(wallet: Wallet) -> None:
    give(wallet, "author", "ann")
    wallet("params", "propose", "update.json", "--set", "base_fee=3uait", "--set", "slash_bp=400")
    assert json.loads((wallet.folder / "update.json").read_text())["payload"]["set"] == {
        "base_fee": 3,
        "slash_bp": 400,
    }
    wallet("params", "submit", "update.json", "--from", "ann", code=1)
    assert "no validator of the running set has approved" in wallet.err
    wallet("params", "approve", "update.json", "--key", "ann")
    wallet("params", "approve", "update.json", "--key", "author")
    sent = wallet.json("params", "submit", "update.json", "--from", "ann")
    assert "ann" not in wallet.err
    assert [event["kind"] for event in sent["receipt"]["events"]][-1] == "queued"
    wallet("params", "propose", "update.json", "--set", "base_fee=4")
    assert json.loads((wallet.folder / "update.json").read_text())["payload"]["number"] == 2
    assert json.loads(wallet("params", "show", "--json"))["base_fee"] == 2


def test_a_rotated_account_goes_on_under_its_new_key(wallet: Wallet) -> None:
    give(wallet, "ann", "ben")
    wallet("keys", "import", "old", str(_hex(wallet, 21)))
    wallet("keys", "import", "new", str(_hex(wallet, 22)))
    wallet("send", "old", "20ait", "--from", "ann")
    wallet("keys", "rotate", "--from", "old", "--to", "new")
    before = wallet.balance("ben")
    wallet("send", "ben", "5ait", "--from", "old")
    assert wallet.balance("ben") == before + 5_000_000
    assert wallet.balance("new") == 0
    other = wallet.at("without")
    other("keys", "import", "old", str(_hex(wallet, 21)))
    other("send", KeySigner(BOB).address, "1ait", "--from", "old", code=1)
    assert "is not here" in other.err


def test_providers_and_hubs_are_registered(wallet: Wallet) -> None:
    give(wallet, "author", "ann")
    wallet(
        "provider", "register", "--from", "ann", "--model", "tiny-lm:chat:1ait", "--validator-key", "author"
    )
    wallet("hub", "register", "--from", "ann", "--endpoint", "https://hub.example")
    word = wallet("keys", "vouch", "ann", "--key", "author").strip()
    wallet(
        *("provider", "register", "--from", "ann", "--model", "tiny-lm:chat:2ait"),
        *("--validator", "author", "--validator-sig", word),
    )
    wallet("provider", "register", "--from", "ann", "--model", "tiny-lm", code=2)


def test_any_type_can_be_made_from_its_payload(wallet: Wallet) -> None:
    give(wallet, "author", "ann")
    (wallet.folder / "batch.json").write_text(json.dumps({"root": "ab" * 32, "count": 5}))
    sent = wallet.json("tx", "make", "RECEIPT_BATCH", "batch.json", "--from", "author")
    assert sent["receipt"]["events"][-1]["kind"] == "batched"
    shown = wallet.json("tx", "make", "RECEIPT_BATCH", "batch.json", "--from", "ann", "--dry-run")
    assert shown["tx"]["payload"]["count"] == 5
    (wallet.folder / "refund.json").write_text(json.dumps({"lock": "cd" * 32}))
    wallet("tx", "make", "REFUND", "refund.json", "--from", "ann", code=4)
    assert "there is no lock cdcd" in wallet.err
    (wallet.folder / "list.json").write_text("[1]")
    wallet("tx", "make", "TRANSFER", "list.json", "--from", "ann", code=1)


def _hex(wallet: Wallet, number: int) -> Path:
    file = wallet.folder / f"{number}.hex"
    file.write_text(bytes([number] * 32).hex())
    return file
