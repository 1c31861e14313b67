"""Does the engine child leave the machine enough to live on? Leaks of engines are on the host's side, too.

A card is watched against the owner's bound only: a card that is full refuses one request, which is `out_of_memory` and
ends nothing else, and allocators fill cards on purpose. A machine without memory kills somebody.
"""

from aitbc.adapters.machine import available_bytes
from aitbc.adapters.nvml import Cards
from aitbc.provider.config import ProviderConfig


def memory_problem(resident: int, config: ProviderConfig) -> str:
    """Why the child has to go; empty when it may stay."""
    if config.engine_memory_bytes and resident > config.engine_memory_bytes:
        return f"the engine holds {resident} bytes; it may hold {config.engine_memory_bytes}"
    left = available_bytes()
    if left < config.spare_memory_bytes and resident > config.spare_memory_bytes:
        return f"the machine has {left} bytes left, and the engine holds {resident}"
    return ""


def vram_problem(cards: Cards | None, pid: int, config: ProviderConfig) -> str:
    """The same of its cards; a card whose meters do not tell processes apart says nothing."""
    if cards is None or not config.engine_vram_bytes:
        return ""
    held = max(cards.held_by(pid), default=0)
    if held <= config.engine_vram_bytes:
        return ""
    return f"the engine holds {held} bytes of a card; it may hold {config.engine_vram_bytes}"
