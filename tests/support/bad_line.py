"""A line to PostgreSQL's socket that breaks when it is told to."""

import contextlib
import socket
import threading
from pathlib import Path

SOCKET = ".s.PGSQL.5432"


class BadLine:
    """Listens in a folder like a server does; told to break, it lets a message through, swallows its answer and hangs
    up."""

    def __init__(self, folder: Path, server_folder: Path) -> None:
        self.folder = folder
        self._server = server_folder / SOCKET
        self._open: set[socket.socket] = set()
        self._trigger = b""
        self._messages = 0
        self.broken = threading.Event()
        self._listener: socket.socket | None = None
        self.mend()

    def mend(self) -> None:
        """Take calls, from now on without a fault."""
        self._trigger, self._messages = b"", 0
        if self._listener is None:
            (self.folder / SOCKET).unlink(missing_ok=True)
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(self.folder / SOCKET))
            self._listener.listen()
            threading.Thread(target=self._take_calls, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Hang up every line and take no call."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
            (self.folder / SOCKET).unlink(missing_ok=True)
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def break_after(self, *, text: bytes = b"", messages: int = 0) -> None:
        """Break at the next message with this text, or at the n-th from now on."""
        self.broken.clear()
        self._trigger, self._messages = text, messages

    def _breaks_at(self, data: bytes) -> bool:
        if self._messages:
            self._messages -= 1
            return self._messages == 0
        if self._trigger and self._trigger in data:
            self._trigger = b""
            return True
        return False

    def _take_calls(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self._server))
            silent = threading.Event()
            self._open |= {client, server}
            for ends in ((client, server, silent, True), (server, client, silent, False)):
                threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(
        self, source: socket.socket, target: socket.socket, silent: threading.Event, asks: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if asks and self._breaks_at(data):
                    silent.set()
                if not asks and silent.is_set():
                    self.broken.set()
                    break
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            self._open.discard(end)
