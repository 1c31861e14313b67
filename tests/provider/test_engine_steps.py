"""Requests that advance together in one child: they join and leave between steps, and nobody pays for another's end."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from aitbc.adapters.engines.tiny_diffusion import TinyDiffusion
from aitbc.ports import EngineError, EngineOutput, StepRun
from aitbc.provider.config import ProviderConfig
from aitbc.provider.engine import EngineProcess
from aitbc.provider.engine_messages import Run
from aitbc.provider.engine_steps import StepLoop
from hub.market import STORY_TELLER, until
from support.people import PROVIDER

PAINTER = "aitbc.adapters.engines.tiny_diffusion:TinyDiffusion"
BRUSH = "provider.odd_steps:Brush"


def config(folder: Path, *engines: str, **options: Any) -> ProviderConfig:
    return ProviderConfig(signer=PROVIDER, data_dir=folder, engines=engines, **options)


def picture(seed: int, steps: int = 4) -> dict[str, Any]:
    return {
        "kind": "image",
        "model": "tiny-diffusion",
        "prompt": "a red circle",
        "seed": seed,
        "steps": steps,
    }


async def run(
    engine: EngineProcess, run_id: str, request: dict[str, Any], heard: list[Any] | None = None
) -> Any:
    on_event = heard.append if heard is not None else lambda _event: None
    return await engine.run(run_id=run_id, model=request["model"], request=request, on_event=on_event)


def test_eight_pictures_together_are_the_pictures_alone(tmp_path: Path) -> None:
    async def story() -> None:
        engine = EngineProcess(config(tmp_path, PAINTER, slots=8))
        await engine.start()
        together = await asyncio.gather(*[run(engine, f"job/{seed}/1", picture(seed)) for seed in range(8)])
        alone = TinyDiffusion()
        for seed, (output, engine_ms) in enumerate(together):
            assert output == alone.run("tiny-diffusion", picture(seed), lambda _event: None, lambda: False)
            assert engine_ms >= 0
        with pytest.raises(EngineError, match="not free"):
            await asyncio.gather(*[run(engine, f"job/{seed}/2", picture(seed)) for seed in range(9)])
        await engine.stop()

    asyncio.run(story())


def test_one_is_canceled_and_the_others_never_notice(tmp_path: Path) -> None:
    async def story() -> None:
        engine = EngineProcess(config(tmp_path, BRUSH, slots=3))
        await engine.start()
        heard: list[Any] = []
        runs = [asyncio.create_task(run(engine, f"job/{at}/1", picture(at, 40), heard)) for at in range(3)]
        await until(lambda: len(heard) > 6)
        engine.cancel("job/1/1")
        with pytest.raises(EngineError) as error:
            await runs[1]
        assert error.value.reason == "cancelled"
        assert [(await runs[at])[0].data for at in (0, 2)] == [b"40 strokes of 0", b"40 strokes of 2"]
        assert engine.restarts == 0
        await engine.stop()

    asyncio.run(story())


def test_a_run_that_waits_behind_another_can_be_canceled_without_harm(tmp_path: Path) -> None:
    async def story() -> None:
        engine = EngineProcess(config(tmp_path, STORY_TELLER, slots=2))
        await engine.start()
        tale = {"kind": "chat", "model": "tiny-lm", "prompt": "crawl " * 12, "seed": 1}
        first = asyncio.create_task(run(engine, "job/0/1", tale))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(run(engine, "job/1/1", tale))
        await asyncio.sleep(0.05)
        engine.cancel("job/1/1")
        with pytest.raises(EngineError, match="before it began"):
            await asyncio.wait_for(second, 0.5)
        assert (await first)[0].data.endswith(b"the end.") and engine.restarts == 0
        await engine.stop()

    asyncio.run(story())


def test_more_than_fit_together_wait_for_a_place(tmp_path: Path) -> None:
    async def story() -> None:
        engine = EngineProcess(config(tmp_path, BRUSH, slots=7))
        await engine.start()
        outputs = await asyncio.gather(*[run(engine, f"job/{at}/1", picture(at, 5)) for at in range(7)])
        assert [output.data for output, _ in outputs] == [f"5 strokes of {at}".encode() for at in range(7)]
        assert max(int(output.notes["most"]) for output, _ in outputs) == 3, "the engine's own limit"
        await engine.stop()

    asyncio.run(story())


def test_a_child_that_eats_the_machine_is_killed_and_replaced(tmp_path: Path) -> None:
    async def story() -> None:
        most = 400 * 1024 * 1024
        engine = EngineProcess(config(tmp_path, BRUSH, slots=1, engine_memory_bytes=most))
        await engine.start()
        with pytest.raises(EngineError, match="it may hold") as error:
            await run(engine, "job/0/1", {**picture(0, 5000), "prompt": "leak"})
        assert error.value.reason == "out_of_memory"
        await until(lambda: engine.ready)
        assert (await run(engine, "job/1/1", picture(1, 5)))[0].data == b"5 strokes of 1"
        await engine.stop()

    asyncio.run(story())


class FullCard:
    """Meters of one card on which every process holds as much."""

    def __init__(self, held: int) -> None:
        self.held = held

    def held_by(self, _pid: int) -> list[int]:
        return [0, self.held]


def test_a_child_that_takes_more_of_a_card_than_its_owner_leaves_it_is_killed(tmp_path: Path) -> None:
    async def story() -> None:
        cards: Any = FullCard(600)
        engine = EngineProcess(config(tmp_path, BRUSH, slots=1, engine_vram_bytes=600), cards=cards)
        await engine.start()
        assert (await run(engine, "job/0/1", picture(0, 5)))[0].data == b"5 strokes of 0", "just as much"
        cards.held = 601
        with pytest.raises(EngineError, match="601 bytes of a card; it may hold 600") as error:
            await run(engine, "job/1/1", {**picture(0, 5000), "prompt": "slow"})
        assert error.value.reason == "out_of_memory"
        cards.held = 0
        await until(lambda: engine.ready)
        assert (await run(engine, "job/2/1", picture(1, 5)))[0].data == b"5 strokes of 1"
        await engine.stop()

    asyncio.run(story())


def test_what_does_not_fit_is_refused_before_it_begins(tmp_path: Path) -> None:
    async def story() -> None:
        engine = EngineProcess(config(tmp_path, BRUSH))
        await engine.start()
        heard: list[Any] = []
        with pytest.raises(EngineError, match="are free") as error:
            await run(engine, "job/0/1", {**picture(0), "prompt": "huge"}, heard)
        assert error.value.reason == "out_of_memory" and heard == []
        assert (await run(engine, "job/1/1", picture(1)))[0].data and engine.restarts == 0
        await engine.stop()

    asyncio.run(story())


# the loop by itself


class Step:
    def __init__(self, number: int) -> None:
        self.number, self.done, self.shape = number, 0, "any"
        self.events: list[dict[str, Any]] = []

    @property
    def over(self) -> bool:
        return self.done == 2

    @property
    def position(self) -> str:
        return f"{self.done} of 2"


class SmallCard:
    """Has memory for so many at once, and none for number 13."""

    def __init__(self, fits: int) -> None:
        self.fits = fits
        self.batches: list[list[int]] = []

    def begin(self, model: str, request: Mapping[str, Any]) -> Step:
        return Step(request["number"])

    def advance(self, runs: Sequence[StepRun]) -> None:
        steps = [run for run in runs if isinstance(run, Step)]
        if len(steps) > self.fits or any(step.number == 13 for step in steps):
            raise MemoryError
        self.batches.append([step.number for step in steps])
        for step in steps:
            step.done += 1

    def finish(self, run: StepRun) -> EngineOutput:
        assert isinstance(run, Step)
        return EngineOutput(data=str(run.number).encode(), media_type="", counts={}, transcript=[], notes={})

    def stop(self, run: StepRun) -> EngineOutput | None:
        return None


def play(card: SmallCard, numbers: Sequence[int]) -> dict[str, str]:
    ends: dict[str, str] = {}

    def on_end(run: Run, how: EngineOutput | BaseException, _share_ms: int) -> None:
        ends[run.run_id] = how.data.decode() if isinstance(how, EngineOutput) else type(how).__name__

    loop = StepLoop(tell=lambda _run, _event: None, cancelled=lambda _run_id: False, on_end=on_end)
    for number in numbers:
        loop.join(Run(run_id=str(number), model="m", request={"number": number}), card)
    while len(loop):
        loop.turn()
    return ends


def test_too_many_for_the_memory_are_tried_in_halves() -> None:
    card = SmallCard(fits=2)
    assert play(card, range(8)) == {str(number): str(number) for number in range(8)}
    assert card.batches == [[0, 1], [2, 3], [4, 5], [6, 7]] * 2, "each run advanced once a turn"


def test_only_who_does_not_fit_alone_ends_as_out_of_memory() -> None:
    assert play(SmallCard(fits=4), [1, 13, 3]) == {"1": "1", "13": "MemoryError", "3": "3"}
