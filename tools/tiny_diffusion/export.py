"""Writes trained tensors as the engine's weights file: int8 matrices with one scale per output, the rest float32."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np

from torch import Tensor

# Only training uses these: the reader that guesses attributes off the caption's summary.
TRAINING_ONLY = ("reader.weight", "reader.bias")


def export_weights(tensors: Mapping[str, Tensor], words: Sequence[str], path: Path) -> None:
    """The same tensors always give the same bytes: a zip with fixed dates, entries in name order."""
    arrays: dict[str, np.ndarray] = {"words": np.array(words)}
    for name, tensor in tensors.items():
        if name in TRAINING_ONLY:
            continue
        value = tensor.detach().float().numpy()
        if name == "text.word.weight":
            value = value[:-1]
        if value.ndim == 2 and name.endswith("weight"):
            scale = np.maximum(np.abs(value).max(axis=1), 1e-8).astype(np.float32) / np.float32(127)
            arrays[name] = np.rint(value / scale[:, None]).astype(np.int8)
            arrays[f"{name}.scale"] = scale
        else:
            arrays[name] = value.astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(arrays):
            content = BytesIO()
            np.lib.format.write_array(content, arrays[name], allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            archive.writestr(entry, content.getvalue(), compress_type=zipfile.ZIP_DEFLATED)
