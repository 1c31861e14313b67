"""Vectors of requests, units and prices, tickets and draws."""

from typing import Any

import by_the_book as book
from fixtures import h, keys, sha

Json = Any

CHAT: dict[str, Json] = {
    "kind": "chat", "model": "tiny-lm", "alpha": [1, 4], "kappa": [5, 1], "max_prompt_bytes": 2048,
    "max_tokens": 256, "max_temperature_milli": 5_000, "max_top_k": 1_024, "prompt_overhead": 8,
}  # fmt: skip
IMAGE: dict[str, Json] = {
    "kind": "image", "model": "tiny-diffusion", "kappa": [12_800, 1], "native": [64, 64], "max_prompt_bytes": 512,
    "min_steps": 4, "max_steps": 50, "max_guidance_milli": 10_000, "min_side": 64, "max_side": 512,
    "side_multiple": 64, "square_only": True,
}  # fmt: skip
EMBEDDING: dict[str, Json] = {
    "kind": "embedding", "model": "tiny-embed", "kappa": [1, 20], "dimensions": 128, "min_dimensions": 16,
    "max_inputs": 128, "max_input_bytes": 2048, "max_total_bytes": 8192, "input_overhead": 0,
}  # fmt: skip
ESTIMATED: list[dict[str, Json]] = [
    {"kind": "chat", "model": "llama-3.1-8b-instruct", "alpha": [1, 10], "kappa": [25, 1], "max_prompt_bytes": 32768,
     "max_tokens": 4096, "max_temperature_milli": 2000, "max_top_k": 1000, "prompt_overhead": 64},
    {"kind": "image", "model": "sd-1.5", "kappa": [500, 1], "native": None, "max_prompt_bytes": 1024, "min_steps": 5,
     "max_steps": 100, "max_guidance_milli": 25_000, "min_side": 256, "max_side": 1024, "side_multiple": 8,
     "square_only": False},
    {"kind": "embedding", "model": "all-minilm-l6-v2", "kappa": [1, 5], "dimensions": 384, "min_dimensions": 384,
     "max_inputs": 128, "max_input_bytes": 4096, "max_total_bytes": 32_768, "input_overhead": 2},
]  # fmt: skip
KINDS = {"sd-1.5": "image", "tiny-lm": "chat", "tiny-diffusion": "image", "tiny-embed": "embedding"}
NONCE = "00112233445566778899aabbccddeeff"


def jobs() -> Json:
    return {
        "spec": "docs/spec/requests.md, docs/spec/units.md, docs/spec/draw.md",
        "profiles": [
            {
                "profile": profile,
                "digest": "sha256:" + book.tagged("aitbc/profile/1", book.jcs(profile)).hex(),
            }
            for profile in (CHAT, IMAGE, EMBEDDING, *ESTIMATED)
        ],
        "requests": _requests(),
        "refused_requests": _refused_requests(),
        "units": _units(),
        "prices": [
            {"units": units, "price_per_kilounit": price, "price": -(-units * price // 1000)}
            for units, price in ((1, 1), (1000, 1), (1001, 1), (1900, 1_000_000), (1, 0), (10**12, 9_007))
        ],
        "draws": _draws(),
        "weights": _weights(),
    }


def _requests() -> list[Json]:
    cases: list[tuple[str, dict[str, Json], dict[str, Json]]] = [
        ("tiny-lm", {"prompt": "Once upon"}, {"max_tokens": 128, "temperature_milli": 800, "top_k": 40, "seed": 0}),
        ("tiny-lm", {"prompt": "é \U0001f600", "max_tokens": 256, "temperature_milli": 0, "top_k": 1, "seed": 2**53 - 1}, {}),
        ("tiny-diffusion", {"prompt": "a red circle on blue"}, {"width": 64, "height": 64, "steps": 20, "guidance_milli": 3_000, "seed": 0}),
        ("tiny-diffusion", {"prompt": "x", "width": 512, "height": 512, "steps": 4, "guidance_milli": 0, "seed": 7}, {}),
        ("sd-1.5", {"prompt": "x", "width": 512, "height": 768}, {"steps": 20, "guidance_milli": 3_000, "seed": 0}),
        ("tiny-embed", {"input": ["a fox", "é \U0001f600"]}, {"dimensions": 128}),
        ("tiny-embed", {"input": ["x"] * 128, "dimensions": 16}, {}),
    ]  # fmt: skip
    listed = []
    for model, given, defaults in cases:
        request = {"kind": KINDS[model], "model": model, "nonce": NONCE} | defaults | given
        listed.append(
            {
                "model": model,
                "fields": given,
                "nonce": NONCE,
                "request": request,
                "jcs": book.jcs(request).hex(),
                "request_hash": book.hash_text(book.jcs(request)),
                "prompt_hash": sha(request["prompt"])
                if "prompt" in request
                else book.hash_text(book.jcs(request["input"])),
            }
        )
    return listed


def _refused_requests() -> list[Json]:
    cases: list[tuple[str, str, dict[str, Json]]] = [
        ("no prompt", "tiny-lm", {}),
        ("an empty prompt", "tiny-lm", {"prompt": ""}),
        ("a prompt of 2,049 bytes", "tiny-lm", {"prompt": "é" * 1024 + "x"}),
        ("an unknown field", "tiny-lm", {"prompt": "x", "temperature": 1}),
        ("another kind's field", "tiny-lm", {"prompt": "x", "steps": 20}),
        ("0 tokens", "tiny-lm", {"prompt": "x", "max_tokens": 0}),
        ("257 tokens", "tiny-lm", {"prompt": "x", "max_tokens": 257}),
        ("truth for a number", "tiny-lm", {"prompt": "x", "seed": True}),
        ("text for a number", "tiny-lm", {"prompt": "x", "seed": "7"}),
        ("a seed of 2^53", "tiny-lm", {"prompt": "x", "seed": 2**53}),
        ("a width between the steps", "tiny-diffusion", {"prompt": "x", "width": 65, "height": 65}),
        ("no square", "tiny-diffusion", {"prompt": "x", "width": 64, "height": 128}),
        ("3 steps", "tiny-diffusion", {"prompt": "x", "steps": 3}),
        ("no texts", "tiny-embed", {"input": []}),
        ("a text that is no list", "tiny-embed", {"input": "x"}),
        ("an empty text", "tiny-embed", {"input": ["x", ""]}),
        ("a number for a text", "tiny-embed", {"input": ["x", 7]}),
        ("129 texts", "tiny-embed", {"input": ["x"] * 129}),
        ("a text of 2,049 bytes", "tiny-embed", {"input": ["x" * 2049]}),
        ("8,193 bytes together", "tiny-embed", {"input": ["x" * 2048] * 4 + ["x"]}),
        ("a prompt for an embedding", "tiny-embed", {"prompt": "x"}),
        ("15 dimensions", "tiny-embed", {"input": ["x"], "dimensions": 15}),
    ]
    return [
        {"name": name, "model": model, "fields": given, "reason": "bad_request"}
        for name, model, given in cases
    ]


def _units() -> list[Json]:
    """ceil((in · 1/4 + out) · 5) for tiny-lm; ceil(steps · 64 · 64 · 12,800 / 2^20) for tiny-diffusion;
    ceil(in / 20) for tiny-embed."""
    listed = []
    for count_in, count_out in ((0, 0), (1, 0), (4, 1), (17, 42), (11, 128)):
        units = max(1, -(-(count_in + 4 * count_out) * 5 // 4))
        fields = {"prompt": "x" * 9, "max_tokens": 128}
        listed.append({"model": "tiny-lm", "fields": fields, "counts": {"in": count_in, "out": count_out},
                       "units": units, "worst_case": -(-(17 + 4 * 128) * 5 // 4)})  # fmt: skip
    for steps, side in ((4, 64), (20, 64), (38, 128), (50, 512)):
        units = -(-steps * 64 * 64 * 12_800 // 2**20)
        fields = {"prompt": "x", "steps": steps, "width": side, "height": side}
        counts = {"steps": steps, "width": side, "height": side, "native_width": 64, "native_height": 64}
        listed.append(
            {
                "model": "tiny-diffusion",
                "fields": fields,
                "counts": counts,
                "units": units,
                "worst_case": units,
            }
        )
    for tokens in (0, 1, 20, 21, 40):
        fields = {"input": ["x" * 30, "y" * 10]}
        listed.append(
            {
                "model": "tiny-embed",
                "fields": fields,
                "counts": {"in": tokens, "inputs": 2},
                "units": max(1, -(-tokens // 20)),
                "worst_case": 2,
            }
        )
    return listed


def _draws() -> list[Json]:
    owners = sorted(keys()[name].address for name in ("provider", "alice", "bob", "carol"))
    table = [
        {
            "address": address,
            "weight": weight,
            "price_per_kilounit": 1_000_000,
            "model_digest": sha("weights"),
        }
        for address, weight in zip(owners, (1_000, 4_000, 15, 2_000), strict=True)
    ]
    listed = []
    for number in range(12):
        lock, task, attempt, randomness = (
            h(f"lock {number}").hex(),
            number % 3,
            number % 2 + 1,
            h(f"block {number}"),
        )
        rows = table[:1] if number == 0 else table
        ticket = book.ticket_of(lock, task, attempt)
        listed.append(
            {
                "table": rows,
                "candidates_hash": book.hash_text(book.jcs(rows)),
                "lock": lock,
                "task": task,
                "attempt": attempt,
                "ticket": ticket,
                "randomness": randomness.hex(),
                "winner": book.draw(rows, ticket, randomness),
            }
        )
    return listed


def _weights() -> list[Json]:
    """Quality is in millionths; asking less than quoted counts up to fourfold."""
    return [
        {
            "price_per_kilounit": asked,
            "quoted_per_kilounit": quoted,
            "quality": quality,
            "weight": min(
                max(min(max(1000 * quoted // max(1, asked), 1000), 4000) * quality // 4000, 1), 10**6
            ),
        }
        for asked, quoted, quality in (
            (1000, 1000, 10**6),
            (500, 1000, 10**6),
            (250, 1000, 10**6),
            (1, 1000, 10**6),
            (0, 1000, 10**6),
            (0, 0, 10**6),
            (700, 1000, 123_456),
            (1000, 1000, 1),
            (1000, 1000, 3),
            (1000, 1000, 4),
            (3, 10**15, 999_999),
        )
    ]
