"""What a discovery service is told at start."""

from pathlib import Path

import msgspec


class DiscoveryConfig(msgspec.Struct, frozen=True, kw_only=True):
    data: Path
    """Folder of the directory."""
    host: str = "127.0.0.1"
    port: int = 4444
    """ccoin's."""
    allow_private: bool = False
    """List and dial addresses of a local network too: for one that is not in public."""
