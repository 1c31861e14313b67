"""A byte stream between two nodes that nobody else can read or change: records over TCP, before and after the keys.
docs/spec/p2p.md "Encrypted channel"

Record: `u16 big-endian length | Noise message`. Three handshake records without payload, then any number of records
whose plaintexts, joined, are the stream of frames. Pure: bytes in, bytes out.
"""

from aitbc.core.peer.handshake import TAG_BYTES, Cipher, Handshake
from aitbc.core.peer.reasons import PeerFault, PeerReason

MAX_RECORD = 65_535
MAX_PLAINTEXT = MAX_RECORD - TAG_BYTES
"""65,519: the most that one Noise message carries."""
HANDSHAKE_LENGTHS = (32, 96, 64)
"""e; e, s, tag, tag; s, tag, tag. The payloads are empty, so nothing can be said before both sides are known."""


class Channel:
    """One side of a connection. `receive` turns what the socket gave into plaintext, `seal` the other way round.

    The host sends `outgoing` whenever it is not empty. Nothing is buffered but one record, and a record that does not
    belong is refused before it is complete.
    """

    def __init__(self, handshake: Handshake) -> None:
        self._handshake = handshake
        self._records = 0
        self._buffer = b""
        self._send: Cipher | None = None
        self._receive: Cipher | None = None
        self._outgoing: list[bytes] = []
        self._talk()

    @property
    def open(self) -> bool:
        """Both sides are known; plaintext may flow."""
        return self._send is not None

    @property
    def remote(self) -> bytes:
        """The other node's static key, once it has proved it."""
        return self._handshake.remote

    def outgoing(self) -> bytes:
        """Handshake bytes to send now; each once."""
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        return data

    def receive(self, data: bytes) -> list[bytes]:
        """Plaintext of every record that is complete now. A fault ends the connection."""
        buffer = self._buffer + data if self._buffer else data
        plaintexts: list[bytes] = []
        start, end = 0, len(buffer)
        while end - start >= 2:
            stop = start + 2 + (buffer[start] << 8 | buffer[start + 1])
            if self._receive is None:
                self._check_handshake_length(stop - start - 2)
            elif stop - start - 2 <= TAG_BYTES:
                raise PeerFault(PeerReason.EMPTY_RECORD, "a record that carries nothing")
            if stop > end:
                break
            record = buffer[start + 2 : stop]
            start = stop
            if self._receive is not None:
                plaintexts.append(self._receive.decrypt(record))
            else:
                self._read_handshake(record)
        self._buffer = buffer[start:]
        return plaintexts

    def seal(self, plaintext: bytes) -> bytes:
        """Records that carry these bytes."""
        assert self._send is not None, "nothing is sent before the handshake is over"
        if len(plaintext) <= MAX_PLAINTEXT:
            sealed = self._send.encrypt(plaintext)
            return len(sealed).to_bytes(2, "big") + sealed
        return b"".join(
            [
                self.seal(plaintext[start : start + MAX_PLAINTEXT])
                for start in range(0, len(plaintext), MAX_PLAINTEXT)
            ]
        )

    def _check_handshake_length(self, length: int) -> None:
        expected = HANDSHAKE_LENGTHS[self._records]
        if length != expected:
            raise PeerFault(
                PeerReason.BAD_HANDSHAKE_LENGTH, f"{length} bytes where the handshake has {expected}"
            )

    def _read_handshake(self, record: bytes) -> None:
        self._handshake.read(record)
        self._records += 1
        self._talk()

    def _talk(self) -> None:
        """Say what is ours to say; take the keys into use when all is said."""
        if self._handshake.my_turn:
            message = self._handshake.write()
            self._outgoing.append(len(message).to_bytes(2, "big") + message)
            self._records += 1
        if self._handshake.finished:
            self._send, self._receive = self._handshake.split()
