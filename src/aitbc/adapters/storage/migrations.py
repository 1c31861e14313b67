"""Bringing a SQLite chain of an older release up to date, inside the transaction that opening it is."""

from collections.abc import Callable, Mapping

from aitbc.adapters.storage.sql import Session

MIGRATIONS: Mapping[int, Callable[[Session, bytes], None]] = {}
