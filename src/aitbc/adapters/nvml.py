"""What NVIDIA's own meters say of the cards, as information: nothing is billed by it. Extra `nvml`."""

import logging
from typing import Any

log = logging.getLogger("aitbc.provider")

Reading = dict[str, float]


class Cards:
    """The cards of this machine; none where the library or the driver is missing, which is said once."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._handles: list[Any] = []
        try:
            import pynvml

            pynvml.nvmlInit()
            self._handles = [
                pynvml.nvmlDeviceGetHandleByIndex(at) for at in range(pynvml.nvmlDeviceGetCount())
            ]
            self._nvml = pynvml
        except ImportError:
            log.debug("no meters of NVIDIA cards: the extra 'nvml' is not installed")
        except Exception as error:  # the library has one exception class for each way a driver can be missing
            log.info("no meters of NVIDIA cards: %s", error)

    @property
    def names(self) -> list[str]:
        return [_text(self._nvml.nvmlDeviceGetName(handle)) for handle in self._handles]

    def read(self) -> list[Reading]:
        """By card; a meter that a card lacks reads 0."""
        return [self._read(handle) for handle in self._handles]

    def held_by(self, pid: int) -> list[int]:
        """By card, the bytes that a process holds; 0 where the driver does not say, as in a container."""
        return [self._held(handle, pid) for handle in self._handles]

    def _held(self, handle: Any, pid: int) -> int:
        try:
            found = self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except self._nvml.NVMLError:
            return 0
        return sum([each.usedGpuMemory or 0 for each in found if each.pid == pid])

    @property
    def largest_bytes(self) -> int:
        """Memory of the largest card; 0 without one."""
        totals = [reading["aitbc_provider_vram_total_bytes"] for reading in self.read()]
        return int(max(totals, default=0))

    def _read(self, handle: Any) -> Reading:
        nvml = self._nvml
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        return {
            "aitbc_provider_vram_used_bytes": float(memory.used),
            "aitbc_provider_vram_total_bytes": float(memory.total),
            "aitbc_provider_gpu_utilization_ratio": self._meter(
                lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
            ),
            "aitbc_provider_gpu_power_watts": self._meter(
                lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000
            ),
        }

    def _meter(self, read: Any) -> float:
        try:
            return float(read())
        except self._nvml.NVMLError:
            return 0.0


def _text(name: str | bytes) -> str:
    """Older releases answer bytes."""
    return name.decode(errors="replace") if isinstance(name, bytes) else name
