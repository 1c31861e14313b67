"""The implementation in tools/vectors as a slow, obvious model to compare with; it shares no code with ours."""

import sys
from pathlib import Path

_TOOLS = str(Path(__file__).resolve().parents[2] / "tools" / "vectors")
if _TOOLS not in sys.path:
    sys.path.append(_TOOLS)

import by_the_book as book  # noqa: E402

__all__ = ["book"]
