"""A provider through its day: warm before it is offered, paused and woken, stopped in the middle of work, and read by
its operator. Real hub, real child."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from aitbc.adapters import nvml
from aitbc.cli import root
from aitbc.provider import metrics, provider
from aitbc.provider.calibration import hourly_for, price_for
from aitbc.provider.config import ProviderConfig
from aitbc.provider.engine import EngineProcess
from aitbc.provider.hours import PAUSE_FILE
from aitbc.provider.joblog import by_day
from aitbc.provider.settings import ProviderSettings, read_settings, write_settings
from aitbc.provider.status import health_of
from hub.market import STORY_TELLER, market, until
from support.people import PROVIDER

BRUSH = "provider.odd_steps:Brush"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "TEND_S", 0.02)


def test_a_pause_finishes_the_task_leaves_the_hub_and_a_resume_comes_back(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            owner = await place.add_provider()
            job = await place.begin("crawl " * 6)
            await place.until_state(job, "running")
            (owner.config.data_dir / PAUSE_FILE).touch()
            await until(lambda: owner.worker.closed_for == "paused by its owner")
            await place.until_state(job, "delivered", "settled")
            await until(lambda: owner.link is not None and owner.link.session is None)
            refused = await place.ask_quote()
            assert refused.json()["code"] == "no_provider"
            (owner.config.data_dir / PAUSE_FILE).unlink()
            await until(lambda: bool(owner.eligible))
            await place.until_state(await place.begin(), "delivered", "settled")
            assert owner.worker.jobs_done == 2

    asyncio.run(story())


def test_a_stop_finishes_what_is_under_way_and_takes_nothing_new(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            owner = await place.add_provider()
            job = await place.begin("crawl " * 5)
            await place.until_state(job, "running")
            await owner.drain()
            assert owner.worker.closed_for == "the provider is stopping" and owner.worker.jobs_done == 1
            await place.until_state(job, "delivered", "settled")

    asyncio.run(story())


def test_a_stop_waits_no_longer_than_it_may(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            owner = await place.add_provider(drain_s=0.3)
            job = await place.begin("crawl " * 100)
            await place.until_state(job, "running")
            await asyncio.wait_for(owner.drain(), 2)
            assert owner.worker.running

    asyncio.run(story())


def test_a_model_that_fails_its_first_request_is_never_offered(tmp_path: Path) -> None:
    async def story() -> None:
        config = ProviderConfig(
            signer=PROVIDER, data_dir=tmp_path, engines=(STORY_TELLER, "provider.odd_steps:Clumsy")
        )
        engine = EngineProcess(config)
        await engine.start()
        assert sorted(engine.cards) == ["tiny-lm"]
        await engine.stop()

    asyncio.run(story())


def test_an_idle_model_is_kept_warm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            asked: list[str] = []
            owner = await place.add_provider(keep_warm_s=0.1)
            run = owner.engine.run

            async def heard(**options: Any) -> Any:
                asked.append(options["run_id"])
                return await run(**options)

            monkeypatch.setattr(owner.engine, "run", heard)
            await until(lambda: asked.count("keep-warm") >= 2)

    asyncio.run(story())


def test_metrics_name_every_figure_and_count_what_was_done(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            owner = await place.add_provider(slots=2)
            await place.until_state(await place.begin(), "delivered", "settled")
            text = metrics.exposition(owner)[0].decode()
            named = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
            families = [metrics.GAUGES, metrics.COUNTERS, metrics.HISTOGRAMS, metrics.CARD_GAUGES]
            assert named == {name for family in families for name in family}
            assert 'aitbc_provider_jobs_total{exit_code="ok",model="tiny-lm"} 1.0' in text
            assert 'aitbc_provider_job_seconds_bucket{le="+Inf",model="tiny-lm"} 1.0' in text
            assert "aitbc_provider_linked 1.0" in text and "aitbc_provider_slots 2.0" in text
            health = health_of(owner)
            assert health["p95_ms"]["tiny-lm"] >= 0 and health["closed_for"] == ""  # type: ignore[index]
            (line,) = (owner.config.data_dir / "jobs.jsonl").read_text().splitlines()
            fields = {"job_id", "duration_ms", "gpu_seconds", "bytes_out", "prompt_hash", "exit_code"}
            assert fields <= set(json.loads(line)) and "a tale" not in line

    asyncio.run(story())


class Meters:
    """A driver with one card whose power meter is missing."""

    class NVMLError(Exception):
        pass

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, _at: int) -> str:
        return "card"

    def nvmlDeviceGetName(self, _handle: str) -> bytes:
        return b"RTX 2060"

    def nvmlDeviceGetMemoryInfo(self, _handle: str) -> Any:
        return SimpleNamespace(used=1, total=6)

    def nvmlDeviceGetUtilizationRates(self, _handle: str) -> Any:
        return SimpleNamespace(gpu=50)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> Any:
        if handle != "card":
            raise self.NVMLError
        ours = SimpleNamespace(pid=7, usedGpuMemory=3)
        return [
            ours,
            ours,
            SimpleNamespace(pid=8, usedGpuMemory=9),
            SimpleNamespace(pid=7, usedGpuMemory=None),
        ]

    def nvmlDeviceGetPowerUsage(self, _handle: str) -> int:
        raise self.NVMLError


def test_meters_of_a_card_are_information_and_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pynvml", Meters())
    cards = nvml.Cards()
    assert cards.names == ["RTX 2060"]
    assert set(cards.read()[0]) == set(metrics.CARD_GAUGES)
    assert cards.read()[0]["aitbc_provider_gpu_power_watts"] == 0.0
    assert (cards.largest_bytes, cards.held_by(7), cards.held_by(9)) == (6, [6], [0])
    cards._handles = ["another"]
    assert cards.held_by(7) == [0], "a driver that does not say"
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    assert nvml.Cards().names == [] and nvml.Cards().read() == []
    assert (nvml.Cards().largest_bytes, nvml.Cards().held_by(7)) == (0, [])


def test_what_a_provider_says_of_itself_is_what_clients_can_ask_for(tmp_path: Path) -> None:
    async def story() -> None:
        async with market(tmp_path) as place:
            await place.add_provider(region="eu", policies=("no-log",), vram_mb=8_192)
            wishes: list[tuple[dict[str, Any], int]] = [
                ({"min_vram_mb": 8_192, "regions": ["eu", "us"], "policies": ["no-log"]}, 200),
                ({"min_vram_mb": 8_193}, 409),
                ({"regions": ["us"]}, 409),
                ({"policies": ["no-log", "sealed"]}, 409),
            ]
            for wish, status in wishes:
                body = {"client": place.signers["alice"].address, "kind": "chat", "request": {"prompt": "x"}}
                answer = await place.http.post("/v1/quotes", json={**body, "provider": wish})
                assert answer.status_code == status, answer.text

    asyncio.run(story())


# init


def test_init_measures_proposes_and_start_begins_from_it(tmp_path: Path) -> None:
    words = ["--json", "provider", "init", "--data", str(tmp_path), "--per-hour", "10ait"]
    engines = ["--engine", "aitbc.adapters.engines.tiny_embed:TinyEmbed"]
    done = CliRunner().invoke(root, [*words, *engines])
    assert done.exit_code == 0, done.output
    view = json.loads(done.stdout)
    (model,) = view["models"]
    assert model["model"] == "tiny-embed" and model["units_per_s"] > 0
    assert hourly_for(view["price_per_kilounit"], model["units_per_s_together"]) == pytest.approx(
        10**7, rel=0.05
    )
    written = read_settings(tmp_path)
    assert (written.price_per_kilounit, written.slots) == (view["price_per_kilounit"], view["slots"])
    assert written.engines == engines[1:] and written.device
    again = CliRunner().invoke(root, [*words, *engines])
    assert again.exit_code != 0 and "is there already" in str(again.exception)


@pytest.mark.parametrize(
    ("hourly", "units_per_s", "price"),
    [(3_600_000, 1_000.0, 1_000), (1, 10**9, 1), (10_000_000, 3255.0, 853)],
)
def test_a_price_for_an_hour(hourly: int, units_per_s: float, price: int) -> None:
    assert price_for(hourly, units_per_s) == price


@pytest.mark.parametrize(
    ("text", "words"),
    [("slots = 0", "slots"), ("slotz = 1", "unknown field"), ('hours = "noon"', "no span"), ("=", "toml")],
)
def test_wrong_settings_are_said(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "provider.toml").write_text(text)
    with pytest.raises(ValueError, match=words):
        read_settings(tmp_path)


def test_settings_come_back_as_they_were_written(tmp_path: Path) -> None:
    settings = ProviderSettings(
        device='a "card"', price_per_kilounit=853, slots=4, models=["x"], hours="22:00-06:00"
    )
    write_settings(tmp_path, settings)
    assert read_settings(tmp_path) == settings


def test_pause_and_resume_are_a_file(tmp_path: Path) -> None:
    run = CliRunner().invoke
    assert run(root, ["provider", "pause", "--data", str(tmp_path)]).exit_code == 0
    assert (tmp_path / PAUSE_FILE).exists()
    assert run(root, ["provider", "resume", "--data", str(tmp_path)]).exit_code == 0
    assert not (tmp_path / PAUSE_FILE).exists()
    assert run(root, ["provider", "pause", "--data", str(tmp_path / "none")]).exit_code != 0


def test_earnings_by_day() -> None:
    paid = [
        {"receipt_id": "a", "units": 5, "price": 1, "minted": 2},
        {"receipt_id": "b", "units": 7, "price": 3, "minted": 4, "at_ms": 1_760_000_000_000},
        {"receipt_id": "c", "units": 1, "price": 1, "minted": None, "at_ms": 1_760_000_000_001},
    ]
    earlier, day = by_day(paid)
    assert earlier == {"day": "earlier", "receipts": 1, "units": 5, "price": 1, "minted": 2}
    assert {**day, "day": ""} == {"day": "", "receipts": 2, "units": 8, "price": 4, "minted": 4}
