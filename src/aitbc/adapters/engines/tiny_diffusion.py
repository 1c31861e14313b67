"""Serves tiny-diffusion: a small text-conditioned diffusion model that draws one shape on a plain ground, in numpy.

The network is a transformer over the 64 patches of a 64x64 picture. Words become summary tokens, which condition
every block twice: as scale and shift, and as extra tokens to attend to. It predicts the clean picture from a noisy
one; the sampler walks from noise (t = 0) to picture (t = 1) in straight Euler steps of the flow this implies.
Training lives in tools/tiny_diffusion.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aitbc.adapters.engines.png import encode_png
from aitbc.adapters.engines.steps import run_alone, spread
from aitbc.ports import EngineError, EngineOutput, Estimate, ModelCard, StepRun

MODEL = "tiny-diffusion"
WEIGHTS = Path(__file__).with_name("weights") / "tiny_diffusion.npz"

Floats = NDArray[np.float32]

NATIVE_PIXELS = 64
MAX_PIXELS = 512  # eight times native: a larger picture holds no more, it only costs bytes
MAX_PROMPT_BYTES = 512
MAX_WORDS = 16  # the longest caption in training; positions beyond it were never learned
MIN_STEPS, MAX_STEPS = 4, 50
MAX_GUIDANCE_MILLI = 10_000
MAX_SEED = 2**63 - 1

# The network's fixed shape; everything else is read off the weights.
PATCH = 8
GRID = NATIVE_PIXELS // PATCH
LATENT_SHAPE = (GRID * GRID, PATCH * PATCH * 3)
BLOCKS, HEADS = 5, 4
TEXT_BLOCKS, TEXT_HEADS = 2, 4
SUMMARIES = 4
# Time is spent where decisions fall: t = u / (u + SHIFT * (1 - u)), as in training.
SHIFT = 3.0
# Guidance above 1 decides what is drawn and where, early on; later it only eats at outlines and leaves halos.
GUIDANCE_UNTIL = 0.3

MAX_TOGETHER = 8
MEMORY_BYTES = 24 * 1024 * 1024
"""Of one run: the largest picture with its file, the network's intermediate results, and the weights when they are not
loaded yet; measured 12 MiB."""


@dataclass(frozen=True, kw_only=True)
class ImageRequest:
    """A request that passed every check."""

    prompt: str
    side_pixels: int
    steps: int
    guidance_milli: int
    seed: int


@dataclass(kw_only=True)
class Drawing:
    """A request under way; every size has one shape, because all are drawn at the native one."""

    asked: ImageRequest
    text: Floats
    latent: Floats
    notes: dict[str, str]
    over: bool = False
    shape: str = "native"
    transcript: list[bytes] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def done(self) -> int:
        """A step, a hash."""
        return len(self.transcript)

    @property
    def position(self) -> str:
        return f"{self.done} of {self.asked.steps} steps"


class TinyDiffusion:
    """The engine. A latent is the picture in -1..1 as [64 patches, 192 values], float32, in that memory order."""

    name = MODEL

    def __init__(self) -> None:
        self._weights: Weights | None = None

    def models(self) -> list[ModelCard]:
        digest = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
        limits = {
            "max_prompt_bytes": MAX_PROMPT_BYTES,
            "native_pixels": NATIVE_PIXELS,
            "max_pixels": MAX_PIXELS,
            "min_steps": MIN_STEPS,
            "max_steps": MAX_STEPS,
            "max_guidance_milli": MAX_GUIDANCE_MILLI,
        }
        return [
            ModelCard(
                model=MODEL, kind="image", digest=f"sha256:{digest}", limits=limits, together=MAX_TOGETHER
            )
        ]

    def load(self, model: str) -> None:
        self._weights_of(model)

    def estimate(self, model: str, request: Mapping[str, Any]) -> Estimate:
        return Estimate(counts=counts_of(check_request(model, request)), memory_bytes=MEMORY_BYTES)

    def run(
        self,
        model: str,
        request: Mapping[str, Any],
        emit: Callable[[dict[str, Any]], None],
        cancelled: Callable[[], bool],
    ) -> EngineOutput:
        return run_alone(self, model, request, emit, cancelled)

    def begin(self, model: str, request: Mapping[str, Any]) -> "Drawing":
        asked = check_request(model, request)
        weights = self._weights_of(model)
        tokens, ignored = split_prompt(asked.prompt, weights.ids)
        return Drawing(
            asked=asked,
            text=encode_both(weights, tokens),
            latent=initial_latent(asked.seed),
            notes=notes_for(asked, ignored),
        )

    def advance(self, runs: Sequence[StepRun]) -> None:
        """One step of each, spread over the cores.

        Eight in one product were 0.6 to 1.1 times as fast on one core as one by one: the products of a single picture
        fill it already, and larger intermediate results leave its cache.
        """
        weights = self._weights_of(MODEL)
        drawings = [run for run in runs if isinstance(run, Drawing)]
        assert len(drawings) == len(runs), "runs are those that `begin` made"
        latents = spread(
            lambda at: advance(weights, at.text, at.latent, index=at.done, asked=at.asked), drawings
        )
        for drawing, latent in zip(drawings, latents, strict=True):
            drawing.latent = latent
            drawing.transcript.append(latent_hash(latent))
            drawing.events.append({"progress": [drawing.done, drawing.asked.steps]})
            drawing.over = drawing.done == drawing.asked.steps

    def finish(self, run: StepRun) -> EngineOutput:
        assert isinstance(run, Drawing) and run.over, "a run is finished after its last step"
        factor = run.asked.side_pixels // NATIVE_PIXELS
        return EngineOutput(
            data=encode_png(enlarge(pixels_of(run.latent), factor)),
            media_type="image/png",
            counts=counts_of(run.asked),
            transcript=run.transcript,
            notes=run.notes,
        )

    def stop(self, run: StepRun) -> EngineOutput | None:
        return None  # half a picture is worth nothing

    def replay_step(self, request: Mapping[str, Any], step_index: int, latent_before: Floats) -> Floats:
        """Recompute one step of `request`: what the latent was after step `step_index`, given what it was before.

        The first `latent_before` is `initial_latent(seed)`. Compare with `latent_hash`.
        """
        asked = check_request(MODEL, request)
        if not 0 <= step_index < asked.steps:
            raise EngineError("bad_request", f"step_index must be 0 to {asked.steps - 1}, not {step_index}")
        if latent_before.shape != LATENT_SHAPE or latent_before.dtype != np.float32:
            raise EngineError("bad_request", f"latent_before must be float32 of shape {LATENT_SHAPE}")
        weights = self._weights_of(MODEL)
        tokens, _ = split_prompt(asked.prompt, weights.ids)
        return advance(weights, encode_both(weights, tokens), latent_before, index=step_index, asked=asked)

    def _weights_of(self, model: str) -> "Weights":
        if model != MODEL:
            raise EngineError("bad_request", f"model must be {MODEL}, not {model!r}")
        if self._weights is None:
            self._weights = Weights.read(WEIGHTS)
        return self._weights


# --- What may be asked ------------------------------------------------------------------------------------------


def check_request(model: str, request: Mapping[str, Any]) -> ImageRequest:
    """Checked in this order: model, kind, prompt, width and height, steps, guidance, seed."""
    for name, expected in (("model", MODEL), ("kind", "image")):
        given = model if name == "model" else request.get(name, expected)
        if given != expected or request.get(name, expected) != expected:
            raise EngineError("bad_request", f"{name} must be {expected}")
    return ImageRequest(
        prompt=_checked_prompt(request.get("prompt")),
        side_pixels=_checked_side(request.get("width", NATIVE_PIXELS), request.get("height", NATIVE_PIXELS)),
        steps=_checked_integer("steps", request.get("steps", 20), low=MIN_STEPS, high=MAX_STEPS),
        guidance_milli=_checked_integer(
            "guidance_milli", request.get("guidance_milli", 3000), low=0, high=MAX_GUIDANCE_MILLI
        ),
        seed=_checked_integer("seed", request.get("seed", 0), low=0, high=MAX_SEED),
    )


def _checked_prompt(prompt: object) -> str:
    if not isinstance(prompt, str):
        raise EngineError("bad_request", f"prompt must be text of 1 to {MAX_PROMPT_BYTES} bytes")
    try:
        size = len(prompt.encode())
    except UnicodeEncodeError:
        raise EngineError("bad_request", "prompt must be valid Unicode, without lone surrogates") from None
    if not 1 <= size <= MAX_PROMPT_BYTES:
        raise EngineError("bad_request", f"prompt must be text of 1 to {MAX_PROMPT_BYTES} bytes")
    return prompt


def _checked_side(width: object, height: object) -> int:
    allowed = range(NATIVE_PIXELS, MAX_PIXELS + 1, NATIVE_PIXELS)
    if type(width) is int and type(height) is int and width == height and width in allowed:
        return width
    sides = ", ".join(str(side) for side in allowed)
    raise EngineError("bad_request", f"width and height must be equal and one of {sides}")


def _checked_integer(name: str, value: object, *, low: int, high: int) -> int:
    if type(value) is int and low <= value <= high:  # type(), because True is an int to isinstance
        return value
    raise EngineError("bad_request", f"{name} must be an integer from {low} to {high}")


def split_prompt(prompt: str, ids: Mapping[str, int]) -> tuple[list[int], list[str]]:
    """The word ids the model reads, and the words it does not: unknown ones, and known ones past the sixteenth."""
    known: list[int] = []
    ignored: list[str] = []
    for word in re.findall(r"[^\W_]+", prompt.lower()):
        if word in ids and len(known) < MAX_WORDS:
            known.append(ids[word])
        else:
            ignored.append(word)
    return known, ignored


def counts_of(asked: ImageRequest) -> dict[str, int]:
    return {
        "steps": asked.steps,
        "width": asked.side_pixels,
        "height": asked.side_pixels,
        "native_width": NATIVE_PIXELS,
        "native_height": NATIVE_PIXELS,
    }


def notes_for(asked: ImageRequest, ignored: list[str]) -> dict[str, str]:
    notes: dict[str, str] = {}
    if asked.side_pixels != NATIVE_PIXELS:
        native, side = NATIVE_PIXELS, asked.side_pixels
        notes["upscale"] = f"nearest {native}x{native} -> {side}x{side}"
    if ignored:
        notes["ignored_words"] = str(len(set(ignored)))
    return notes


# --- The sampler ------------------------------------------------------------------------------------------------


def initial_latent(seed: int) -> Floats:
    random = np.random.Generator(np.random.Philox(key=seed))
    return random.standard_normal(LATENT_SHAPE, dtype=np.float32)


def latent_hash(latent: Floats) -> bytes:
    return hashlib.sha256(latent.astype("<f4").tobytes()).digest()


def time_at(index: int, *, steps: int) -> float:
    u = index / steps
    return u / (u + SHIFT * (1 - u))


def advance(weights: "Weights", text: Floats, latent: Floats, *, index: int, asked: ImageRequest) -> Floats:
    """One Euler step: guess the clean picture with and without the words, lean towards the words, walk there."""
    now, then = time_at(index, steps=asked.steps), time_at(index + 1, steps=asked.steps)
    with_words, without_words = predict_clean(weights, text, latent, now)
    guidance = np.float32(guidance_at(now, asked.guidance_milli))
    clean = np.clip(without_words + guidance * (with_words - without_words), -1.0, 1.0)
    share = np.float32((then - now) / (1 - now))
    after: Floats = latent + share * (clean - latent)
    return after


def guidance_at(t: float, guidance_milli: int) -> float:
    asked = guidance_milli / 1000
    return asked if t < GUIDANCE_UNTIL else min(asked, 1.0)


def pixels_of(latent: Floats) -> NDArray[np.uint8]:
    picture = latent.reshape(GRID, GRID, PATCH, PATCH, 3).transpose(0, 2, 1, 3, 4)
    picture = picture.reshape(NATIVE_PIXELS, NATIVE_PIXELS, 3)
    pixels: NDArray[np.uint8] = np.clip(np.rint((picture + 1.0) * 127.5), 0, 255).astype(np.uint8)
    return pixels


def enlarge(pixels: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


# --- The network ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Tensors by name, float32; matrices lie as [inputs, outputs], ready for `x @ matrix`."""

    ids: dict[str, int]
    tensors: dict[str, Floats]

    @classmethod
    def read(cls, path: Path) -> "Weights":
        """Undo the storage format: int8 matrices [outputs, inputs] with one scale per output; the rest is float32."""
        with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        ids = {str(word): index for index, word in enumerate(arrays.pop("words"))}
        tensors: dict[str, Floats] = {}
        for name, array in arrays.items():
            if array.dtype == np.int8:
                full = array.astype(np.float32) * arrays[f"{name}.scale"][:, None]
                tensors[name] = full if name == "text.word.weight" else np.ascontiguousarray(full.T)
            elif not name.endswith(".scale"):
                tensors[name] = array.astype(np.float32)
        tensors["near"] = _spread_near(tensors["near"])
        return cls(ids=ids, tensors=tensors)

    def __getitem__(self, name: str) -> Floats:
        return self.tensors[name]

    def linear(self, name: str, x: Floats) -> Floats:
        product: Floats = x @ self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]
        return product


def _spread_near(by_offset: Floats) -> Floats:
    """From one score per (row, column) offset to one per pair of tokens; summaries have no place, so no offset."""
    row, column = np.divmod(np.arange(GRID * GRID), GRID)
    down, across = row[:, None] - row[None, :] + GRID - 1, column[:, None] - column[None, :] + GRID - 1
    pairs = by_offset[:, :, down * (2 * GRID - 1) + across]
    return np.pad(pairs, ((0, 0), (0, 0), (SUMMARIES, 0), (SUMMARIES, 0)))


def encode_both(weights: Weights, tokens: list[int]) -> Floats:
    """Summaries [2, 4, 64]: of the prompt, and of no words at all, which guidance leans away from."""
    return np.stack([encode_text(weights, tokens), encode_text(weights, [])])


def encode_text(weights: Weights, tokens: list[int]) -> Floats:
    words = weights["text.word.weight"][np.array(tokens, dtype=np.intp)]
    x = weights["text.place"][: SUMMARIES + len(tokens)].copy()
    x[SUMMARIES:] += words
    x, nowhere = x[None], np.zeros((TEXT_HEADS, 1, 1), np.float32)
    for block in range(TEXT_BLOCKS):
        x = x + attend(weights, f"text.attention.{block}", normalise(x), near=nowhere)
        x = x + gated_mlp(weights, f"text.mlp.{block}", normalise(x))
    return normalise(x[0, :SUMMARIES])


def predict_clean(weights: Weights, text: Floats, latent: Floats, t: float) -> tuple[Floats, Floats]:
    """The clean picture behind `latent` at time `t`, as seen with the prompt and without, in one batch of two."""
    moment = weights.linear("time.2", silu(weights.linear("time.0", time_features(t))))
    condition = silu(weights.linear("text_to_film", text.reshape(2, -1)) + moment)
    patches = np.broadcast_to(weights.linear("patch_in", latent), (2, len(latent), moment.shape[-1]))
    x = np.concatenate([weights.linear("text_to_token", text), patches], axis=1) + weights["place"]
    film = weights.linear("film", condition)
    for block in range(BLOCKS):
        by_block = (film + weights["film_block"][block])[:, None, :]
        scale_a, shift_a, scale_m, shift_m = np.split(by_block, 4, axis=-1)
        read = normalise(x) * (1 + scale_a) + shift_a
        x = x + attend(weights, f"attention.{block}", read, near=weights["near"][block])
        x = x + gated_mlp(weights, f"mlp.{block}", normalise(x) * (1 + scale_m) + shift_m)
    scale, shift = np.split(weights.linear("film_head", condition)[:, None, :], 2, axis=-1)
    x = normalise(x[:, SUMMARIES:]) * (1 + scale) + shift
    clean = weights.linear("head_down", silu(weights.linear("head_up", x)))
    return clean[0], clean[1]


def attend(weights: Weights, name: str, x: Floats, *, near: Floats) -> Floats:
    """Self-attention with one head per entry of `near`, which is added to the scores."""
    batch, length, width = x.shape
    heads = len(near)
    packed = weights.linear(f"{name}.qkv", x).reshape(batch, length, 3, heads, width // heads)
    q, k, v = packed.transpose(2, 0, 3, 1, 4)
    scores = (q @ k.transpose(0, 1, 3, 2)) * np.float32((width // heads) ** -0.5) + near
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = (scores @ v) / scores.sum(axis=-1, keepdims=True)
    return weights.linear(f"{name}.out", mixed.transpose(0, 2, 1, 3).reshape(batch, length, width))


def gated_mlp(weights: Weights, name: str, x: Floats) -> Floats:
    gate, value = np.split(weights.linear(f"{name}.up", x), 2, axis=-1)
    return weights.linear(f"{name}.down", silu(gate) * value)


def normalise(x: Floats) -> Floats:
    normal: Floats = x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + np.float32(1e-6))
    return normal


def silu(x: Floats) -> Floats:
    # x * sigmoid(x), by tanh: exp would overflow for strongly negative x.
    half = x * np.float32(0.5)
    activated: Floats = half + half * np.tanh(half)
    return activated


def time_features(t: float) -> Floats:
    frequencies = np.exp(np.linspace(0.0, np.log(100.0), 32)) * np.pi / 2
    return np.concatenate([np.cos(t * frequencies), np.sin(t * frequencies)]).astype(np.float32)
