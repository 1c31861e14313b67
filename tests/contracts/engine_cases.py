"""The engines that the contract is held against, each with a request that is quickly done and a long one."""

from collections.abc import Callable
from contextlib import AbstractContextManager as Context
from contextlib import nullcontext
from typing import Any, NamedTuple

from aitbc.adapters.engines.tiny_diffusion import TinyDiffusion
from aitbc.adapters.engines.tiny_embed import TinyEmbed
from aitbc.adapters.engines.tiny_lm import TinyLm
from aitbc.ports import Engine


class Case(NamedTuple):
    """One engine under the contract."""

    name: str
    model: str
    made: Callable[[], Context[Engine]]
    quick: dict[str, Any]
    """Fields of a client's request."""
    long: dict[str, Any]
    """Asks `cancelled` at least four times."""
    exact: bool = True
    """Same request, same bytes. An engine that stands before another server promises no more than that server."""
    tolerance: float = 0.0
    """How far two runs of one request may differ beside others; 0: not at all."""


CASES = [
    Case(
        name="tiny-lm",
        model="tiny-lm",
        made=lambda: nullcontext(TinyLm()),
        quick={"prompt": "Once upon", "max_tokens": 12},
        long={"prompt": "Once upon", "max_tokens": 256, "temperature_milli": 0},
    ),
    Case(
        name="tiny-diffusion",
        model="tiny-diffusion",
        made=lambda: nullcontext(TinyDiffusion()),
        quick={"prompt": "a red circle", "steps": 4},
        long={"prompt": "a red circle", "steps": 50, "width": 512, "height": 512},
    ),
    Case(
        name="tiny-embed",
        model="tiny-embed",
        made=lambda: nullcontext(TinyEmbed()),
        quick={"input": ["a fox", "a boat on the river"]},
        long={"input": ["a word"] * 128},
    ),
]
