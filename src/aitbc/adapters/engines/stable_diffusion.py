"""Stable Diffusion by the library diffusers, with our own loop: requests of one shape share their steps.

The noise comes from a generator on the CPU, so that every device begins alike; the scheduler is DDIM without noise of
its own, so that a step depends on the latent before it and on nothing else, and one step can be checked alone. Products
of other sizes and other devices round differently: docs/spec/engines.md says how far. Extra `diffusers`.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aitbc.adapters.engines.png import encode_png
from aitbc.adapters.engines.settings import EngineSettings, LocalModel, read_settings
from aitbc.adapters.engines.steps import run_alone
from aitbc.adapters.engines.weights_folder import digest_of, folder_of, missing
from aitbc.adapters.machine import available_bytes
from aitbc.core.jobs.reasons import Refused
from aitbc.core.jobs.requests import check_normalised
from aitbc.core.jobs.units import ImageProfile, profile_of
from aitbc.ports import EngineError, EngineOutput, Estimate, ModelCard, StepRun

if TYPE_CHECKING:
    import torch

ENGINE_NONCE = "0" * 32
"""Requests are checked in their canonical form, whose nonce engines never see."""
ACTIVATION_BYTES_PER_PIXEL = 2_000
"""Of the asked picture, for each byte of a number: what decoding it takes, an estimate for SD 1.5."""
BYTES_OF = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(kw_only=True)
class Painting:
    """A request under way."""

    model: str
    request: dict[str, Any]
    shape: str
    latent: "torch.Tensor"
    text: "torch.Tensor"
    """With the prompt, and before it without when guidance is on: (1 or 2, tokens, width)."""
    scheduler: Any
    notes: dict[str, str]
    transcript: list[bytes] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def guided(self) -> bool:
        return len(self.text) == 2

    @property
    def over(self) -> bool:
        return bool(len(self.transcript) == self.request["steps"])

    @property
    def position(self) -> str:
        return f"{len(self.transcript)} of {self.request['steps']} steps"


class StableDiffusion:
    """Every model that the settings list under `diffusers`."""

    name = "diffusers"

    def __init__(self, settings: EngineSettings | None = None) -> None:
        listed = (settings if settings is not None else read_settings()).diffusers
        self._settings = {setting.model: setting for setting in listed}
        self._pipelines: dict[str, Any] = {}

    def models(self) -> list[ModelCard]:
        return [self._card(setting) for setting in self._settings.values()]

    def load(self, model: str) -> None:
        setting = self._setting(model)
        if model not in self._pipelines:
            with memory_errors():
                self._pipelines[model] = _load(setting)

    def estimate(self, model: str, request: Mapping[str, Any]) -> Estimate:
        setting = self._checked(model, request)
        pixels = request["width"] * request["height"]
        memory = pixels * ACTIVATION_BYTES_PER_PIXEL * BYTES_OF[setting.dtype]
        return Estimate(counts=counts_of(request), memory_bytes=memory)

    def free_bytes(self, model: str) -> int:
        import torch

        pipeline = self._pipelines.get(model)
        if pipeline is None or pipeline.device.type != "cuda":
            return available_bytes()
        free, _ = torch.cuda.mem_get_info(pipeline.device)
        unused = torch.cuda.memory_reserved(pipeline.device) - torch.cuda.memory_allocated(pipeline.device)
        return int(free + unused)

    def run(
        self,
        model: str,
        request: Mapping[str, Any],
        emit: Callable[[dict[str, Any]], None],
        cancelled: Callable[[], bool],
    ) -> EngineOutput:
        return run_alone(self, model, request, emit, cancelled)

    def begin(self, model: str, request: Mapping[str, Any]) -> Painting:
        self._checked(model, request)
        self.load(model)
        pipeline = self._pipelines[model]
        guided = request["guidance_milli"] > 1_000
        scheduler = _scheduler_of(pipeline, request["steps"])
        with memory_errors():
            text, notes = _encode(pipeline, request["prompt"], guided=guided)
            latent = initial_latent(pipeline, request) * scheduler.init_noise_sigma
        return Painting(
            model=model,
            request=dict(request),
            shape=f"{request['width']}x{request['height']} {'guided' if guided else 'free'}",
            latent=latent,
            text=text,
            scheduler=scheduler,
            notes=notes | {"scheduler": "ddim"},
        )

    def advance(self, runs: Sequence[StepRun]) -> None:
        paintings = [run for run in runs if isinstance(run, Painting)]
        assert len(paintings) == len(runs), "runs are those that `begin` made"
        with memory_errors():
            latents = _step(self._pipelines[paintings[0].model], paintings)
        for painting, latent in zip(paintings, latents, strict=True):
            painting.latent = latent
            painting.transcript.append(latent_hash(latent))
            painting.events.append({"progress": [len(painting.transcript), painting.request["steps"]]})

    def finish(self, run: StepRun) -> EngineOutput:
        assert isinstance(run, Painting) and run.over, "a run is finished after its last step"
        with memory_errors():
            pixels = _decode(self._pipelines[run.model], run.latent)
        return EngineOutput(
            data=encode_png(pixels),
            media_type="image/png",
            counts=counts_of(run.request),
            transcript=run.transcript,
            notes=run.notes,
        )

    def stop(self, run: StepRun) -> EngineOutput | None:
        return None  # half a picture is worth nothing

    def replay_step(
        self, model: str, request: Mapping[str, Any], step: int, latent: "torch.Tensor"
    ) -> "torch.Tensor":
        """What the latent is after step `step` (from 0), given what it was before: how one step is checked."""
        painting = self.begin(model, request)
        painting.transcript = [b""] * step
        painting.latent = latent
        (after,) = _step(self._pipelines[model], [painting])
        return after

    # inside

    def _setting(self, model: str) -> LocalModel:
        if model not in self._settings:
            raise EngineError("bad_request", f"no settings name the model {model!r}")
        return self._settings[model]

    def _card(self, setting: LocalModel) -> ModelCard:
        try:
            profile = profile_of(setting.model)
        except Refused as error:
            raise EngineError("failed", f"{setting.model} cannot be billed: {error.message}") from None
        if not isinstance(profile, ImageProfile) or profile.native is not None:
            raise EngineError("failed", f"{setting.model} is no model that diffusers serves")
        folder = folder_of(setting)
        weights = sum([path.stat().st_size for path in folder.rglob("*.safetensors")])
        limits = {"min_side": profile.min_side, "max_side": profile.max_side, "max_steps": profile.max_steps}
        return ModelCard(
            model=setting.model,
            kind="image",
            digest=digest_of(folder),
            limits=limits,
            together=setting.together,
            memory_bytes=weights,
        )

    def _checked(self, model: str, request: Mapping[str, Any]) -> LocalModel:
        setting = self._setting(model)
        try:
            check_normalised(profile_of(model), {**request, "nonce": ENGINE_NONCE})
        except Refused as error:
            raise EngineError("bad_request", error.message) from None
        return setting


def counts_of(request: Mapping[str, Any]) -> dict[str, int]:
    width, height = request["width"], request["height"]
    return {
        "steps": request["steps"],
        "width": width,
        "height": height,
        "native_width": width,
        "native_height": height,
    }


def initial_latent(pipeline: Any, request: Mapping[str, Any]) -> "torch.Tensor":
    """Drawn on the CPU in float32, whatever computes afterwards."""
    import torch

    shape = (
        1,
        pipeline.unet.config.in_channels,
        request["height"] // pipeline.vae_scale_factor,
        request["width"] // pipeline.vae_scale_factor,
    )
    noise = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(request["seed"]))
    return noise.to(pipeline.device)


def latent_hash(latent: "torch.Tensor") -> bytes:
    return hashlib.sha256(latent.float().cpu().numpy().astype("<f4").tobytes()).digest()


def _load(setting: LocalModel) -> Any:
    try:
        from diffusers import StableDiffusionPipeline
        from diffusers.utils import logging as chatter

        import torch
    except ImportError:
        raise missing("diffusers") from None
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    torch.use_deterministic_algorithms(True, warn_only=True)
    pipeline = StableDiffusionPipeline.from_pretrained(
        str(folder_of(setting)),
        torch_dtype=getattr(torch, setting.dtype),
        use_safetensors=True,
        local_files_only=True,
        safety_checker=None,
        requires_safety_checker=False,
    )
    return pipeline.to(device_of(setting))


def device_of(setting: LocalModel) -> str:
    import torch

    if setting.device != "auto":
        return setting.device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _scheduler_of(pipeline: Any, steps: int) -> Any:
    """A fresh one for each request: schedulers remember."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    scheduler.set_timesteps(steps)
    return scheduler


def _encode(pipeline: Any, prompt: str, *, guided: bool) -> "tuple[torch.Tensor, dict[str, str]]":
    import torch

    most = pipeline.tokenizer.model_max_length
    whole = len(pipeline.tokenizer(prompt)["input_ids"])
    notes = {"prompt": f"kept the first {most} of {whole} tokens"} if whole > most else {}
    asked = ["", prompt] if guided else [prompt]
    tokens = pipeline.tokenizer(
        asked, padding="max_length", max_length=most, truncation=True, return_tensors="pt"
    )
    with torch.inference_mode():
        return pipeline.text_encoder(tokens["input_ids"].to(pipeline.device))[0], notes


def _step(pipeline: Any, paintings: Sequence[Painting]) -> "list[torch.Tensor]":
    """One product for all; then each by its own scheduler, guidance and time."""
    import torch

    times = [painting.scheduler.timesteps[len(painting.transcript)] for painting in paintings]
    copies = len(paintings[0].text)
    latent = torch.cat([painting.latent for painting in paintings])
    time = torch.stack(times).to(pipeline.device)
    text = torch.cat([painting.text[at : at + 1] for at in range(copies) for painting in paintings])
    with torch.inference_mode():
        found = pipeline.unet(
            torch.cat([latent] * copies).to(pipeline.unet.dtype),
            torch.cat([time] * copies),
            encoder_hidden_states=text,
        ).sample.float()
        after = []
        for at, painting in enumerate(paintings):
            noise = found[at : at + 1]
            if painting.guided:
                with_words = found[len(paintings) + at : len(paintings) + at + 1]
                noise = noise + painting.request["guidance_milli"] / 1000 * (with_words - noise)
            after.append(painting.scheduler.step(noise, times[at], painting.latent, eta=0.0).prev_sample)
    return after


def _decode(pipeline: Any, latent: "torch.Tensor") -> Any:
    import torch

    with torch.inference_mode():
        scaled = (latent / pipeline.vae.config.scaling_factor).to(pipeline.vae.dtype)
        picture = pipeline.vae.decode(scaled).sample[0].float()
        pixels = ((picture / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return pixels.permute(1, 2, 0).cpu().numpy()


@contextmanager
def memory_errors() -> Iterator[None]:
    """torch has its own words for it; the host knows one."""
    try:
        yield
    except RuntimeError as error:
        if "out of memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise EngineError("out_of_memory", str(error).splitlines()[0][:300]) from None
