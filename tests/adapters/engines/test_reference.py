"""A reference runs in a process of its own and says what a provider's engine says, or why it does not."""

import asyncio

import pytest

from aitbc.adapters.engines.reference import BUILT_IN, run_reference
from aitbc.adapters.engines.tiny_embed import TinyEmbed
from aitbc.core.jobs.calibration import calibration_request
from aitbc.core.jobs.requests import engine_request
from aitbc.ports import EngineError

REQUEST = engine_request(calibration_request("tiny-embed", "5a" * 32))


def test_it_makes_the_same_bytes_as_an_engine_here() -> None:
    made = asyncio.run(run_reference(BUILT_IN["tiny-embed"], REQUEST))
    engine = TinyEmbed()
    engine.load("tiny-embed")
    own = engine.run("tiny-embed", REQUEST, lambda _: None, lambda: False)
    assert (made.data, made.counts, made.transcript) == (own.data, own.counts, own.transcript)


@pytest.mark.parametrize(
    ("spec", "request_", "why"),
    [
        ("no.such.module:Engine", REQUEST, "ModuleNotFoundError"),
        ("aitbc.adapters.engines.tiny_embed:Nobody", REQUEST, "AttributeError"),
        (BUILT_IN["tiny-lm"], {**REQUEST, "model": "tiny-lm"}, "EngineError|ended with code"),
    ],
)
def test_what_cannot_be_run_says_why(spec: str, request_: dict[str, object], why: str) -> None:
    with pytest.raises(EngineError, match=why):
        asyncio.run(run_reference(spec, request_))


def test_a_cancellation_leaves_no_process_behind() -> None:
    async def story() -> None:
        running = asyncio.create_task(run_reference(BUILT_IN["tiny-diffusion"], {"model": "tiny-diffusion"}))
        await asyncio.sleep(0.1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(story())
