"""A devnet's folder: only our own marker makes a folder ours, and a reset takes nothing else."""

import json
from pathlib import Path

import pytest

from aitbc.cli.devnet_folder import MARKER, devnet_folder
from aitbc.cli.errors import CliError


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("text", ['{"devnet": 2}', json.dumps({"name": "my devnet project"}), "", "\xff"])
def test_a_project_with_a_file_of_the_same_name_is_left_as_it_is(
    tmp_path: Path, text: str, reset: bool
) -> None:
    (tmp_path / MARKER).write_text(text, encoding="latin-1")
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "index.js").write_text("theirs")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(CliError) as caught, devnet_folder(tmp_path, reset=reset):
        pass
    assert caught.value.code == "not_a_devnet"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_marker_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.json"
    theirs.write_text("{}")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / MARKER).symlink_to(theirs)
    with pytest.raises(CliError), devnet_folder(folder, reset=True):
        pass
    assert theirs.read_text() == "{}"


def test_a_devnet_that_died_while_it_marked_its_folder_can_start_again(tmp_path: Path) -> None:
    (tmp_path / MARKER).touch()
    with devnet_folder(tmp_path, reset=False) as folder:
        assert (folder / "node").is_dir()
    with devnet_folder(tmp_path, reset=True) as folder:
        assert (folder / "hub").is_dir()
