"""The engine child: real process, odd engines. Whatever it does, the provider gets an answer and a fresh child."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from aitbc.ports import EngineError
from aitbc.provider.config import ProviderConfig
from aitbc.provider.engine import EngineGone, EngineProcess
from hub.market import PAINTER, STORY_TELLER, until
from support.people import PROVIDER

BROKEN = "hub.odd_engines:Broken"


def config(folder: Path, *engines: str, **options: Any) -> ProviderConfig:
    return ProviderConfig(signer=PROVIDER, data_dir=folder, engines=engines or (STORY_TELLER,), **options)


async def run(engine: EngineProcess, prompt: str, events: list[dict[str, Any]] | None = None) -> Any:
    request = {"kind": "chat", "model": "tiny-lm", "prompt": prompt, "seed": 1}
    heard = events if events is not None else []
    output, _ = await engine.run(run_id="job/0/0", model="tiny-lm", request=request, on_event=heard.append)
    return output


def test_a_child_serves_what_its_engines_serve(tmp_path: Path) -> None:
    async def story() -> None:
        engine = EngineProcess(config(tmp_path, STORY_TELLER, PAINTER, BROKEN))
        await engine.start()
        assert sorted(engine.cards) == ["tiny-diffusion", "tiny-lm"]
        events: list[dict[str, Any]] = []
        output = await run(engine, "a tale", events)
        assert output.data == b" a tale (1) the end."
        assert "".join([event.get("text", "") for event in events]).encode() == output.data
        await engine.stop()

    asyncio.run(story())


def test_only_the_models_that_are_asked_for(tmp_path: Path) -> None:
    async def story() -> None:
        engine = EngineProcess(config(tmp_path, STORY_TELLER, PAINTER, models=("tiny-diffusion",)))
        await engine.start()
        assert sorted(engine.cards) == ["tiny-diffusion"]
        await engine.stop()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("prompt", "reason", "words"),
    [
        ("crash", "failed", "code 3"),
        ("bug", "failed", "ZeroDivisionError: a bug"),
        ("memory", "out_of_memory", "no memory"),
        ("refuse", "bad_request", "does not want"),
        ("flood", "failed", "at once"),
        ("hang", "failed", "no sign of life for 0.5 s"),
    ],
)
def test_every_way_to_fail_has_a_name_and_the_next_run_works(
    tmp_path: Path, prompt: str, reason: str, words: str
) -> None:
    async def story() -> None:
        engine = EngineProcess(config(tmp_path, engine_stall_s=0.5))
        await engine.start()
        with pytest.raises(EngineError, match=words) as error:
            await asyncio.wait_for(run(engine, prompt), 5)
        assert error.value.reason == reason
        await until(lambda: engine.ready)
        assert (await run(engine, "again")).data.endswith(b"the end.")
        await engine.stop()

    asyncio.run(story())


@pytest.mark.parametrize("prompt", ["crawl " * 50, "deaf crawl " * 50])
def test_a_cancel_ends_the_run_within_a_second(tmp_path: Path, prompt: str) -> None:
    async def story() -> None:
        engine = EngineProcess(config(tmp_path))
        await engine.start()
        running = asyncio.create_task(run(engine, prompt))
        await asyncio.sleep(0.2)
        began = time.monotonic()
        engine.cancel("job/0/0")
        with pytest.raises(EngineError):
            await running
        assert time.monotonic() - began < 1
        await until(lambda: engine.ready)
        assert (await run(engine, "again")).data
        await engine.stop()

    asyncio.run(story())


def test_one_run_at_a_time(tmp_path: Path) -> None:
    async def story() -> None:
        engine = EngineProcess(config(tmp_path))
        await engine.start()
        first = asyncio.create_task(run(engine, "crawl"))
        await asyncio.sleep(0.05)
        with pytest.raises(EngineError, match="not free"):
            await run(engine, "me too")
        assert (await first).data
        await engine.stop()

    asyncio.run(story())


def test_a_child_killed_from_outside_is_replaced(tmp_path: Path) -> None:
    async def story() -> None:
        engine = EngineProcess(config(tmp_path))
        await engine.start()
        assert engine._process is not None
        os.kill(engine._process.pid, signal.SIGKILL)
        with pytest.raises(EngineError, match="ended with code -9"):
            await run(engine, "hello")
        await until(lambda: engine.ready)
        assert (await run(engine, "hello")).data
        await engine.stop()

    asyncio.run(story())


def test_an_engine_that_cannot_be_found_is_said_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        engine = EngineProcess(config(tmp_path, "no.such.module:Engine"))
        await engine.start()
        assert engine.cards == {}
        await engine.stop()
        engine = EngineProcess(config(tmp_path, engine_start_s=0.001))
        with pytest.raises(EngineGone, match="no sign of life"):
            await engine.start()

    asyncio.run(story())


def test_the_child_ends_with_its_provider_even_in_the_middle_of_a_run(tmp_path: Path) -> None:
    script = f"""
import asyncio, sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from provider.test_engine_child import config, run, EngineProcess
async def main():
    engine = EngineProcess(config(Path({str(tmp_path)!r})))
    await engine.start()
    print(engine._process.pid, flush=True)
    await run(engine, "hang")
asyncio.run(main())
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    time.sleep(0.2)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    child.wait(5)


def in_a_child(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_child_imports_no_web() -> None:
    """The start of a devnet and its memory depend on it."""
    heavy = "('fastapi', 'httpx2', 'starlette', 'numpy')"
    code = f"import aitbc.provider.engine_host, sys; print([m for m in {heavy} if m in sys.modules])"
    assert in_a_child(code) == "[]"


def test_one_blas_thread() -> None:
    names = "'OPENBLAS_NUM_THREADS', 'OMP_NUM_THREADS', 'MKL_NUM_THREADS'"
    code = f"import aitbc.provider.engine_host, os; print([os.environ[name] for name in ({names})])"
    assert in_a_child(code) == "['1', '1', '1']"
