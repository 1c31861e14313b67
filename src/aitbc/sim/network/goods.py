"""What travels in these runs: content that shows by itself who may have made it, in place of signatures and ledgers."""

from hashlib import sha256

SECRET = b"only the honest know"
SEAL_BYTES = 16


def sealed(text: str) -> bytes:
    """As signed by somebody honest."""
    return text.encode() + _seal(text.encode())


def is_sealed(content: bytes) -> bool:
    return content[-SEAL_BYTES:] == _seal(content[:-SEAL_BYTES])


def name_of(content: bytes) -> bytes:
    """The hash under which a transaction or a block is asked for."""
    return sha256(content).digest()


def _seal(text: bytes) -> bytes:
    return sha256(SECRET + text).digest()[:SEAL_BYTES]


class Ledger:
    """The blocks that are final; everybody can tell a true one, because certificates name them."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self.add()

    def add(self) -> bytes:
        height = len(self.blocks)
        self.blocks.append(sealed(f"block {height} " + "." * (height % 7 * 400)))
        return self.blocks[-1]

    @property
    def height(self) -> int:
        return len(self.blocks) - 1
