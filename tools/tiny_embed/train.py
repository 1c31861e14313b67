"""Derive the table of tiny-embed from the stories of tiny-lm and the captions of tiny-diffusion, with numpy alone.

Word vectors come from which words stand near each other (PPMI, factored by SVD); the table's rows are fitted by ridge
regression so that the mean of a word's pieces is that word's vector. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import sys

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "tiny_lm"), str(HERE.parent / "tiny_diffusion")]

import grammar  # noqa: E402
import pictures  # noqa: E402

from aitbc.adapters.engines import tiny_embed  # noqa: E402

STORIES = 12_000
CAPTIONS = 12_000
ROWS = 8_192
WINDOW = 6
SMOOTHING = 0.75
"""Of the context's frequency: without it, PPMI is ruled by the rarest words."""
LEAST_COUNT = 3
RIDGE = 0.01
COMMON = 1e-3
"""A word that makes one in a thousand counts half."""
UNSEEN = 0.35
"""Length of a row that the text never touched, against the mean of the others: unknown words are told apart, known
ones decide."""
SEED = 20_261_122


def texts() -> list[str]:
    dice = np.random.default_rng(SEED)
    captions = [pictures.write_caption(pictures.draw_scene(dice)[0], dice) for _ in range(CAPTIONS)]
    return [grammar.story(seed) for seed in range(STORIES)] + captions


def word_vectors(documents: list[list[bytes]], words: list[bytes], counts: np.ndarray) -> np.ndarray:
    """Rows of length 1: PPMI of words within a window, closer ones counting more, cut down by SVD."""
    number = {word: at for at, word in enumerate(words)}
    near = np.zeros((len(words), len(words)))
    for tokens in documents:
        ids = np.array([number.get(token, -1) for token in tokens])
        for distance in range(1, WINDOW + 1):
            left, right = ids[:-distance], ids[distance:]
            both = (left >= 0) & (right >= 0)
            np.add.at(near, (left[both], right[both]), 1 / distance)
    near += near.T
    context = near.sum(axis=0) ** SMOOTHING
    expected = np.outer(near.sum(axis=1), context / context.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        ppmi = np.maximum(np.nan_to_num(np.log(near / expected), neginf=0), 0)
    left, strength, _ = np.linalg.svd(ppmi)
    vectors = left[:, : tiny_embed.DIMENSIONS] * np.sqrt(strength[: tiny_embed.DIMENSIONS])
    vectors -= (vectors * counts[:, None]).sum(axis=0) / counts.sum()
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def fit_rows(words: list[bytes], vectors: np.ndarray) -> np.ndarray:
    """The table whose mean over a word's features is near that word's vector, in the dual: words, not rows."""
    mix = np.zeros((len(words), ROWS))
    for at, word in enumerate(words):
        features = tiny_embed.features_of(word, ROWS)
        np.add.at(mix[at], features, 1 / len(features))
    rows = mix.T @ np.linalg.solve(mix @ mix.T + RIDGE * np.eye(len(words)), vectors)
    touched = mix.any(axis=0)
    length = np.linalg.norm(rows[touched], axis=1).mean() * UNSEEN
    dice = np.random.default_rng(SEED)
    unseen = dice.standard_normal((int((~touched).sum()), tiny_embed.DIMENSIONS))
    rows[~touched] = unseen / np.linalg.norm(unseen, axis=1, keepdims=True) * length
    return rows


def straighten(rows: np.ndarray, sentences: np.ndarray) -> np.ndarray:
    """Take out what all texts share, and turn the axes so that the first ones tell texts apart the best."""
    sentences = sentences / np.linalg.norm(sentences, axis=1, keepdims=True)
    _, _, axes = np.linalg.svd(sentences, full_matrices=False)
    common = axes[0]
    rows = rows - np.outer(rows @ common, common)
    rest = sentences - np.outer(sentences @ common, common)
    _, _, turn = np.linalg.svd(rest - rest.mean(axis=0), full_matrices=True)
    return rows @ turn.T


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--out", type=pathlib.Path, default=pathlib.Path("tiny_embed.npz"))
    out = options.parse_args().out
    documents = [tiny_embed.tokens_of(text) for text in texts()]
    counted = collections.Counter(token for tokens in documents for token in tokens)
    words = sorted(word for word, count in counted.items() if count >= LEAST_COUNT)
    counts = np.array([counted[word] for word in words], dtype=np.float64)
    vectors = word_vectors(documents, words, counts)
    weights = np.maximum(1, np.rint(tiny_embed.WEIGHT_ONE * COMMON / (COMMON + counts / counts.sum())))
    arrays = {"words": np.frombuffer(b"\n".join(words), dtype=np.uint8), "weights": weights.astype(np.uint16)}

    rows = fit_rows(words, vectors)
    table = tiny_embed.Table({**arrays, "rows": np.rint(rows * 1e6)})
    rows = straighten(rows, np.array([table.sum_of(tokens) for tokens in documents[::3]], dtype=np.float64))
    # the longest in ten thousand numbers are cut: one outlier must not cost all others a bit
    most = np.quantile(np.abs(rows), 0.9999)
    arrays["rows"] = np.clip(np.rint(rows * 127 / most), -127, 127).astype(np.int8)
    np.savez_compressed(out, **arrays)
    print(f"{len(words)} words, {out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
