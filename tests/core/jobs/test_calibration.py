"""The job that the chain draws: canonical for every model, other work for every provider and epoch."""

import pytest

from aitbc.core.jobs.calibration import calibration_request, drawn_job
from aitbc.core.jobs.requests import check_normalised
from aitbc.core.jobs.units import PROFILES, profile_of, worst_case_units
from aitbc.core.types.amounts import MAX_UNITS

GENESIS = bytes(32)


def drawn(epoch: int = 1, seed: str = "ab", provider: str = "ait1one") -> str:
    return drawn_job(genesis_hash=GENESIS, epoch=epoch, seed=seed, provider=provider).nonce


@pytest.mark.parametrize("model", sorted(PROFILES))
def test_it_is_a_request_as_any_other(model: str) -> None:
    request = calibration_request(model, drawn())
    check_normalised(profile_of(model), request)
    assert request == calibration_request(model, drawn())
    assert 0 < worst_case_units(profile_of(model), request) <= MAX_UNITS


@pytest.mark.parametrize("other", [{"epoch": 2}, {"seed": "cd"}, {"provider": "ait1two"}], ids=str)
def test_nobody_can_reuse_anothers_work(other: dict[str, object]) -> None:
    mine = calibration_request("tiny-lm", drawn())
    theirs = calibration_request("tiny-lm", drawn(**other))  # type: ignore[arg-type]
    assert mine["prompt"] != theirs["prompt"]
    assert mine["seed"] != theirs["seed"]


def test_its_label_names_epoch_and_provider() -> None:
    job = drawn_job(genesis_hash=GENESIS, epoch=7, seed="", provider="ait1one")
    assert job.job_id == "calibration:7:ait1one"
    assert len(bytes.fromhex(job.nonce)) == 32
