"""Ids on the command line: 64 hexadecimal digits, checked before anybody is asked."""

import click

from aitbc.core.codec.canonical import unhex
from aitbc.core.types.reasons import Rejected


def hash_id(text: str) -> str:
    """The type of a transaction's or a lock's id."""
    try:
        return unhex(text.lower(), size=32).hex()
    except Rejected as rejected:
        raise click.BadParameter(f"{rejected.message}; an id has 64 hexadecimal digits") from None
