"""Vectors of texts by the library sentence-transformers, in small batches of like lengths.

A text beside others of another length is padded, so its vector may differ in the last bits; whoever checks compares by
cosine. Extra `sentence-transformers`.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from aitbc.adapters.engines.settings import EngineSettings, LocalModel, read_settings
from aitbc.adapters.engines.stable_diffusion import ENGINE_NONCE, device_of, memory_errors
from aitbc.adapters.engines.weights_folder import digest_of, folder_of, missing
from aitbc.core.jobs.reasons import Refused
from aitbc.core.jobs.requests import check_normalised
from aitbc.core.jobs.units import EmbeddingProfile, profile_of
from aitbc.ports import EngineError, EngineOutput, Estimate, ModelCard

BATCH = 16
"""Texts in one product: a cancel waits for no more than these."""
MEMORY_BYTES = 256 * 1024 * 1024
"""Activations of sixteen texts of 512 tokens in a model of MiniLM's size, an estimate."""


class SentenceVectors:
    """Every model that the settings list under `sentence_transformers`."""

    name = "sentence-transformers"

    def __init__(self, settings: EngineSettings | None = None) -> None:
        listed = (settings if settings is not None else read_settings()).sentence_transformers
        self._settings = {setting.model: setting for setting in listed}
        self._loaded: dict[str, Any] = {}

    def models(self) -> list[ModelCard]:
        return [self._card(setting) for setting in self._settings.values()]

    def load(self, model: str) -> None:
        setting = self._setting(model)
        if model not in self._loaded:
            with memory_errors():
                self._loaded[model] = _load(setting)

    def estimate(self, model: str, request: Mapping[str, Any]) -> Estimate:
        profile = self._checked(model, request)
        most = sum([len(text.encode()) + profile.input_overhead for text in request["input"]])
        return Estimate(counts={"in": most, "inputs": len(request["input"])}, memory_bytes=MEMORY_BYTES)

    def run(
        self,
        model: str,
        request: Mapping[str, Any],
        emit: Callable[[dict[str, Any]], None],
        cancelled: Callable[[], bool],
    ) -> EngineOutput:
        self._checked(model, request)
        self.load(model)
        encoder, texts = self._loaded[model], request["input"]
        sizes = [len(ids) for ids in encoder.tokenizer(texts)["input_ids"]]
        most = int(encoder.max_seq_length or max(sizes))
        order = sorted(range(len(texts)), key=lambda at: (sizes[at], at))
        rows: dict[int, bytes] = {}
        for start in range(0, len(order), BATCH):
            if cancelled():
                raise EngineError("cancelled", f"cancelled after {start} of {len(texts)} texts")
            batch = order[start : start + BATCH]
            with memory_errors():
                vectors = _encode(encoder, [texts[at] for at in batch], request["dimensions"])
            rows.update(zip(batch, vectors, strict=True))
            emit({"progress": [len(rows), len(texts)]})
        cut = sum(size > most for size in sizes)
        return EngineOutput(
            data=b"".join([rows[at] for at in range(len(texts))]),
            media_type="application/octet-stream",
            counts={"in": sum([min(size, most) for size in sizes]), "inputs": len(texts)},
            transcript=[hashlib.sha256(rows[at]).digest() for at in range(len(texts))],
            notes={"input": f"{cut} texts were cut after {most} tokens"} if cut else {},
        )

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
        if not isinstance(profile, EmbeddingProfile):
            raise EngineError("failed", f"{setting.model} makes no vectors")
        folder = folder_of(setting)
        weights = sum([path.stat().st_size for path in folder.rglob("*.safetensors")])
        limits = {"dimensions": profile.dimensions}
        digest = digest_of(folder)
        return ModelCard(
            model=setting.model, kind="embedding", digest=digest, limits=limits, memory_bytes=weights
        )

    def _checked(self, model: str, request: Mapping[str, Any]) -> EmbeddingProfile:
        self._setting(model)
        profile = profile_of(model)
        assert isinstance(profile, EmbeddingProfile), "cards are made for this kind only"
        try:
            check_normalised(profile, {**request, "nonce": ENGINE_NONCE})
        except Refused as error:
            raise EngineError("bad_request", error.message) from None
        return profile


def _load(setting: LocalModel) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise missing("sentence-transformers") from None
    encoder = SentenceTransformer(
        str(folder_of(setting)),
        device=device_of(setting),
        trust_remote_code=False,
        local_files_only=True,
        model_kwargs={"use_safetensors": True},
    )
    profile = profile_of(setting.model)
    found = encoder.encode(["x"], show_progress_bar=False).shape[1]
    if not isinstance(profile, EmbeddingProfile) or found != profile.dimensions:
        raise EngineError(
            "failed", f"{setting.source} makes vectors of {found} numbers, not {setting.model}'s"
        )
    return encoder


def _encode(encoder: Any, texts: list[str], dimensions: int) -> list[bytes]:
    """float32 of length 1, cut to the asked dimensions before."""
    import numpy as np

    whole = encoder.encode(texts, batch_size=BATCH, convert_to_numpy=True, show_progress_bar=False)
    vectors = whole[:, :dimensions].astype(np.float64)
    lengths = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    return [row.tobytes() for row in (vectors / np.maximum(lengths, 1e-12)).astype("<f4")]
