"""Is a port free? Asked before a server starts, so that the answer is one line and not a traceback."""

import socket

from aitbc.ports import StorageError


class PortInUse(StorageError):
    """The address cannot be listened on."""


def check_port(host: str, port: int) -> None:
    """Raise PortInUse with what to do when nothing can listen on host:port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortInUse(
                f"{host}:{port} cannot be listened on ({error.strerror}): stop what uses it, or choose another port"
            ) from None
