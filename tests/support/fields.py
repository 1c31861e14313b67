"""Every place of a JSON value, and values near the one that is there: for tests that lie about one field at a time."""

from collections.abc import Iterator
from typing import Any


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every leaf, and of every empty object or list."""
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    children = list(children)
    if not children:
        yield path
    for key, child in children:
        yield from places(child, (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def changed(value: Any) -> list[Any]:
    """Values near this one that are not it."""
    match value:
        case bool():
            return [not value, None]
        case int():
            return [value + 1, value - 1, -value or 7, float(value), str(value), None]
        case str():
            other = ("0" if value[-1:] != "0" else "1").join([value[:-1], ""])
            return [
                value + "0",
                value[:-1] if value else "x",
                other,
                value.upper() + "\x00",
                7,
                None,
                [value],
            ]
        case list() | dict():
            return [None, "x", [[]], {"x": {}}]
        case _:
            return [0, "x"]


def containers(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        yield path
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from containers(value[key], (*path, key))
