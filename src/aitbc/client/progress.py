"""What a job tells whoever watches it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Something a watcher may show."""

    stage: str
    """`quoted`, `paying`, `escrowed`, a job state of the hub, `running`, `text`, `delivered`, `claimed`."""
    message: str = ""
    """For people; only stages that happen once have one."""
    done: int = 0
    total: int = 0
    """Counts of `running`; 0 when there are none."""
    text: str = ""
    """New characters of `text`."""


Watch = Callable[[Progress], None]
