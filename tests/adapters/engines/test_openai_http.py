"""openai_http before a real server: counts that no server can inflate, cancels that reach it, keys that nobody sees."""

import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aitbc.adapters.engines import settings as engine_settings
from aitbc.adapters.engines.openai_http import OpenAiHttp
from aitbc.adapters.engines.settings import (
    EngineSettings,
    RemoteModel,
    RemoteServer,
    read_settings,
    secret_of,
)
from aitbc.core.crypto.hashing import hash_text
from aitbc.core.jobs.requests import engine_request, normalise_request
from aitbc.core.jobs.units import profile_of
from aitbc.ports import EngineError, EngineOutput
from support.openai_server import OpenAiServer, openai_server, vector_of, words_of

DIGEST = hash_text(b"weights")
KEY = "sk-very-secret-0123456789"


@pytest.fixture
def server() -> Iterator[OpenAiServer]:
    with openai_server() as running:
        yield running


def engine_for(server: OpenAiServer, *, model: str = "tiny-lm", **options: Any) -> OpenAiHttp:
    of_model = {
        name: options.pop(name) for name in ("api", "logprobs", "together", "top_k") if name in options
    }
    upstream = options.pop("upstream", "vectors" if of_model.get("api") == "embeddings" else "writer")
    remote = RemoteModel(model=model, upstream=upstream, digest=DIGEST, **of_model)
    url = options.pop("url", server.url)
    return OpenAiHttp(EngineSettings(openai_http=[RemoteServer(url=url, models=[remote], **options)]))


def request_of(prompt: str = "a tale", model: str = "tiny-lm", **fields: Any) -> dict[str, Any]:
    given = {"max_tokens": 8, "seed": 1, **fields}
    return engine_request(normalise_request(profile_of(model), {"prompt": prompt, **given}, nonce="0" * 32))


def run(
    engine: OpenAiHttp, prompt: str = "a tale", heard: list[Any] | None = None, **fields: Any
) -> EngineOutput:
    emit = heard.append if heard is not None else lambda _event: None
    return engine.run("tiny-lm", request_of(prompt, **fields), emit, lambda: False)


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_a_text_and_what_was_asked_for_it(server: OpenAiServer, api: str) -> None:
    heard: list[dict[str, Any]] = []
    output = run(engine_for(server, api=api), heard=heard, temperature_milli=700, top_k=5)
    (asked,) = server.asked
    assert output.data.decode() == "".join(words_of(asked)) == "".join([e.get("text", "") for e in heard])
    assert output.counts == {"in": 3, "out": 8} and output.notes == {}
    assert (
        asked["model"] == "writer" and asked["stream"] and asked["stream_options"] == {"include_usage": True}
    )
    assert (asked["temperature"], asked["top_k"], asked["seed"], asked["max_tokens"]) == (0.7, 5, 1, 8)


def test_vectors_come_in_the_order_of_the_texts(server: OpenAiServer) -> None:
    engine = engine_for(server, model="tiny-embed", api="embeddings")
    request = {
        "kind": "embedding",
        "model": "tiny-embed",
        "input": ["a fox", "a boat here"],
        "dimensions": 16,
    }
    output = engine.run("tiny-embed", request, lambda _event: None, lambda: False)
    expected = b"".join([struct.pack("<16f", *vector_of(text, 16)) for text in request["input"]])
    assert output.data == expected and output.counts == {"in": 5, "inputs": 2}


# counting


@pytest.mark.parametrize(
    ("prompt", "logprobs", "counts", "notes"),
    [
        ("a tale", False, {"in": 3, "out": 8}, {}),
        ("quiet", False, {"in": 0, "out": 8}, {"prompt_tokens": "the server did not say; none are billed"}),
        ("greedy", False, {"in": 6 + 8, "out": 8}, {"server_tokens": str(10**9)}),
        (
            "a tale",
            True,
            {"in": 3, "out": 8},
            {},
        ),  # two entries a word: sixteen, and the request allows eight
    ],
)
def test_no_server_can_make_a_client_pay_for_more_than_the_text_holds(
    server: OpenAiServer, prompt: str, logprobs: bool, counts: dict[str, int], notes: dict[str, str]
) -> None:
    output = run(engine_for(server, logprobs=logprobs), prompt)
    assert (output.counts, output.notes) == (counts, notes)


# ends


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("break", "broke off in the middle"),
        ("rubbish", "cannot be read"),
        ("error", "out of slots"),
        ("empty", "is empty"),
        ("silent", "said nothing for 0.3 s"),
        ("stall", "said nothing for 0.2 s"),
        ("endless", "line of more than"),
    ],
)
def test_every_way_to_fail_has_words_and_the_next_run_works(
    server: OpenAiServer, prompt: str, words: str
) -> None:
    engine = engine_for(server, first_byte_s=0.3, pause_s=0.2)
    with pytest.raises(EngineError, match=words) as error:
        run(engine, prompt)
    assert error.value.reason == "failed" and len(server.asked) == 1, (
        "nothing is tried again after the headers"
    )
    assert run(engine).data


@pytest.mark.parametrize("prompt", ["drip", "silent"])
def test_a_cancel_hangs_up_within_half_a_second(server: OpenAiServer, prompt: str) -> None:
    engine, heard = engine_for(server), list[dict[str, Any]]()
    asked_for_s: list[float] = []

    def cancelled() -> bool:
        """A little after the server has heard of it, and when it drips, has begun."""
        if server.asked and (heard or prompt == "silent"):
            asked_for_s.append(time.monotonic())
        return bool(asked_for_s) and time.monotonic() - asked_for_s[0] > 0.2

    request = request_of(prompt, max_tokens=250)
    if prompt == "silent":
        with pytest.raises(EngineError) as error:
            engine.run("tiny-lm", request, heard.append, cancelled)
        assert error.value.reason == "cancelled"
    else:
        output = engine.run("tiny-lm", request, heard.append, cancelled)
        told = "".join([event.get("text", "") for event in heard])
        assert output.partial and output.data.decode() == told and 0 < output.counts["out"] < 250
    assert time.monotonic() - asked_for_s[0] < 0.7
    assert server.hung_up.wait(2), "the server keeps computing for nobody"


def test_requests_share_the_server_as_many_as_its_slots(server: OpenAiServer) -> None:
    engine = engine_for(server, together=4)
    engine.load("tiny-lm")
    runs = [engine.begin("tiny-lm", request_of("drip", seed=seed, max_tokens=20)) for seed in range(4)]
    began, most = time.monotonic(), 0
    while not all(run.over for run in runs):
        engine.advance(runs)
        most = max(most, sum(run.answer.pieces > 0 and not run.over for run in runs))
    assert most == 4, "they were under way at the same time"
    assert [engine.finish(run).counts["out"] for run in runs] == [20] * 4
    assert time.monotonic() - began < 4 * 20 * 0.02 + 3


# tries


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_is_asked_again_before_the_first_byte(server: OpenAiServer, status: int) -> None:
    server.failures = [status, status]
    assert run(engine_for(server)).data and len(server.asked) == 3


@pytest.mark.parametrize(
    ("status", "tries", "reason", "asked"),
    [(400, 3, "bad_request", 1), (401, 3, "failed", 1), (500, 3, "failed", 1), (503, 2, "failed", 2)],
)
def test_what_is_not_worth_another_try(
    server: OpenAiServer, status: int, tries: int, reason: str, asked: int
) -> None:
    server.failures = [status] * tries
    with pytest.raises(EngineError, match=str(status)) as error:
        run(engine_for(server, tries=tries))
    assert error.value.reason == reason and len(server.asked) == asked


def test_nobody_listens(server: OpenAiServer) -> None:
    engine = engine_for(server, url="http://127.0.0.1:1/v1", tries=2)
    with pytest.raises(EngineError, match="cannot be reached"):
        engine.load("tiny-lm")


def test_a_model_that_the_server_has_not_is_said_at_load(server: OpenAiServer) -> None:
    with pytest.raises(EngineError, match="has no model painter; it has writer, vectors"):
        engine_for(server, upstream="painter").load("tiny-lm")


# keys and settings


def test_the_key_is_sent_and_never_told(
    server: OpenAiServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WRITER_KEY", KEY)
    engine = engine_for(server, api_key_env="WRITER_KEY")
    assert run(engine).data and server.headers[0]["authorization"] == f"Bearer {KEY}"
    server.failures = [401]  # this server repeats the key in its answer
    with pytest.raises(EngineError, match=r"no Bearer \*\*\*") as error:
        run(engine)
    said = " ".join([repr(error.value), error.value.message, caplog.text, repr(engine.__dict__)])
    assert KEY not in said


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    file.chmod(0o644)
    remote = RemoteModel(model="tiny-lm", upstream="writer", digest=DIGEST)
    server = RemoteServer(url="http://x/v1", models=[remote], api_key_file=str(file))
    with pytest.raises(EngineError, match="chmod 600"):
        secret_of(server)
    file.chmod(0o600)
    assert secret_of(server) == KEY
    with pytest.raises(EngineError, match="the environment has no NOT_THERE"):
        secret_of(RemoteServer(url="http://x/v1", models=[remote], api_key_env="NOT_THERE"))


GOOD = f"""
[[openai_http]]
url = "http://127.0.0.1:11434/v1"
[[openai_http.models]]
model = "llama-3.1-8b-instruct"
upstream = "llama3.1:8b"
digest = "{DIGEST}"
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD, ""),
        (GOOD.replace("upstream", "upstraem"), "unknown field"),
        (GOOD.replace("sha256:", "md5:"), "digest"),
        (GOOD + "together = 0", "together"),
        ("[[openai_http", "engines.toml"),
        ("x" * (300 * 1024), "at most"),
    ],
)
def test_the_settings_file_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    file = tmp_path / "engines.toml"
    file.write_text(text)
    monkeypatch.setenv(engine_settings.ENGINES_FILE, str(file))
    if not words:
        assert [card.model for card in OpenAiHttp().models()] == ["llama-3.1-8b-instruct"]
        return
    with pytest.raises(EngineError, match=words):
        read_settings()


def test_without_settings_there_is_nothing_to_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(engine_settings.ENGINES_FILE, raising=False)
    assert OpenAiHttp().models() == []


def test_a_model_that_nobody_can_bill_is_no_model(server: OpenAiServer) -> None:
    with pytest.raises(EngineError, match="cannot be billed"):
        engine_for(server, model="gpt-17").models()
    with pytest.raises(EngineError, match="not served by the chat route"):
        engine_for(server, model="tiny-diffusion").models()


def test_no_thread_is_left_behind(server: OpenAiServer) -> None:
    before = {thread.name for thread in threading.enumerate() if "asyncio" in thread.name}
    run(engine_for(server))
    assert {thread.name for thread in threading.enumerate() if "asyncio" in thread.name} == before
