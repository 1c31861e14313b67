"""Train tiny-lm on stories from the grammar and write the weights file that the package ships.

Torch is needed here and nowhere else. See README.md beside this file for the exact command.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import math
import os
import pathlib
import time

import grammar
import numpy as np
from torch.nn import functional

import torch
from aitbc.adapters.engines import tiny_lm
from torch import nn

VOCABULARY = 1024
WIDTH = 128
LAYERS = 4
HEADS = 4
CONTEXT = 384
HELD_OUT_STORIES = 500


def learn_merges(stories: list[str]) -> np.ndarray:
    """Byte-pair encoding: join the most frequent neighbours within words until the vocabulary is full."""
    counts = collections.Counter(word for text in stories for word in tiny_lm.WORD.findall(text.encode()))
    words = [(list(word), count) for word, count in sorted(counts.items())]
    merges: list[tuple[int, int]] = []
    for new_token in range(tiny_lm.FIRST_MERGED, VOCABULARY):
        pairs: collections.Counter[tuple[int, int]] = collections.Counter()
        for tokens, count in words:
            for pair in itertools.pairwise(tokens):
                pairs[pair] += count
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for tokens, _ in words:
            at = 0
            while at < len(tokens) - 1:
                if (tokens[at], tokens[at + 1]) == best:
                    tokens[at : at + 2] = [new_token]
                at += 1
    return np.array(merges, dtype=np.uint16)


def tokens_of(tokenizer: tiny_lm.Tokenizer, seeds: range) -> np.ndarray:
    """All stories of these seeds, each after an end-of-story token, as one row of token ids."""
    row: list[int] = []
    for seed in seeds:
        row.append(tiny_lm.END_OF_STORY)
        row += tokenizer.encode(grammar.story(seed))
    row.append(tiny_lm.END_OF_STORY)
    return np.array(row, dtype=np.uint16)


def normalized(x: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + tiny_lm.NORM_FLOOR)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.down.weight)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        rows, length, _ = x.shape
        q, k, v = self.qkv(normalized(x)).view(rows, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(
            rotated(q, cos, sin), rotated(k, cos, sin), v, is_causal=True
        )
        x = x + self.out(mixed.transpose(1, 2).reshape(rows, length, WIDTH))
        return x + self.down(functional.relu(self.up(normalized(x))).square())


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


class StoryModel(nn.Module):
    """The transformer of `tiny_lm.Network`: gainless pre-norm, rotary positions, squared ReLU, tied head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        nn.init.normal_(self.embedding.weight, std=0.05)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.head_scale = nn.Parameter(torch.tensor(1.0))
        cos, sin = tiny_lm.rotary_tables(CONTEXT, WIDTH // HEADS)
        self.register_buffer("cos", torch.from_numpy(cos))
        self.register_buffer("sin", torch.from_numpy(sin))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        length = tokens.shape[1]
        x = normalized(self.embedding(tokens))
        for block in self.blocks:
            x = block(x, self.cos[:length], self.sin[:length])
        return functional.linear(normalized(x), self.embedding.weight) * self.head_scale


def draw_batch(
    data: np.ndarray, starts: np.ndarray, dice: np.random.Generator, rows: int, length: int
) -> torch.Tensor:
    """Half of the rows begin where a story begins (as every request does), half anywhere."""
    begins = np.concatenate(
        [dice.choice(starts, size=(rows + 1) // 2), dice.integers(0, len(data) - length - 1, size=rows // 2)]
    )
    return torch.from_numpy(np.stack([data[at : at + length + 1] for at in begins]).astype(np.int64))


def loss_of(model: StoryModel, batch: torch.Tensor) -> torch.Tensor:
    logits = model(batch[:, :-1])
    return functional.cross_entropy(logits.reshape(-1, VOCABULARY), batch[:, 1:].reshape(-1))


@torch.no_grad()
def held_out_loss(model: StoryModel, tokenizer: tiny_lm.Tokenizer) -> float:
    """Mean cross entropy per token, in nats, over stories of seeds that training never draws, each alone."""
    total, count = 0.0, 0
    for number in range(HELD_OUT_STORIES):
        seed = grammar.FIRST_HELD_OUT_SEED + number
        row = torch.from_numpy(tokens_of(tokenizer, range(seed, seed + 1)).astype(np.int64))[
            None, : CONTEXT + 1
        ]
        total += float(loss_of(model, row)) * (row.shape[1] - 1)
        count += row.shape[1] - 1
    return total / count


def save(model: StoryModel, merges: np.ndarray, path: pathlib.Path) -> None:
    """Write float16 weights, each matrix as (inputs, outputs); a crash never leaves half a file."""
    arrays = {"merges": merges, "heads": np.array(HEADS), "context": np.array(CONTEXT)}
    arrays["head_scale"] = np.array(model.head_scale.item(), dtype=np.float32)
    arrays["embedding"] = model.embedding.weight.detach().numpy().astype(np.float16)
    for name in ("qkv", "out", "up", "down"):
        stack = [getattr(block, name).weight.detach().numpy().T for block in model.blocks]
        arrays[name] = np.stack(stack).astype(np.float16)
    partial = path.with_suffix(".partial.npz")
    np.savez_compressed(partial, **arrays)
    os.replace(partial, path)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--out", type=pathlib.Path, required=True)
    options.add_argument("--stories", type=int, default=80_000)
    options.add_argument("--steps", type=int, default=4000)
    options.add_argument(
        "--minutes", type=float, default=1e9, help="end the schedule early when time runs out"
    )
    options.add_argument("--row-tokens", type=int, default=4096, help="tokens in one step")
    options.add_argument("--rate", type=float, default=4e-3)
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(chosen.seed)
    dice = np.random.default_rng(chosen.seed)

    merges = learn_merges([grammar.story(seed) for seed in range(8000)])
    tokenizer = tiny_lm.Tokenizer(merges)
    data = tokens_of(tokenizer, range(chosen.stories))
    starts = np.flatnonzero(data[: -CONTEXT - 1] == tiny_lm.END_OF_STORY)
    print(
        f"{len(data):,} tokens in {chosen.stories:,} stories, {len(data) / chosen.stories:.0f} a story",
        flush=True,
    )

    model = StoryModel()
    matrices = [parameter for name, parameter in model.named_parameters() if name.startswith("blocks")]
    others = [parameter for name, parameter in model.named_parameters() if not name.startswith("blocks")]
    print(f"{sum(parameter.numel() for parameter in model.parameters()):,} parameters", flush=True)
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=chosen.rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=chosen.rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]

    began, step, smooth = time.monotonic(), 0, math.nan
    while True:
        # Warm up for 100 steps, hold, then fall to zero over the last 40 per cent.
        progress = max(step / chosen.steps, (time.monotonic() - began) / 60 / chosen.minutes)
        if progress >= 1:
            break
        rate = chosen.rate * min(1.0, (step + 1) / 100, (1 - progress) / 0.4)
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = rate
        # Short rows are cheaper; the last third of the schedule teaches the far positions too.
        length = CONTEXT if progress > 0.67 else 256
        rows = max(2, chosen.row_tokens // length)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model, draw_batch(data, starts, dice, rows, length))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        smooth = loss.item() if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss.item()
        step += 1
        if step % 50 == 0:
            print(f"step {step} loss {smooth:.4f} minutes {(time.monotonic() - began) / 60:.2f}", flush=True)
        if step % 400 == 0:
            save(model, merges, chosen.out)

    save(model, merges, chosen.out)
    loss_held_out = held_out_loss(model, tokenizer)
    print(f"steps {step}, minutes {(time.monotonic() - began) / 60:.1f}, training loss {smooth:.4f}")
    print(f"held-out loss {loss_held_out:.4f} nats a token, perplexity {math.exp(loss_held_out):.3f}")
    print(f"{chosen.out.stat().st_size:,} bytes written to {chosen.out}")


if __name__ == "__main__":
    main()
