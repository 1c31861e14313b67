"""What the machine asks its host to do, in this order. docs/spec/workshop.md"""

import msgspec

from aitbc.workshop.core.texts import Block


class Send(msgspec.Struct, frozen=True):
    link: int
    data: bytes


class Close(msgspec.Struct, frozen=True):
    """After what was sent has left, or a second later."""

    link: int
    why: str


class Dial(msgspec.Struct, frozen=True):
    """Tell `opened` or `dial_failed`."""

    where: str


class Keep(msgspec.Struct, frozen=True):
    """Write a block down; its parent was written before."""

    block: Block


class Mine(msgspec.Struct, frozen=True):
    """Search a nonce for this block instead of the one before; tell `mined`."""

    template: Block


class Note(msgspec.Struct, frozen=True):
    """For the log."""

    text: str


Effect = Send | Close | Dial | Keep | Mine | Note
