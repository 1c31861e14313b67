"""Every console block of docs/cli is run against a devnet and says what the page says."""

import os
from pathlib import Path

import pytest

from aitbc.adapters.keystore import stores
from aitbc.adapters.keystore.wallet_file import KdfCost
from support.devnet import Network
from support.pages import commands_of, differs, perform, write_down

PAGES = sorted((Path(__file__).resolve().parents[2] / "docs" / "cli").glob("*.md"))
RPC, HUB = "http://127.0.0.1:8080", "http://127.0.0.1:8000"
"""What a devnet's URLs are when nothing is said."""


def test_the_pages_say_what_happens(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, each in a new folder with an empty home; one devnet for all."""
    monkeypatch.setattr(
        stores.FileKeystore.__init__, "__kwdefaults__", {"cost": KdfCost(time_cost=1, memory_kib=8, lanes=1)}
    )
    for name, value in {"AITBC_RPC": network.rpc, "AITBC_HUB": network.hub, "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    wrong: list[str] = []
    for page in PAGES:
        wrong += _run_page(page, network, tmp_path / page.stem, monkeypatch)
    assert not wrong, "\n\n".join(wrong)
    assert sum(len(commands_of(page)) for page in PAGES) > 60


def _run_page(page: Path, network: Network, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    folder.mkdir()
    (folder / "password").touch(mode=0o600)
    (folder / "password").write_text("correct horse battery")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("AITBC_HOME", str(folder / "home"))
    monkeypatch.setenv("AITBC_PASSWORD_FILE", str(folder / "password"))
    wrong, outputs = [], {}
    for command in commands_of(page):
        code, found = perform(command)
        found = [line.replace(network.rpc, RPC).replace(network.hub, HUB) for line in found]
        outputs[command.line] = found
        if code != command.exit_code:
            wrong.append(f"{page.name}:{command.line}: $ {command.text}: exit code {code}: {found}")
        elif difference := differs(command, found):
            wrong.append(difference)
    if os.environ.get("WRITE_PAGES"):
        write_down(page, outputs)
        return [line for line in wrong if "exit code" in line]
    return wrong
