"""Does the engine child leave the machine enough to live on? Leaks of engines are on the host's side, too."""

from aitbc.adapters.machine import available_bytes
from aitbc.provider.config import ProviderConfig


def memory_problem(resident: int, config: ProviderConfig) -> str:
    """Why the child has to go; empty when it may stay."""
    if config.engine_memory_bytes and resident > config.engine_memory_bytes:
        return f"the engine holds {resident} bytes; it may hold {config.engine_memory_bytes}"
    left = available_bytes()
    if left < config.spare_memory_bytes and resident > config.spare_memory_bytes:
        return f"the machine has {left} bytes left, and the engine holds {resident}"
    return ""
