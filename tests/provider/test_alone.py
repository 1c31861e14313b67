"""Stage 1 of seed 003: a picture server without chain and hub, as the seed's own documents describe it."""

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import pytest

from aitbc.provider.alone import Alone, AloneConfig, application, wipe
from aitbc.provider.engine import EngineGone
from hub.market import PAINTER, STORY_TELLER, free_port, until
from hub.odd_engines import png_of

SEED = json.loads((Path(__file__).parent / "seed003_openapi.json").read_text())
AITBC = [sys.executable, "-c", "from aitbc.cli import main; main()"]


def promised(path: str, method: str) -> Any:
    answer = SEED["paths"][path][method]["responses"]["200"]
    schema = answer["content"]["application/json"]["schema"]
    return {**schema, "required": list(schema["properties"])}


@asynccontextmanager
async def alone(folder: Path, **options: Any) -> AsyncIterator[httpx2.AsyncClient]:
    config = AloneConfig(
        **{"api_key": "secret", "data_dir": folder, "engines": (PAINTER,), "device": "RTX 2060", **options}
    )
    server = Alone(config)
    await server.start()
    transport = httpx2.ASGITransport(application(server))
    try:
        async with httpx2.AsyncClient(transport=transport, base_url="http://alone") as client:
            yield client
    finally:
        await server.engine.stop()


def asked(**changes: Any) -> dict[str, Any]:
    return {"api_key": "secret", "prompt": "a city", "seed": 7, **changes}


def test_the_seeds_document_is_kept(tmp_path: Path) -> None:
    async def story() -> None:
        async with alone(tmp_path) as client:
            own = (await client.get("/openapi.json")).json()
            assert own["paths"] == SEED["paths"]
            health = (await client.get("/v1/health")).json()
            jsonschema.validate(health, promised("/v1/health", "get"))
            assert health == {"status": "ok", "gpu": "RTX 2060", "model": "tiny-diffusion"}
            made = (await client.post("/v1/generate-image", json=asked())).json()
            jsonschema.validate(made, promised("/v1/generate-image", "post"))
            kind, _, data = made["image_base64"].partition(",")
            assert kind == "data:image/png;base64"
            assert base64.b64decode(data) == png_of(512, 512, 7), "512 x 512 is the seed's default"
            assert made["status"] == "ok" and made["gpu_seconds"] >= 0

    asyncio.run(story())


def test_a_job_is_logged_without_its_prompt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def story() -> dict[str, Any]:
        async with alone(tmp_path) as client:
            return dict((await client.post("/v1/generate-image", json=asked())).json())

    made = asyncio.run(story())
    (line,) = (tmp_path / "serve.jsonl").read_text().splitlines()
    entry = json.loads(line)
    assert {"job_id", "duration_ms", "gpu_seconds", "bytes_out", "prompt_hash", "exit_code"} <= set(entry)
    assert (entry["job_id"], entry["exit_code"]) == (made["job_id"], "ok")
    assert entry["bytes_out"] == len(png_of(512, 512, 7))
    assert json.loads(capsys.readouterr().out)["job_id"] == made["job_id"]
    assert "a city" not in line


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"api_key": "guess"}, 401, "invalid api_key"),
    ({"api_key": "gues\u00e9"}, 401, "invalid api_key"),
    ({"api_key": None}, 422, "api_key"),
    ({"prompt": 5}, 422, "prompt"),
    ({"steps": 4}, 422, "steps"),
    ({"steps": 101}, 422, "steps"),
    ({"guidance": 25.1}, 422, "guidance"),
    ({"guidance": -1}, 422, "guidance"),
    ({"width": 255}, 422, "width"),
    ({"height": 1025}, 422, "height"),
    ({"seed": "x"}, 422, "seed"),
    ({"prompt": ""}, 400, "prompt"),
    ({"width": 1024, "height": 1024}, 400, "width"),
    ({"steps": 100}, 400, "steps"),
]


def test_bounds_and_key(tmp_path: Path) -> None:
    async def story() -> None:
        async with alone(tmp_path, per_minute=100) as client:
            for changes, status, word in REFUSED:
                answer = await client.post("/v1/generate-image", json=asked(**changes))
                assert (answer.status_code, word in answer.json()["detail"]) == (status, True), changes
            nonsense = await client.post("/v1/generate-image", content=b"\xff")
            assert nonsense.status_code == 422
            large = await client.post("/v1/generate-image", content=b"x" * 70_000)
            assert large.status_code == 413
            good = await client.post("/v1/generate-image", json=asked(guidance=0, seed=None, extra="ignored"))
            assert good.status_code == 200

    asyncio.run(story())


def test_ten_a_minute_for_an_address(tmp_path: Path) -> None:
    async def story() -> None:
        async with alone(tmp_path) as client:
            codes = [
                (await client.post("/v1/generate-image", json=asked(api_key="x"))).status_code
                for _ in range(12)
            ]
            assert codes == [401] * 10 + [429] * 2, "wrong keys count, so nobody can try many"

    asyncio.run(story())


def test_pictures_wait_for_each_other_and_too_many_are_sent_away(tmp_path: Path) -> None:
    async def story() -> None:
        async with alone(tmp_path, per_minute=100) as client:
            answers = await asyncio.gather(
                *[client.post("/v1/generate-image", json=asked(seed=seed)) for seed in range(8)]
            )
            codes = [answer.status_code for answer in answers]
            assert codes.count(200) == 5 and codes.count(503) == 3

    asyncio.run(story())


def test_without_a_picture_engine_there_is_no_server(tmp_path: Path) -> None:
    async def story() -> None:
        for options in ({"engines": (STORY_TELLER,)}, {"model": "runwayml/stable-diffusion-v1-5"}):
            with pytest.raises(EngineGone, match="pictures"):
                async with alone(tmp_path, **options):
                    pass

    asyncio.run(story())


def test_what_an_engine_leaves_is_wiped(tmp_path: Path) -> None:
    async def story() -> None:
        left = tmp_path / "tmp"
        (left / "folder").mkdir(parents=True)
        (left / "folder" / "picture").write_text("secret")
        (left / "link").symlink_to(tmp_path / "serve.jsonl")
        async with alone(tmp_path) as client:
            assert (await client.post("/v1/generate-image", json=asked())).status_code == 200
            assert list(left.iterdir()) == []
            assert (tmp_path / "serve.jsonl").exists(), "a link goes, not what it names"

    asyncio.run(story())
    wipe(tmp_path / "nowhere")


def test_serve_and_image_from_the_command_line(tmp_path: Path) -> None:
    """The seed's environment, the real tiny engine, and `aitbc image --api` as its client."""
    port = free_port()
    env = {
        **os.environ,
        "AITBC_HOME": str(tmp_path / "home"),
        "API_KEY": "CHANGE_ME",
        "MODEL_ID": "tiny-diffusion",
        "BIND_HOST": "127.0.0.1",
        "BIND_PORT": str(port),
    }
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen([*AITBC, "provider", "serve"], env=env, stdout=subprocess.PIPE, text=True)
    try:
        asyncio.run(until(lambda: _answers(url), within=30))
        out = tmp_path / "out.png"
        command = ["image", "a red circle", "-o", str(out), "--api", url, "--size", "256", "--steps", "5"]
        done = subprocess.run([*AITBC, *command], env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert out.read_bytes().startswith(b"\x89PNG")
        wrong = {**env, "API_KEY": "another"}
        refused = subprocess.run([*AITBC, *command], env=wrong, capture_output=True, text=True, timeout=60)
        assert (refused.returncode, "invalid api_key" in refused.stderr) == (4, True)
    finally:
        server.send_signal(signal.SIGTERM)
        logged = server.communicate(timeout=20)[0]
    assert server.returncode == 0
    assert json.loads(logged.splitlines()[0])["exit_code"] == "ok"


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "/v1/health", timeout=1) as answer:
            return bool(json.loads(answer.read())["status"] == "ok")
    except OSError:
        return False
