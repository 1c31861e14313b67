"""`aitbc genesis mine` and `import-ccoin`: the same options make the same chain; nothing of a file is passed over."""

import json
from pathlib import Path
from typing import Any

import pytest

from aitbc.cli import root
from aitbc.cli.ccoin import read_ccoin
from aitbc.cli.errors import CliError, run
from aitbc.core.codec.keytext import key_to_text
from aitbc.core.ledger.genesis import Genesis, parse_genesis
from aitbc.core.types.amounts import AIT
from aitbc.core.types.nakamoto import NakamotoSettings, RewardSettings
from support.people import ALICE, BOB, EVE

ALICES, BOBS = key_to_text(ALICE.auth_key), key_to_text(BOB.auth_key)


def made(folder: Path, *args: str) -> Genesis:
    file = folder / "genesis.json"
    words = ["mine", "-o", str(file), "--force", "--chain-id", "c", "--timestamp", "1700000000", *args]
    assert run(root, ["genesis", *words]) == 0
    return parse_genesis(file.read_bytes())


def test_the_same_options_make_the_same_file(tmp_path: Path) -> None:
    options = ("--miner", ALICES, "--miner", BOBS, "--account", f"{EVE.address}=25ait", "--reward", "7ait")
    one = made(tmp_path, *options, "--difficulty", "4096", "--interval-ms", "600000")
    first = (tmp_path / "genesis.json").read_bytes()
    assert made(tmp_path, *options, "--difficulty", "4096", "--interval-ms", "600000") == one
    assert (tmp_path / "genesis.json").read_bytes() == first
    assert one.consensus.mode == "poa-pow"
    assert one.consensus.work == NakamotoSettings(
        miners=[ALICES, BOBS],
        difficulty=4_096,
        interval_ms=600_000,
        reward=RewardSettings(initial=7 * AIT),
    )
    assert [(account.address, account.balance) for account in one.accounts] == [(EVE.address, 25 * AIT)]


def test_without_miners_anybody_mines_and_the_difficulty_may_follow(tmp_path: Path) -> None:
    genesis = made(tmp_path, "--block-time-ms", "2000", "--reward-era", "1000")
    work = genesis.consensus.work
    assert work is not None
    assert (genesis.consensus.mode, work.miners) == ("pow", [])
    assert (work.difficulty_rule, work.block_time_ms, work.half_life_ms) == ("adjusting", 2_000, 120_000)
    assert work.max_ahead_ms == 1_000
    assert work.reward == RewardSettings(initial=100 * AIT, era_blocks=1_000)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--half-life-ms", "5000"), "--half-life-ms is about --block-time-ms"),
        (("--block-time-ms", "2000", "--half-life-ms", "5000"), "half_life_ms is below 10 x block_time_ms"),
        (
            ("--block-time-ms", "2000", "--max-ahead-ms", "1001"),
            "max_ahead_ms is above half of block_time_ms",
        ),
        (("--min-interval-ms", "5"), "interval_ms is below min_interval_ms"),
        (("--miner", ALICES, "--miner", ALICES), "miners lists a key twice"),
        (("--finality-depth", "65"), "65"),
    ],
)
def test_what_contradicts_itself_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    file = tmp_path / "genesis.json"
    words = ["mine", "-o", str(file), "--chain-id", "c", "--timestamp", "1700000000", *options]
    assert run(root, ["genesis", *words]) != 0
    assert said in capsys.readouterr().err
    assert not file.exists()


# From ccoin

OLD = "968414a7573534a414f4f704b51366f536751764", "968414c6a686a74316a615a4d364f4f317164624"
RICH = "968414d67505a526b6b34614d354d34546734584"
SAMPLE = """{
  "network_id": 1,
  "miners": ["968414a7573534a414f4f704b51366f536751764", "968414c6a686a74316a615a4d364f4f317164624"],
  "block_mining": {
    "interval": 600, // mine block each 10 minutes
    "max_bound": 100, // hundred transactions per block is max
    "min_bound": 10, // 10 transactions per block is min
    "reward": 100, // 100 coins is coinbase transaction in every block mined by miner
    "difficulty": 5, // mining difficulty
    "allow_empty": true, // allow empty block
    "placeholder_data": ["rnd", 15] // if empty block get mined it will be extended with extra 15 bits of data
  },
  "max_peers": 0,
  "genesis_block": {
    "coinbase": "", // coinbase address
    "coinbase_reward": 100,
    "difficulty": 4
  },
  "alloc": { // allocate initial balance among different accounts
    "968414d67505a526b6b34614d354d34546734584": {"balance": 10000000},
    "968414c6a686a74316a615a4d364f4f317164624": {"balance": 100}
  }
}"""
"""Of the seed, as it stands there."""
LEFT_OUT = frozenset(
    {
        "block_mining.placeholder_data",
        "max_peers",
        "genesis_block.coinbase_reward",
        "genesis_block.difficulty",
    }
)
MINERS = {OLD[0]: ALICES, OLD[1]: BOBS}


def test_the_seeds_own_sample_is_read(tmp_path: Path) -> None:
    file, output = tmp_path / "old.json", tmp_path / "genesis.json"
    file.write_text(SAMPLE)
    options = ["import-ccoin", str(file), "-o", str(output), "--timestamp", "1700000000"]
    options += [f"--miner={old}={key}" for old, key in MINERS.items()]
    options += [f"--account={RICH}={EVE.address}", *[f"--without={name}" for name in LEFT_OUT]]
    assert run(root, ["genesis", *options]) == 0
    genesis = parse_genesis(output.read_bytes())
    assert genesis.chain_id == "ccoin-1"
    assert genesis.consensus.mode == "poa-pow"
    assert genesis.consensus.work == NakamotoSettings(
        miners=[ALICES, BOBS],
        difficulty=1_048_576,
        interval_ms=600_000,
        min_transactions=10,
        max_transactions=100,
        reward=RewardSettings(initial=100 * AIT),
    )
    assert [(account.address, account.balance) for account in genesis.accounts] == [
        (EVE.address, 10_000_000 * AIT),
        (BOB.address, 100 * AIT),
    ]


def test_every_field_that_means_nothing_here_is_named() -> None:
    with pytest.raises(CliError) as refused:
        read_ccoin(SAMPLE.encode(), miners=MINERS, accounts={RICH: EVE.address}, without=frozenset())
    assert [name for name in LEFT_OUT if name not in str(refused.value)] == []


def plain() -> dict[str, Any]:
    from aitbc.cli.ccoin import without_comments

    return json.loads(without_comments(SAMPLE.encode()))  # type: ignore[no-any-return]


def set_at(file: dict[str, Any], name: str, value: Any) -> None:
    *path, last = name.split(".")
    for step in path:
        file = file[step]
    if value is None:
        del file[last]
    else:
        file[last] = value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("network_id", None),
        ("network_id", -1),
        ("miners", "me"),
        ("miners", [RICH]),
        ("block_mining.interval", "600"),
        ("block_mining.reward", -100),
        ("block_mining.difficulty", 14),
        ("block_mining.allow_empty", 1),
        ("block_mining.speed", 1),
        ("block_mining.min_bound", 0),
        ("block_mining.max_bound", 20_001),
        ("block_mining.max_bound", None),
        ("genesis_block.coinbase", RICH),
        (f"alloc.{RICH}.balance", -1),
        (f"alloc.{RICH}.nonce", 7),
        (f"alloc.{RICH}.code", "x"),
        ("alloc.968414000000000000000000000000000000000", {"balance": 1}),
        ("hard_fork", True),
    ],
)
def test_what_cannot_be_had_is_refused_by_its_name(name: str, value: Any) -> None:
    file = plain()
    set_at(file, name, value)
    with pytest.raises(CliError) as refused:
        read_ccoin(json.dumps(file).encode(), miners=MINERS, accounts={RICH: EVE.address}, without=LEFT_OUT)
    assert name.split(".")[0] in str(refused.value)
