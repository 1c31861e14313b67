"""What every engine promises, whatever it computes with: the same story for each of them.

Engines of an extra join when it is installed (`make test-torch`); what is not is skipped with its reason.
"""

import importlib.util
import io
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from aitbc.core.codec.digests import receipt_core_digest
from aitbc.core.crypto.hashing import hash_text
from aitbc.core.jobs.draw import candidates_hash, ticket_of
from aitbc.core.jobs.receipts import Computed, Delivery, Offer, build_core, build_details, check_delivery
from aitbc.core.jobs.requests import engine_request, normalise_request, request_hash_of
from aitbc.core.jobs.units import actual_units, kind_of, price_of, profile_of, worst_case_units
from aitbc.ports import ENGINE_REASONS, Engine, EngineError, EngineOutput, Estimating, ModelCard, Stepwise
from contracts.engine_cases import CASES, Case
from support.people import ALICE, HUB, PROVIDER

GENESIS_HASH = bytes(range(32))


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    if found.extra and importlib.util.find_spec(found.extra) is None:
        pytest.skip(f"{found.name} needs {found.extra}: make test-torch")
    return found


@pytest.fixture(scope="module")
def engine(case: Case) -> Iterator[Engine]:
    with case.made() as made:
        made.load(case.model)
        yield made


def canonical(case: Case, fields: dict[str, Any]) -> dict[str, Any]:
    return normalise_request(profile_of(case.model), fields, nonce="0f" * 16)


def run(engine: Engine, case: Case, fields: dict[str, Any], heard: list[Any] | None = None) -> EngineOutput:
    request = engine_request(canonical(case, fields))
    emit = heard.append if heard is not None else lambda _event: None
    return engine.run(case.model, request, emit, lambda: False)


def how_it_ends(work: Callable[[], EngineOutput]) -> EngineOutput | str:
    """What it delivers, or the reason why it delivers nothing."""
    try:
        return work()
    except EngineError as error:
        return error.reason


def card_of(engine: Engine, case: Case) -> ModelCard:
    return next(card for card in engine.models() if card.model == case.model)


# what it says of itself


def test_a_card_names_a_model_that_can_be_billed(engine: Engine, case: Case) -> None:
    card = card_of(engine, case)
    assert card.kind == kind_of(profile_of(card.model))
    assert card.digest.startswith("sha256:") and len(card.digest) == 71
    assert card.together >= 1 and card.memory_bytes >= 0
    assert all(type(limit) is int for limit in card.limits.values())
    msgspec.msgpack.decode(msgspec.msgpack.encode(card), type=ModelCard)


def test_loading_twice_is_loading_once_and_an_unknown_model_is_named(engine: Engine, case: Case) -> None:
    engine.load(case.model)
    with pytest.raises(EngineError, match="model") as error:
        engine.load("no-such-model")
    assert error.value.reason == "bad_request"


def test_a_loaded_engine_reads_no_more_files(engine: Engine, case: Case) -> None:
    """Warm means warm: weights that are read at the first job would be somebody's waiting time."""
    opened: list[str] = []
    watching = True

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event == "open" and not str(arguments[0]).endswith((".py", ".pyc")):
            opened.append(str(arguments[0]))

    sys.addaudithook(hear)
    try:
        run(engine, case, case.quick)
    finally:
        watching = False
    assert opened == []


# what it delivers


def test_what_it_delivers_passes_the_hubs_check(engine: Engine, case: Case) -> None:
    profile, request = profile_of(case.model), canonical(case, case.quick)
    units = worst_case_units(profile, request)
    offer = Offer(
        chain_id="ait-test",
        job_id="job_1",
        lock="ab" * 32,
        task=0,
        attempt=1,
        ticket=ticket_of(lock="ab" * 32, task=0, attempt=1),
        client=ALICE.address,
        provider=PROVIDER.address,
        hub=HUB.address,
        kind=kind_of(profile),
        model=case.model,
        model_digest=hash_text(b"weights"),
        request=request,
        request_hash=request_hash_of(request),
        candidates_hash=candidates_hash([]),
        units=units,
        price_per_kilounit=1_000,
        price=price_of(units, 1_000),
        deliver_by_ms=2_000,
        claim_until_ms=3_000,
    )
    output = run(engine, case, case.quick)
    computed = Computed(
        data=output.data,
        counts=output.counts,
        transcript=output.transcript,
        notes=output.notes,
        started_ms=1,
        finished_ms=2,
        engine_ms=1,
    )
    details = build_details(offer, computed)
    core = build_core(offer, details)
    sig = PROVIDER.sign(receipt_core_digest(core, GENESIS_HASH)).hex()
    delivery = Delivery(details=details, core=core, sig=sig, media_type=output.media_type)
    check_delivery(offer, delivery, output.data, provider_key=PROVIDER.auth_key, genesis_hash=GENESIS_HASH)
    assert output.transcript, "without intermediate results nobody can check a part"


def test_the_same_request_gives_the_same_bytes(engine: Engine, case: Case) -> None:
    first, again = run(engine, case, case.quick), run(engine, case, case.quick)
    assert first == again


def test_another_seed_gives_another_result(engine: Engine, case: Case) -> None:
    if "seed" not in canonical(case, case.quick):
        pytest.skip("nothing is drawn at random in an embedding")
    results = {run(engine, case, {**case.quick, "seed": seed}).data for seed in range(4)}
    assert len(results) > 1


def test_what_is_counted_is_below_the_estimate_and_that_below_the_quote(engine: Engine, case: Case) -> None:
    profile = profile_of(case.model)
    assert isinstance(engine, Estimating)
    for fields in (case.quick, case.long):
        request = canonical(case, fields)
        estimate = engine.estimate(case.model, engine_request(request))
        counts = run(engine, case, fields).counts
        assert all(counts[name] <= most for name, most in estimate.counts.items())
        assert set(counts) == set(estimate.counts)
        assert actual_units(profile, request, counts) <= actual_units(profile, request, estimate.counts)
        assert actual_units(profile, request, estimate.counts) <= worst_case_units(profile, request)


def test_a_run_stays_below_the_memory_that_it_said(engine: Engine, case: Case) -> None:
    """Of what Python and numpy allocate; torch keeps its own books, and its engines have tests of their own."""
    assert isinstance(engine, Estimating)
    said = engine.estimate(case.model, engine_request(canonical(case, case.long))).memory_bytes
    tracemalloc.start()
    try:
        run(engine, case, case.long)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0 < most <= said


def test_an_estimate_loads_nothing(case: Case) -> None:
    with case.made() as fresh:
        assert isinstance(fresh, Estimating)
        tracemalloc.start()
        try:
            fresh.estimate(case.model, engine_request(canonical(case, case.quick)))
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most < 512 * 1024


# what is heard meanwhile


def test_progress_only_grows_and_ends_at_its_total(engine: Engine, case: Case) -> None:
    heard: list[dict[str, Any]] = []
    output = run(engine, case, case.long, heard)
    steps = [tuple(event["progress"]) for event in heard if "progress" in event]
    assert steps and [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert steps[-1][0] == steps[-1][1] > 0
    assert {name for event in heard for name in event} <= {"progress", "text"}
    if kind_of(profile_of(case.model)) == "chat":
        assert "".join([event.get("text", "") for event in heard]).encode() == output.data


def test_who_cancels_before_the_beginning_gets_nothing(engine: Engine, case: Case) -> None:
    heard: list[Any] = []
    with pytest.raises(EngineError) as error:
        engine.run(case.model, engine_request(canonical(case, case.quick)), heard.append, lambda: True)
    assert error.value.reason == "cancelled" and heard == []


def test_a_cancel_is_obeyed_at_the_next_question_and_the_next_run_is_whole(
    engine: Engine, case: Case
) -> None:
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked >= case.questions

    whole, heard = run(engine, case, case.quick), list[dict[str, Any]]()
    request = engine_request(canonical(case, case.long))
    ended = how_it_ends(lambda: engine.run(case.model, request, heard.append, cancelled))
    if isinstance(ended, EngineOutput):
        assert ended.partial and ended.data == "".join([event.get("text", "") for event in heard]).encode()
    else:
        assert ended == "cancelled"
    assert asked == case.questions
    assert run(engine, case, case.quick).counts == whole.counts


# what it refuses


def wrong_requests(case: Case) -> list[dict[str, Any]]:
    good = engine_request(canonical(case, case.quick))
    what = "input" if "input" in good else "prompt"
    return [
        {},
        {**good, "kind": "music"},
        {**good, "model": "another"},
        {**good, what: 7},
        {**good, what: "\ud800" if what == "prompt" else ["\ud800"]},
        {**good, what: "x" * 10**6 if what == "prompt" else ["x" * 10**6]},
        *[{**good, name: value} for name in good for value in (-1, 2**80, True, None)],
        *[{**good, name: "many"} for name in good if name != "prompt"],
    ]


def test_a_wrong_request_is_refused_by_name_by_run_and_estimate_alike(engine: Engine, case: Case) -> None:
    assert isinstance(engine, Estimating)
    for request in wrong_requests(case):
        heard: list[Any] = []
        with pytest.raises(EngineError) as refused:
            engine.run(case.model, request, heard.append, lambda: False)
        with pytest.raises(EngineError) as estimated:
            engine.estimate(case.model, request)
        assert refused.value.reason == estimated.value.reason == "bad_request", request
        assert refused.value.reason in ENGINE_REASONS and refused.value.message and heard == []


# together with others


def test_requests_that_share_their_steps_get_what_they_would_get_alone(engine: Engine, case: Case) -> None:
    if not isinstance(engine, Stepwise):
        assert card_of(engine, case).together == 1
        pytest.skip(f"{case.name} does one request after the other")
    if "seed" in canonical(case, case.quick):
        wanted = [{**case.quick, "seed": seed} for seed in range(3)]
    else:
        wanted = [{"input": [*case.quick["input"], str(number)]} for number in range(3)]
    alone = [run(engine, case, fields) for fields in wanted]
    runs = [engine.begin(case.model, engine_request(canonical(case, fields))) for fields in wanted]
    assert len({step_run.shape for step_run in runs}) == 1
    engine.advance(runs[:2])  # the third joins a step later
    while not all(step_run.over for step_run in runs):
        engine.advance([step_run for step_run in runs if not step_run.over])
    together = [engine.finish(step_run) for step_run in runs]
    assert [output.counts for output in together] == [output.counts for output in alone]
    if case.tolerance == 0:
        assert together == alone
        return
    for one, other in zip(together, alone, strict=True):
        assert distance(one.data, other.data) <= case.tolerance


def distance(one: bytes, other: bytes) -> float:
    """The largest difference of a pixel."""
    from PIL import Image

    pictures = [np.asarray(Image.open(io.BytesIO(data)), np.float64) for data in (one, other)]
    return float(np.abs(pictures[0] - pictures[1]).max())
