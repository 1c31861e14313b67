"""tiny-diffusion draws what it was asked for, the same way every time, within its limits, and in its time."""

import base64
import hashlib
import importlib
import json
import os
import statistics
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from aitbc.adapters.engines import tiny_diffusion
from aitbc.adapters.engines.png import encode_png
from aitbc.adapters.engines.tiny_diffusion import TinyDiffusion, initial_latent, latent_hash
from aitbc.ports import EngineError, EngineOutput

ROOT = Path(__file__).parents[3]


def import_from(folder: Path, name: str) -> Any:
    """A module that belongs to no package: the reader beside this file, the generator among the tools."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        return importlib.import_module(name)


shape_reader = import_from(Path(__file__).parent, "shape_reader")
pictures = import_from(ROOT / "tools" / "tiny_diffusion", "pictures")
read_picture, Reading = shape_reader.read_picture, shape_reader.Reading

ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL")}

# Prompt, then what must be seen: shape, colour, background. The seed is the row's number, from 0.
PROMPTS = [
    ("a red circle on blue", "circle", "red", "blue"),
    ("a blue circle on red", "circle", "blue", "red"),
    ("red circle, blue background", "circle", "red", "blue"),
    ("blue background, red circle", "circle", "red", "blue"),
    ("a small yellow square at the top left on black", "square", "yellow", "black"),
    ("big green triangle on a white background", "triangle", "green", "white"),
    ("a star, yellow, on a purple background", "star", "yellow", "purple"),
    ("white ring over grey", "ring", "white", "grey"),
    ("a grey ring over white", "ring", "grey", "white"),
    ("a pink heart on cyan", "heart", "pink", "cyan"),
    ("blue cross against white", "cross", "blue", "white"),
    ("a diamond in cyan on a red background", "diamond", "cyan", "red"),
    ("on green, a white square", "square", "white", "green"),
    ("on white, a green square", "square", "green", "white"),
    ("bottom right purple triangle on yellow", "triangle", "purple", "yellow"),
    ("a large crimson heart on white", "heart", "red", "white"),
    ("a tiny golden dot in the lower left corner, navy background", "circle", "yellow", "blue"),
    ("purple box on an orange background", "square", "purple", "orange"),
    ("a violet rhombus on green", "diamond", "purple", "green"),
    ("turquoise donut on black", "ring", "cyan", "black"),
    ("a grey background with a huge orange star", "star", "orange", "grey"),
    ("a yellow background with a small black cross at the right", "cross", "black", "yellow"),
    ("pink plus on blue", "cross", "pink", "blue"),
    ("a cyan triangle at the top on blue", "triangle", "cyan", "blue"),
    ("a red triangle at the bottom on white", "triangle", "red", "white"),
    ("green circle in the middle of a pink background", "circle", "green", "pink"),
    ("a yellow disc on a gray background", "circle", "yellow", "grey"),
    ("large white diamond over black", "diamond", "white", "black"),
    ("small red diamond, left, cyan background", "diamond", "red", "cyan"),
    ("red heart, purple background", "heart", "red", "purple"),
    ("a white heart against purple", "heart", "white", "purple"),
    ("upper right orange ball on green", "circle", "orange", "green"),
    ("cyan block at the lower right on purple", "square", "cyan", "purple"),
    ("a big magenta ring on grey", "ring", "pink", "grey"),
    ("hoop in green on a yellow background", "ring", "green", "yellow"),
    ("a blue star on yellow", "star", "blue", "yellow"),
    ("a yellow star on blue", "star", "yellow", "blue"),
    ("red star at the centre on black", "star", "red", "black"),
    ("a scarlet cross on a white background", "cross", "red", "white"),
    ("an emerald triangle on black", "triangle", "green", "black"),
    ("black triangle, cyan background, large", "triangle", "black", "cyan"),
    ("on the pink background a small blue square at the left", "square", "blue", "pink"),
    ("a teal heart on a black background", "heart", "cyan", "black"),
    ("white cross on red", "cross", "white", "red"),
    ("a square in orange over purple at the bottom left", "square", "orange", "purple"),
    ("huge white circle on an orange background", "circle", "white", "orange"),
    ("please draw a grey diamond on white", "diamond", "grey", "white"),
    ("top right pink ring, green background", "ring", "pink", "green"),
    ("a little purple star on grey", "star", "purple", "grey"),
    ("white heart on a red background", "heart", "white", "red"),
]


@pytest.fixture(scope="module")
def engine() -> TinyDiffusion:
    engine = TinyDiffusion()
    engine.load("tiny-diffusion")
    return engine


DRAW_MANY = """
import base64, json, sys, time
from aitbc.adapters.engines.tiny_diffusion import TinyDiffusion
engine = TinyDiffusion()
engine.load("tiny-diffusion")
for request in json.load(sys.stdin):
    started = time.process_time()
    output = engine.run("tiny-diffusion", request, lambda _: None, lambda: False)
    print(json.dumps([base64.b64encode(output.data).decode(), time.process_time() - started]))
"""


@pytest.fixture(scope="module")
def gallery() -> list[tuple[bytes, float]]:
    """Each of the fifty prompts drawn with the default settings, as a provider's child does: file, CPU seconds."""
    requests = [ask(prompt, seed=seed) for seed, (prompt, *_) in enumerate(PROMPTS)]
    lines = in_fresh_process(DRAW_MANY, json.dumps(requests)).splitlines()
    return [(base64.b64decode(data), seconds) for data, seconds in map(json.loads, lines)]


def in_fresh_process(program: str, standard_input: str) -> str:
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": path}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command,
        env=environment,
        input=standard_input,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return done.stdout


def draw(engine: TinyDiffusion, prompt: str, **fields: Any) -> EngineOutput:
    return engine.run("tiny-diffusion", ask(prompt, **fields), lambda _: None, lambda: False)


def ask(prompt: str, **fields: Any) -> dict[str, Any]:
    return {"kind": "image", "model": "tiny-diffusion", "prompt": prompt, **fields}


def decode_png(data: bytes) -> NDArray[np.uint8]:
    """Reads back only what our own writer makes: 8-bit RGB, filter type 0 on every row."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks = dict(_chunks(data[8:]))
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), dtype=np.uint8).reshape(height, 1 + 3 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 3)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    while data:
        (length,) = struct.unpack(">I", data[:4])
        kind, content = data[4:8], data[8 : 8 + length]
        assert struct.unpack(">I", data[8 + length : 12 + length]) == (zlib.crc32(kind + content),)
        yield kind, content
        data = data[12 + length :]


# --- It draws what it was asked for -----------------------------------------------------------------------------


def test_at_least_forty_of_fifty_prompts_are_recognised(gallery: list[tuple[bytes, float]]) -> None:
    assert len(PROMPTS) == 50
    misread = []
    for seed, ((prompt, *wanted), (data, _)) in enumerate(zip(PROMPTS, gallery, strict=True)):
        seen = read_picture(decode_png(data))
        if [seen.shape, seen.colour, seen.background] != wanted:
            misread.append((seed, prompt, seen))
    assert len(misread) <= 10, "\n".join(map(str, misread))


def test_the_prompts_ask_for_combinations_training_never_saw() -> None:
    unseen = [
        prompt
        for prompt, shape, colour, background in PROMPTS
        if pictures.is_held_out(shape=shape, colour=colour, background=background)
    ]
    assert len(unseen) >= 8  # otherwise the fifty prompts would mostly show what was memorised


@pytest.mark.parametrize(
    ("prompt", "place", "size"),
    [
        ("a small red square at the top left on white", "top left", "small"),
        ("a small blue circle at the bottom right on yellow", "bottom right", "small"),
        ("large green diamond in the centre on black", "centre", "large"),
    ],
)
def test_place_and_size_follow_the_prompt(engine: TinyDiffusion, prompt: str, place: str, size: str) -> None:
    seen = read_picture(decode_png(draw(engine, prompt, seed=1).data))
    assert (seen.place, seen.size) == (place, size)


def test_seeds_give_different_pictures_of_the_same_thing(engine: TinyDiffusion) -> None:
    one, two = (draw(engine, "a red circle on blue", seed=seed).data for seed in (1, 2))
    assert one != two
    seen = [read_picture(decode_png(data)) for data in (one, two)]
    assert [(reading.shape, reading.colour, reading.background) for reading in seen] == [
        ("circle", "red", "blue")
    ] * 2


def test_the_reader_reads_true_drawings() -> None:
    random = np.random.default_rng(5)
    placements = [pictures.draw_scene(random)[1] for _ in range(400)]
    drawn = np.rint(pictures.render(placements)).astype(np.uint8)
    right = 0
    for placement, picture in zip(placements, drawn, strict=True):
        seen = read_picture(picture)
        wanted = (placement.shape, placement.colour, placement.background)
        right += (seen.shape, seen.colour, seen.background) == wanted
    assert right >= 392  # 98 in 100


def test_the_reader_sees_nothing_on_a_plain_ground_and_no_shape_in_noise() -> None:
    plain = np.full((64, 64, 3), 255, dtype=np.uint8)
    nothing = Reading(shape="nothing", colour="none", background="white", place="none", size="none")
    assert read_picture(plain) == nothing
    noise = np.random.default_rng(0).integers(0, 256, size=(64, 64, 3), dtype=np.uint8)
    assert read_picture(noise).shape in ("nothing", "unclear")


# --- The same request gives the same bytes ----------------------------------------------------------------------

DRAW_ONE = """
import hashlib, json, sys
from aitbc.adapters.engines.tiny_diffusion import TinyDiffusion
output = TinyDiffusion().run("tiny-diffusion", json.load(sys.stdin), lambda _: None, lambda: False)
torch_came_along = "torch" in sys.modules
print(json.dumps([hashlib.sha256(output.data).hexdigest(), [h.hex() for h in output.transcript], torch_came_along]))
"""


def test_two_fresh_processes_deliver_the_same_bytes_without_torch() -> None:
    request = json.dumps(ask("a red circle on blue", seed=7, steps=8))
    first, second = in_fresh_process(DRAW_ONE, request), in_fresh_process(DRAW_ONE, request)
    assert first == second
    _, transcript, torch_came_along = json.loads(first)
    assert len(transcript) == 8
    assert torch_came_along is False


def test_replaying_each_step_reproduces_the_transcript(engine: TinyDiffusion) -> None:
    request = ask("green star, white background", seed=3, steps=6, guidance_milli=2500)
    output = engine.run("tiny-diffusion", request, lambda _: None, lambda: False)
    latent, replayed = initial_latent(3), []
    for index in range(6):
        latent = engine.replay_step(request, index, latent)
        replayed.append(latent_hash(latent))
    assert replayed == output.transcript


def test_a_verifier_without_shared_state_catches_a_changed_step(engine: TinyDiffusion) -> None:
    request = ask("green star, white background", seed=3, steps=4)
    honest = engine.run("tiny-diffusion", request, lambda _: None, lambda: False).transcript
    first = TinyDiffusion().replay_step(request, 0, initial_latent(3))
    assert latent_hash(first) == honest[0]
    nudged = first.copy()
    nudged[0, 0] += np.float32(0.001)
    assert latent_hash(TinyDiffusion().replay_step(request, 1, nudged)) != honest[1]


def test_replay_refuses_what_is_not_a_step(engine: TinyDiffusion) -> None:
    request, latent = ask("a ring", steps=4), initial_latent(0)
    for index, before in ((4, latent), (-1, latent), (0, latent[:5]), (0, latent.astype(np.float64))):
        with pytest.raises(EngineError) as refused:
            engine.replay_step(request, index, before)
        assert refused.value.reason == "bad_request"


# --- What may be asked, and what comes back ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "tiny-lm"}, "model must be tiny-diffusion"),
        ({"kind": "chat"}, "kind must be image"),
        ({"prompt": ""}, "prompt must be text of 1 to 512 bytes"),
        ({"prompt": "é" * 257}, "prompt must be text of 1 to 512 bytes"),
        ({"prompt": 7}, "prompt must be text of 1 to 512 bytes"),
        ({"width": 128}, "width and height must be equal and one of 64, 128, 192, 256, 320, 384, 448, 512"),
        (
            {"width": 576, "height": 576},
            "width and height must be equal and one of 64, 128, 192, 256, 320, 384, 448, 512",
        ),
        (
            {"width": 100, "height": 100},
            "width and height must be equal and one of 64, 128, 192, 256, 320, 384, 448, 512",
        ),
        ({"steps": 3}, "steps must be an integer from 4 to 50"),
        ({"steps": 51}, "steps must be an integer from 4 to 50"),
        ({"steps": True}, "steps must be an integer from 4 to 50"),
        ({"steps": 20.0}, "steps must be an integer from 4 to 50"),
        ({"guidance_milli": -1}, "guidance_milli must be an integer from 0 to 10000"),
        ({"guidance_milli": "3000"}, "guidance_milli must be an integer from 0 to 10000"),
        ({"seed": -1}, "seed must be an integer from 0 to 9223372036854775807"),
        ({"seed": 2**63}, "seed must be an integer from 0 to 9223372036854775807"),
    ],
)
def test_a_bad_request_is_told_what_is_allowed(
    engine: TinyDiffusion, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(EngineError) as refused:
        engine.run("tiny-diffusion", ask("a ring") | fields, lambda _: None, lambda: False)
    assert (refused.value.reason, refused.value.message) == ("bad_request", message)


def test_a_missing_prompt_and_another_model_are_refused(engine: TinyDiffusion) -> None:
    with pytest.raises(EngineError, match="prompt must be text"):
        engine.run("tiny-diffusion", {"kind": "image"}, lambda _: None, lambda: False)
    with pytest.raises(EngineError, match="model must be tiny-diffusion"):
        engine.load("tiny-lm")


def test_defaults_counts_and_a_transcript_of_every_step(engine: TinyDiffusion) -> None:
    seen: list[dict[str, Any]] = []
    output = engine.run("tiny-diffusion", ask("a red circle on blue"), seen.append, lambda: False)
    counts = {"steps": 20, "width": 64, "height": 64, "native_width": 64, "native_height": 64}
    assert (output.media_type, output.counts, output.notes) == ("image/png", counts, {})
    assert seen == [{"progress": [step, 20]} for step in range(1, 21)]
    assert len(set(output.transcript)) == 20
    assert {len(entry) for entry in output.transcript} == {32}


def test_a_larger_picture_is_a_declared_enlargement_of_the_native_one(engine: TinyDiffusion) -> None:
    native = decode_png(draw(engine, "a ring on red", steps=4).data)
    output = draw(engine, "a ring on red", steps=4, width=192, height=192)
    assert output.notes == {"upscale": "nearest 64x64 -> 192x192"}
    assert (output.counts["width"], output.counts["native_width"]) == (192, 64)
    np.testing.assert_array_equal(decode_png(output.data), native.repeat(3, axis=0).repeat(3, axis=1))


def test_words_the_model_does_not_know_are_named(engine: TinyDiffusion) -> None:
    output = draw(engine, "A photorealistic RED circle, on naïve blue! photorealistic", steps=4)
    assert output.notes == {"ignored_words": "2"}
    assert output.data == draw(engine, "a red circle on blue", steps=4).data
    assert draw(engine, "a ring " + "red " * 15, steps=4).notes == {"ignored_words": "1"}


def test_strange_text_is_only_ignored(engine: TinyDiffusion) -> None:
    for prompt in ("🟥 \x00", "   ", "红色的圆"):
        assert draw(engine, prompt, steps=4).data.startswith(b"\x89PNG")


def test_no_guidance_is_the_picture_no_words_ask_for(engine: TinyDiffusion) -> None:
    one, two = (
        draw(engine, prompt, steps=4, guidance_milli=0).data for prompt in ("a red circle", "a blue star")
    )
    assert one == two


def test_cancelling_stops_between_steps(engine: TinyDiffusion) -> None:
    answers, seen = iter([False, False, True]), []
    with pytest.raises(EngineError) as stopped:
        engine.run("tiny-diffusion", ask("a ring"), seen.append, lambda: next(answers))
    assert (stopped.value.reason, stopped.value.message) == ("cancelled", "cancelled after 2 of 20 steps")
    assert seen == [{"progress": [1, 20]}, {"progress": [2, 20]}]


def test_the_card_names_the_weights_that_ship() -> None:
    (card,) = TinyDiffusion().models()
    assert (card.model, card.kind) == ("tiny-diffusion", "image")
    assert card.digest == "sha256:" + hashlib.sha256(tiny_diffusion.WEIGHTS.read_bytes()).hexdigest()
    assert tiny_diffusion.WEIGHTS.stat().st_size < 1_800_000


# --- It keeps its time ------------------------------------------------------------------------------------------


def test_a_picture_takes_less_than_a_second_of_one_core(gallery: list[tuple[bytes, float]]) -> None:
    assert statistics.median(seconds for _, seconds in gallery) < 1.0


def test_loading_is_quick() -> None:
    started = time.process_time()
    TinyDiffusion().load("tiny-diffusion")
    assert time.process_time() - started < 0.3


def test_a_png_of_known_pixels_reads_back() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, size=(5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode_png(encode_png(pixels)), pixels)
