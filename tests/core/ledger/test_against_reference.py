"""The ledger and the reference that was written from the specification agree, block after block.

`reference/` has both sides and the people who send. A run is named by its setting and seed. What a run has found is
kept in test_disagreements.py as the shortest story that shows it, because a seed means another run when the people
change.
"""

import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from aitbc.core.ledger import retention
from reference import ledger
from reference.ledger import TOTAL
from reference.world import KINDS_2, SETTINGS, World

SPEC = Path(__file__).resolve().parents[3] / "docs" / "spec"
BY_NAME = {setting.name: setting for setting in SETTINGS}

UNREACHABLE: dict[str, str] = {}
"""Reasons of the ledger that no run can meet, and why: there is none. (That a provider is jailed can not happen: no
evidence is about providers.)"""


def run(name: str, seed: int, blocks: int, *, follow: bool = False) -> Counter[tuple[str, str]]:
    world = World(Random(seed), BY_NAME[name], follow=follow)
    for _ in range(blocks):
        world.a_block()
        if world.stopped:
            break
        if follow and world.chance(30):
            world.twin.restart()
    world.finish()
    return world.twin.seen


@pytest.mark.parametrize("seed", range(1000, 1004))
@pytest.mark.parametrize("name", BY_NAME)
def test_code_and_reference_agree(name: str, seed: int) -> None:
    run(name, seed, 70, follow=seed % 2 == 1)


@pytest.mark.parametrize("name", [setting.name for setting in SETTINGS if setting.work is not None])
def test_where_work_agrees_authors_earn_and_receipts_mint_nothing(name: str) -> None:
    paid, was_full = 0, False
    for seed in (7, 8, 9):
        world = World(Random(seed), BY_NAME[name])
        for _ in range(60):
            world.a_block()
            was_full = was_full or world.ledger.supply() == TOTAL
        ledger, seen = world.ledger, world.twin.seen
        paid += seen["event", "paid"]
        assert (seen["event", "minted"], ledger.counter("supply.minted")) == (0, 0)
        assert not any(key.startswith("score:") for key in ledger.stores["validators"])
        assert ledger.counter("supply.rewards") > 0
    assert paid > 10, "receipts are paid"
    assert was_full == (BY_NAME[name].room is not None), "the last reward is what is left below the bound"


def test_what_one_block_retires_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is 2,000; with one it is met all the time, and the rest leaves later."""
    assert (ledger.RETIRED_AT_ONCE, retention.MAX_RETIRED) == (2_000, 2_000)
    monkeypatch.setattr(ledger, "RETIRED_AT_ONCE", 1)
    monkeypatch.setattr(retention, "MAX_RETIRED", 1)
    left = 0
    for seed in range(3):
        world = World(Random(seed), BY_NAME["plain"])
        world.twin.all_in_time = False
        for _ in range(60):
            for _ in range(2):
                world.a_block()
            left += any(len(due) == 1 for due in world.ledger.due)
    assert left > 50


def test_the_reference_is_written_from_the_specification() -> None:
    """It shares no code with what it is compared with."""
    for name in ("forms.py", "ledger.py", "tree.py"):
        text = (Path(__file__).resolve().parents[2] / "reference" / name).read_text()
        imported = re.findall(r"^from (aitbc\S*) import", text, re.M)
        assert imported and all(re.match(ALLOWED, module) for module in imported), imported


ALLOWED = r"aitbc\.core\.(codec|types|crypto\.(address|hashing|merkle|schemes))\b"


class Chains(RuleBasedStateMachine):
    """Hypothesis chooses what is sent and when a block ends, and makes a failing run short."""

    @initialize(random=st.randoms(use_true_random=False), setting=st.sampled_from(SETTINGS))
    def begin(self, random: Random, setting: object) -> None:
        self.world = World(random, setting)  # type: ignore[arg-type]
        self.world.begin()

    @precondition(lambda self: not self.world.stopped)
    @rule(random=st.randoms(use_true_random=False), kind=st.sampled_from(sorted(KINDS_2)))
    def send(self, random: Random, kind: str) -> None:
        self.world.random = random
        self.world.send(kind)

    @precondition(lambda self: not self.world.stopped)
    @rule(random=st.randoms(use_true_random=False))
    def end_block(self, random: Random) -> None:
        self.world.random = random
        self.world.commit()
        if not self.world.stopped:
            self.world.begin()

    @precondition(lambda self: not self.world.stopped)
    @rule(random=st.randoms(use_true_random=False))
    def take_blocks_back(self, random: Random) -> None:
        self.world.random = random
        self.world.commit()
        self.world.twin.retract(random.randrange(1, min(5, len(self.world.twin.history) + 1)))
        self.world.begin()

    def teardown(self) -> None:
        if hasattr(self, "world") and not self.world.stopped:
            self.world.random = Random(0)
            self.world.commit()
            self.world.finish()


SHORT_RUNS = settings(
    phases=[Phase.explicit, Phase.generate],
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=25,
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
)
Chains.TestCase.settings = SHORT_RUNS
TestChains = Chains.TestCase


def reasons_of_the_ledger() -> set[str]:
    """What docs/spec/reasons.md says a transaction can be refused for, policy of nodes aside."""
    rows = re.findall(r"^\| `(\w+)` \| (form|invalid|failed) \|", (SPEC / "reasons.md").read_text(), re.M)
    return {reason for reason, _ in rows}


def events_of_the_ledger() -> set[str]:
    table = (SPEC / "execution.md").read_text().split("| kind | key | number | by |")[1].split("\n\n")[0]
    return {
        kind
        for line in table.splitlines()
        for kind in re.findall(r"`(\w+)`", line.split("|")[1:2][0] if line else "")
    }


REASONS_OF_TYPES = {
    "TRANSFER": "insufficient_balance",
    "FAUCET": "not_devnet not_faucet faucet_limit supply_exhausted",
    "JOB_LOCK": "unknown_hub jailed deadline_passed deadline_too_far insufficient_balance",
    "RECEIPT_CLAIM": "receipt_already_claimed unknown_lock unknown_provider wrong_job wrong_client wrong_hub"
    " unknown_task task_already_paid lock_closed claim_too_late price_above_escrow synthetic_not_allowed"
    " unknown_synthetic_job"
    " bad_provider_signature bad_attestation_signature calibration_over wrong_calibration already_calibrated"
    " supply_exhausted receipt_id_mismatch attestation_missing attestation_mismatch units_above_attested wrong_key",
    "REFUND": "unknown_lock lock_closed refund_too_early",
    "REGISTER": "bad_countersignature unknown_validator duplicate_key unexpected_witness wrong_key",
    "RECEIPT_BATCH": "unknown_hub jailed",
    "SETTLE": "unknown_batch batch_expired bad_proof nothing_to_settle supply_exhausted malformed not_canonical",
    "STAKE": "insufficient_balance out_of_range bad_key insufficient_stake",
    "UNSTAKE": "insufficient_stake too_many_unbonding leaving_too_fast",
    "WITHDRAW": "nothing_to_withdraw",
    "PARAM_UPDATE": "wrong_update_number bad_approval not_enough_approvals too_many_queued bad_update pubkey_required"
    " unknown_param out_of_range missing_field wrong_key",
    "KEY_ROTATE": "bad_key_proof bad_hex bad_key unknown_scheme too_many_rotations",
    "EVIDENCE": "no_conflict evidence_too_old unknown_validator bad_evidence_signature unknown_lock wrong_hub"
    " already_punished missing_field wrong_key bad_proof too_large",
    "free": "unknown_validator bad_countersignature faucet_limit supply_exhausted",
    "other keys' fee": "RECEIPT_CLAIM REGISTER KEY_ROTATE EVIDENCE",
    "skipped": "unknown_provider unknown_lock wrong_hub lock_closed claim_too_late unknown_task task_already_paid"
    " price_above_escrow",
    "gone": "locks receipts batch offence queued score validators bond",
    "lock": "settled refunded",
    "set": "members keys powers ramp",
    "slots": "freed filled given_up",
    "state": "key_forgotten minted_on_bond bond_remembers_its_mint longest_lock activations_taken_back"
    " scale_below_one score punished_again longest_jail score_halved",
}
"""What a long run must meet of each type, and of what blocks do by themselves."""


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_long_run_meets_everything_there_is() -> None:
    seen: Counter[tuple[str, str]] = Counter()
    for name in BY_NAME:
        for seed in range(4 if BY_NAME[name].work else 16):
            seen += run(name, seed, 200, follow=seed % 4 == 0)
    print("\n".join(f"{count:7} {kind} {what}" for (kind, what), count in sorted(seen.items())))
    expected = {(kind, what) for kind, words in REASONS_OF_TYPES.items() for what in words.split()}
    expected |= {("event", kind) for kind in events_of_the_ledger()}
    expected |= {(kind, "ok") for kind in KINDS_2}
    assert expected - set(seen) == set()
    assert reasons_of_the_ledger() - {what for _, what in seen} == set(UNREACHABLE)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_hypothesis_finds_no_difference_in_long_runs() -> None:
    long_runs = settings(SHORT_RUNS, max_examples=400, stateful_step_count=120)
    run_state_machine_as_test(Chains, settings=long_runs)
