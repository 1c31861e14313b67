"""Trains tiny-diffusion and writes the weights file the engine ships. See README.md for the recipe.

The network predicts the clean picture x from x_t = t * x + (1 - t) * noise; the loss is the squared error of the
velocity (x - x_t) / (1 - t) that this implies (rectified flow). torch is needed here and nowhere else.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from pathlib import Path

import numpy as np
from export import export_weights
from pictures import (
    COLOUR_WORDS,
    COLOURS,
    PLACES,
    SHAPE_WORDS,
    SHAPES,
    SIZE_WORDS,
    draw_scene,
    render,
    write_caption,
)
from torch.nn import functional as F

import torch
from torch import Tensor, nn

PATCH = 8
GRID = 8
PATCH_VALUES = PATCH * PATCH * 3
WIDTH = 128
BLOCKS = 5
HEADS = 4
MLP_WIDTH = 256
TEXT_WIDTH = 64
TEXT_BLOCKS = 2
TEXT_HEADS = 4
SUMMARIES = 4
MAX_WORDS = 16
CAPTION_DROPOUT = 0.1
# Time is drawn as u / (u + SHIFT * (1 - u)): a flat picture shows through heavy noise, so most decisions fall early.
SHIFT = 3.0
FILLER_WORDS = ("a", "an", "the", "on", "in", "at", "over", "against", "with", "background", "corner")
PLACE_WORDS = ("top", "upper", "bottom", "lower", "left", "right", "centre", "center", "middle")


def vocabulary() -> list[str]:
    groups = (*SHAPE_WORDS.values(), *COLOUR_WORDS.values(), *SIZE_WORDS.values(), FILLER_WORDS, PLACE_WORDS)
    return sorted({word for group in groups for word in group})


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """`bias` is added to the scores: what is near, or (very negative) what must not be seen."""
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        # Written out: on a CPU the fused bfloat16 kernel takes ten times as long at this size.
        scores = (q * (width // self.heads) ** -0.5) @ k.transpose(-1, -2)
        mixed = torch.softmax(scores + bias, dim=-1).to(v.dtype) @ v
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))


class GatedMlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 2 * hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * value)


def normalise(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), eps=1e-6)


class TextEncoder(nn.Module):
    """Summary tokens read the words; what they hold afterwards is all the denoiser learns about the caption."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.word = nn.Embedding(words + 1, TEXT_WIDTH)  # the last row pads, and is masked everywhere
        self.place = nn.Parameter(torch.randn(SUMMARIES + MAX_WORDS, TEXT_WIDTH) * 0.5)
        self.attention = nn.ModuleList(SelfAttention(TEXT_WIDTH, TEXT_HEADS) for _ in range(TEXT_BLOCKS))
        self.mlp = nn.ModuleList(GatedMlp(TEXT_WIDTH, TEXT_WIDTH) for _ in range(TEXT_BLOCKS))

    def forward(self, ids: Tensor, present: Tensor) -> Tensor:
        batch = ids.shape[0]
        words = torch.cat([torch.zeros(batch, SUMMARIES, TEXT_WIDTH), self.word(ids)], dim=1)
        x = words + self.place
        seen = torch.cat([torch.ones(batch, SUMMARIES, dtype=torch.bool), present], dim=1)[:, None, None, :]
        hide_padding = torch.where(seen, 0.0, -1e4)
        for attention, mlp in zip(self.attention, self.mlp, strict=True):
            x = x + attention(normalise(x), hide_padding)
            x = x + mlp(normalise(x))
        return normalise(x[:, :SUMMARIES])


class Denoiser(nn.Module):
    def __init__(self, words: int) -> None:
        super().__init__()
        self.text = TextEncoder(words)
        self.text_to_film = nn.Linear(SUMMARIES * TEXT_WIDTH, WIDTH)
        self.text_to_token = nn.Linear(TEXT_WIDTH, WIDTH)
        self.time = nn.Sequential(nn.Linear(64, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.patch_in = nn.Linear(PATCH_VALUES, WIDTH)
        self.place = nn.Parameter(torch.cat([torch.randn(SUMMARIES, WIDTH) * 0.5, grid_waves() * 0.7]))
        self.near = nn.Parameter(torch.zeros(BLOCKS, HEADS, (2 * GRID - 1) ** 2))
        self.register_buffer("offset", grid_offsets(), persistent=False)
        self.film = nn.Linear(WIDTH, 4 * WIDTH)
        self.film_block = nn.Parameter(torch.zeros(BLOCKS, 4 * WIDTH))
        self.attention = nn.ModuleList(SelfAttention(WIDTH, HEADS) for _ in range(BLOCKS))
        self.mlp = nn.ModuleList(GatedMlp(WIDTH, MLP_WIDTH) for _ in range(BLOCKS))
        self.film_head = nn.Linear(WIDTH, 2 * WIDTH)
        self.head_up = nn.Linear(WIDTH, 2 * WIDTH)
        self.head_down = nn.Linear(2 * WIDTH, PATCH_VALUES)
        # Helps the text encoder bind words early in training; thrown away afterwards.
        self.reader = nn.Linear(SUMMARIES * TEXT_WIDTH, sum(ATTRIBUTE_SIZES))
        for attention, mlp in zip(self.attention, self.mlp, strict=True):
            nn.init.zeros_(attention.out.weight)
            nn.init.zeros_(mlp.down.weight)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film_head.weight)

    def forward(self, patches: Tensor, t: Tensor, ids: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        summaries = self.text(ids, present)
        flat = summaries.flatten(1)
        condition = F.silu(self.text_to_film(flat) + self.time(time_features(t)))
        x = torch.cat([self.text_to_token(summaries), self.patch_in(patches)], dim=1) + self.place
        film = self.film(condition)
        for index, (attention, mlp) in enumerate(zip(self.attention, self.mlp, strict=True)):
            scale_a, shift_a, scale_m, shift_m = (film + self.film_block[index])[:, None, :].chunk(4, dim=-1)
            near = F.pad(self.near[index][:, self.offset], (SUMMARIES, 0, SUMMARIES, 0))
            x = x + attention(normalise(x) * (1 + scale_a) + shift_a, near)
            x = x + mlp(normalise(x) * (1 + scale_m) + shift_m)
        scale, shift = self.film_head(condition)[:, None, :].chunk(2, dim=-1)
        x = normalise(x[:, SUMMARIES:]) * (1 + scale) + shift
        return self.head_down(F.silu(self.head_up(x))), self.reader(flat)


def grid_waves() -> Tensor:
    """Where each patch is, as sines and cosines of its row and column: [64, WIDTH]."""
    steps = torch.arange(GRID) + 0.5
    frequencies = math.pi / GRID * torch.linspace(0.5, 4.0, WIDTH // 4)
    waves = torch.cat(
        [torch.sin(steps[:, None] * frequencies), torch.cos(steps[:, None] * frequencies)], dim=1
    )
    rows, columns = waves.repeat_interleave(GRID, dim=0), waves.repeat(GRID, 1)
    return torch.cat([rows, columns], dim=1)


def grid_offsets() -> Tensor:
    """For each pair of patches, the index of their (row, column) offset: [64, 64]."""
    patch = torch.arange(GRID * GRID)
    row, column = patch // GRID, patch % GRID
    span = 2 * GRID - 1
    return (row[:, None] - row[None, :] + GRID - 1) * span + (column[:, None] - column[None, :] + GRID - 1)


def time_features(t: Tensor) -> Tensor:
    frequencies = torch.exp(torch.linspace(0.0, math.log(100.0), 32)) * math.pi / 2
    angles = t[:, None] * frequencies
    return torch.cat([torch.cos(angles), torch.sin(angles)], dim=1)


ATTRIBUTE_SIZES = (len(SHAPES), len(COLOURS) + 1, len(COLOURS) + 1, len(PLACES) + 1, 3)


def draw_batch(
    random: np.random.Generator, size: int, ids_of: dict[str, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Patches in -1..1, word ids (padded with the vocabulary's size), and the attributes each caption names."""
    scenes, placements = zip(*(draw_scene(random) for _ in range(size)), strict=True)
    pictures = torch.from_numpy(render(placements)) / 127.5 - 1.0
    patches = (
        pictures.view(size, GRID, PATCH, GRID, PATCH, 3)
        .permute(0, 1, 3, 2, 4, 5)
        .reshape(size, GRID * GRID, -1)
    )
    ids = torch.full((size, MAX_WORDS), len(ids_of))
    attributes = torch.full((size, len(ATTRIBUTE_SIZES)), -1)
    for row, scene in enumerate(scenes):
        if random.random() < CAPTION_DROPOUT:
            continue
        words = re.findall("[a-z]+", write_caption(scene, random))[:MAX_WORDS]
        ids[row, : len(words)] = torch.tensor([ids_of[word] for word in words])
        attributes[row] = torch.tensor(
            [
                SHAPES.index(scene.shape),
                _index(tuple(COLOURS), scene.colour),
                _index(tuple(COLOURS), scene.background),
                _index(tuple(PLACES), scene.place),
                _index(("small", "large"), scene.size),
            ]
        )
    return patches, ids, attributes


def _index(names: tuple[str, ...], name: str | None) -> int:
    return len(names) if name is None else names.index(name)


def losses(
    model: nn.Module, patches: Tensor, ids: Tensor, attributes: Tensor, words: int, smallest_noise: float
) -> tuple[Tensor, Tensor]:
    """`smallest_noise` bounds the weight 1 / (1 - t)^2: high values favour the outline over the last speck of noise."""
    u = torch.rand(patches.shape[0])
    t = u / (u + SHIFT * (1 - u))
    noise = torch.randn_like(patches)
    noisy = t[:, None, None] * patches + (1 - t)[:, None, None] * noise
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predicted, read = model(noisy, t, ids, ids < words)
    weight = 1 / (1 - t).clamp(min=smallest_noise) ** 2
    picture_loss = (weight * ((predicted.float() - patches) ** 2).mean(dim=(1, 2))).mean()
    heads = read.float().split(list(ATTRIBUTE_SIZES), dim=1)
    text_loss = torch.stack(
        [F.cross_entropy(head, attributes[:, i], ignore_index=-1) for i, head in enumerate(heads)]
    ).mean()
    return picture_loss, text_loss


def learning_rate(step: int, *, steps: int, peak: float, falls: bool) -> float:
    """Warm up over 200 steps, then hold, or fall in a straight line to nothing."""
    return peak * min(1.0, (step + 1) / 200) * ((steps - step) / steps if falls else 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints and the loss log")
    parser.add_argument("--out", type=Path, required=True, help="the weights file to write")
    parser.add_argument("--start", type=Path, help="averaged weights of an earlier run; the rate then falls")
    parser.add_argument(
        "--smallest-noise", type=float, default=0.1, help="bounds the loss weight, see losses()"
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    random = np.random.default_rng(options.seed)

    words = vocabulary()
    ids_of = {word: index for index, word in enumerate(words)}
    model = Denoiser(len(words))
    if options.start is not None:
        model.load_state_dict(torch.load(options.start))
    average = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    in_block = {name: "attention" in name or "mlp" in name for name, _ in model.named_parameters()}
    matrices = [p for name, p in model.named_parameters() if in_block[name] and p.ndim == 2]
    others = [p for name, p in model.named_parameters() if not (in_block[name] and p.ndim == 2)]
    optimisers = [
        torch.optim.AdamW(others, lr=options.lr, betas=(0.9, 0.98), weight_decay=0.01),
        torch.optim.Muon(
            matrices, lr=options.lr, momentum=0.95, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
        ),
    ]
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(words)} words", flush=True)

    compiled = torch.compile(model)
    started, recent = time.monotonic(), []
    for step in range(options.steps):
        for group in (group for optimiser in optimisers for group in optimiser.param_groups):
            group["lr"] = learning_rate(
                step, steps=options.steps, peak=options.lr, falls=options.start is not None
            )
        picture_loss, text_loss = losses(
            compiled, *draw_batch(random, options.batch, ids_of), len(words), options.smallest_noise
        )
        model.zero_grad(set_to_none=True)
        (picture_loss + 0.1 * text_loss).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        keep = min(0.998, (step + 1) / (step + 20))
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                average[name].lerp_(tensor, 1 - keep)
        recent.append((picture_loss.item(), text_loss.item()))
        if (step + 1) % 100 == 0:
            picture_mean, text_mean = np.mean(recent, axis=0)
            recent.clear()
            line = {
                "step": step + 1,
                "loss": round(float(picture_mean), 4),
                "text_loss": round(float(text_mean), 4),
            }
            print(json.dumps(line | {"seconds": round(time.monotonic() - started)}), flush=True)
        if (step + 1) % 500 == 0 or step + 1 == options.steps:
            torch.save(average, options.work / "average.pt")
            export_weights(average, words, options.out)


if __name__ == "__main__":
    main()
