"""Draws the training pictures of tiny-diffusion and writes a caption for each.

A `Scene` is what the caption talks about; `Placement` is where the shape really lies. The attributes a caption
leaves out are still drawn, so the model learns what is free when nobody asks.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIDE_PIXELS = 64

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 35),
    "green": (25, 150, 50),
    "blue": (30, 60, 215),
    "yellow": (250, 225, 40),
    "orange": (250, 135, 20),
    "purple": (125, 40, 165),
    "pink": (250, 125, 190),
    "cyan": (60, 215, 230),
    "white": (250, 250, 250),
    "black": (10, 10, 10),
    "grey": (128, 128, 128),
}
COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "red", "red", "crimson", "scarlet"),
    "green": ("green", "green", "emerald"),
    "blue": ("blue", "blue", "blue", "navy"),
    "yellow": ("yellow", "yellow", "golden"),
    "orange": ("orange",),
    "purple": ("purple", "purple", "violet"),
    "pink": ("pink", "pink", "magenta"),
    "cyan": ("cyan", "cyan", "turquoise", "teal"),
    "white": ("white",),
    "black": ("black",),
    "grey": ("grey", "gray"),
}
SHAPE_WORDS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "circle", "circle", "disc", "dot", "ball"),
    "square": ("square", "square", "square", "box", "block"),
    "triangle": ("triangle",),
    "star": ("star",),
    "ring": ("ring", "ring", "donut", "hoop"),
    "cross": ("cross", "cross", "plus"),
    "diamond": ("diamond", "diamond", "rhombus"),
    "heart": ("heart",),
}
SIZE_WORDS: dict[str, tuple[str, ...]] = {
    "small": ("small", "small", "little", "tiny"),
    "large": ("large", "big", "big", "huge"),
}
# Column and row of each place, in {-1, 0, 1}.
PLACES: dict[str, tuple[int, int]] = {
    "centre": (0, 0),
    "left": (-1, 0),
    "right": (1, 0),
    "top": (0, -1),
    "bottom": (0, 1),
    "top left": (-1, -1),
    "top right": (1, -1),
    "bottom left": (-1, 1),
    "bottom right": (1, 1),
}
SHAPES = tuple(SHAPE_WORDS)
# Stars have the finest outline and are learned last, so they are drawn three times as often.
SHAPE_DRAWS = (*SHAPES, "star", "star")
# Radius of the shape's frame, in pixels, by requested size: in the middle, and elsewhere, where it must leave room to
# be seen off-centre. The ranges are narrow because a model this small spends its strength on outlines instead.
RADIUS_PIXELS: dict[str | None, tuple[float, float]] = {
    "small": (10.0, 12.0),
    "large": (20.5, 23.5),
    None: (14.5, 17.5),
}
OFF_CENTRE_RADIUS_PIXELS: dict[str | None, tuple[float, float]] = {
    "small": (10.0, 12.0),
    "large": (16.5, 18.0),
    None: (13.5, 15.5),
}


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is asked for; None means the caption is silent about it."""

    shape: str
    colour: str | None
    background: str | None
    place: str | None
    size: str | None


@dataclass(frozen=True, kw_only=True)
class Placement:
    shape: str
    x_pixels: float
    y_pixels: float
    radius_pixels: float
    colour: str
    background: str
    colour_rgb: tuple[float, float, float]
    background_rgb: tuple[float, float, float]


def is_held_out(*, shape: str, colour: str, background: str) -> bool:
    """True for the one combination in twenty that training never sees, so that tests can ask for something new."""
    return zlib.crc32(f"{shape}/{colour}/{background}".encode()) % 20 == 0


def draw_scene(random: np.random.Generator) -> tuple[Scene, Placement]:
    """A random scene with its caption's gaps, never one of the held-out combinations."""
    colours = tuple(COLOURS)
    while True:
        shape = SHAPE_DRAWS[random.integers(len(SHAPE_DRAWS))]
        colour, background = (colours[index] for index in random.choice(len(colours), size=2, replace=False))
        if not is_held_out(shape=shape, colour=colour, background=background):
            break
    says_colour, says_background, says_place, says_size = random.random(4) < (0.93, 0.85, 0.45, 0.4)
    scene = Scene(
        shape=shape,
        colour=colour if says_colour else None,
        background=background if says_background else None,
        place=tuple(PLACES)[random.integers(len(PLACES))] if says_place else None,
        size=("small", "large")[random.integers(2)] if says_size else None,
    )
    return scene, place_shape(scene, colour=colour, background=background, random=random)


def place_shape(scene: Scene, *, colour: str, background: str, random: np.random.Generator) -> Placement:
    column, row = PLACES[scene.place or "centre"]
    ranges = RADIUS_PIXELS if (column, row) == (0, 0) else OFF_CENTRE_RADIUS_PIXELS
    radius = float(random.uniform(*ranges[scene.size]))
    centre = (SIDE_PIXELS - 1) / 2
    reach = centre - radius - 2.0
    wander = 1.0 if scene.place else 2.0
    x, y = (
        centre + step * reach * random.uniform(0.9, 1.0) + (0.0 if step else random.uniform(-wander, wander))
        for step in (column, row)
    )
    return Placement(
        shape=scene.shape,
        x_pixels=float(x),
        y_pixels=float(y),
        radius_pixels=radius,
        colour=colour,
        background=background,
        colour_rgb=_jitter(COLOURS[colour], random),
        background_rgb=_jitter(COLOURS[background], random),
    )


def _jitter(rgb: tuple[int, int, int], random: np.random.Generator) -> tuple[float, float, float]:
    red, green, blue = np.clip(np.asarray(rgb) + random.normal(0.0, 5.0, size=3), 0, 255)
    return float(red), float(green), float(blue)


def render(placements: Sequence[Placement]) -> NDArray[np.float32]:
    """Pictures [n, 64, 64, 3] in 0..255, edges softened over one pixel."""
    axis = np.arange(SIDE_PIXELS, dtype=np.float32)
    column = {
        name: np.array([getattr(placement, name) for placement in placements], dtype=np.float32)
        for name in ("x_pixels", "y_pixels", "radius_pixels", "colour_rgb", "background_rgb")
    }
    radius = column["radius_pixels"][:, None, None]
    u = (axis[None, None, :] - column["x_pixels"][:, None, None]) / radius
    v = (axis[None, :, None] - column["y_pixels"][:, None, None]) / radius
    u, v = np.broadcast_arrays(u, v)
    distance = np.empty((len(placements), SIDE_PIXELS, SIDE_PIXELS), dtype=np.float32)
    shapes = np.array([placement.shape for placement in placements])
    for shape in SHAPES:
        chosen = shapes == shape
        if chosen.any():
            distance[chosen] = signed_distance(shape, u[chosen], v[chosen])
    cover = np.clip(0.5 - distance * radius, 0.0, 1.0)[..., None]
    foreground, background = (
        column["colour_rgb"][:, None, None, :],
        column["background_rgb"][:, None, None, :],
    )
    return (background + cover * (foreground - background)).astype(np.float32)


def signed_distance(shape: str, u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.float32]:
    """About how far (u, v) is outside the shape in a frame of radius 1; negative inside. v grows downwards."""
    match shape:
        case "circle":
            distance = np.hypot(u, v) - 1.0
        case "square":
            distance = np.maximum(np.abs(u), np.abs(v)) - 0.88
        case "triangle":
            slope = np.hypot(1.8, 1.0)
            distance = np.maximum(v - 0.85, (1.8 * np.abs(u) - (v + 0.95)) / slope)
        case "star":
            distance = _star_distance(u, v)
        case "ring":
            distance = np.abs(np.hypot(u, v) - 0.74) - 0.26
        case "cross":
            across, down = np.abs(u), np.abs(v)
            distance = np.minimum(
                np.maximum(across - 0.32, down - 1.0), np.maximum(across - 1.0, down - 0.32)
            )
        case "diamond":
            distance = (np.abs(u) + np.abs(v) - 1.0) / np.sqrt(2.0)
        case "heart":
            a = 0.83
            lobes = np.hypot(np.abs(u) - a / 2, v + a / 2 - 0.08) - a / np.sqrt(2.0)
            distance = np.minimum(lobes, (np.abs(u) + np.abs(v - 0.08) - a) / np.sqrt(2.0))
        case _:
            raise AssertionError(f"no such shape: {shape}")
    return np.asarray(distance, dtype=np.float32)


def _star_distance(u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.float32]:
    # Fold the five points onto one half point, whose edge runs from (1, 0) to the notch at 36 degrees.
    angle = np.arctan2(u, -v)
    folded = np.abs((angle + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
    length = np.hypot(u, v)
    along, aside = length * np.cos(folded), length * np.sin(folded)
    notch_x, notch_y = 0.45 * np.cos(np.pi / 5), 0.45 * np.sin(np.pi / 5)
    edge_x, edge_y = notch_x - 1.0, notch_y
    normal = np.hypot(edge_x, edge_y)
    distance: NDArray[np.float32] = (edge_y * (along - 1.0) - edge_x * aside) / normal
    return distance


def write_caption(scene: Scene, random: np.random.Generator) -> str:
    """One of many ways to say the scene in English."""

    def pick(words: Sequence[str]) -> str:
        return words[random.integers(len(words))]

    def maybe(word: str, chance: float = 0.5) -> str:
        return word if random.random() < chance else ""

    shape = pick(SHAPE_WORDS[scene.shape])
    colour = pick(COLOUR_WORDS[scene.colour]) if scene.colour else ""
    size = pick(SIZE_WORDS[scene.size]) if scene.size else ""
    article = maybe("a", 0.6)
    thing = pick(
        (f"{article} {size} {colour} {shape}",) * 6
        + (
            f"{article} {colour} {size} {shape}",
            f"{shape} {colour} {size}",
            f"{size} {shape} in {colour or size}",
        )
    )
    where = _say_place(scene.place, pick) if scene.place else ""
    if not scene.background:
        return pick((f"{thing} {where}", f"{thing} {where}", f"{where} {thing}"))
    ground = pick(COLOUR_WORDS[scene.background])
    a, the = maybe("a"), maybe("the")
    on = pick(("on", "on", "on", "over", "against"))
    behind = pick(
        (f"{on} {ground}", f"{on} {ground}", f"{on} {a} {ground} background", f"with {a} {ground} background")
    )
    return pick(
        (
            f"{thing} {where} {behind}",
            f"{thing} {where} {behind}",
            f"{thing} {behind} {where}",
            f"{where} {thing} {behind}",
            f"{thing} {ground} background {where}",
            f"{thing} {where} {ground} background",
            f"{ground} background {thing} {where}",
            f"{a} {ground} background with {thing} {where}",
            f"{on} {the} {ground} background {thing} {where}",
            f"{on} {ground} {where} {thing}",
        )
    )


def _say_place(place: str, pick) -> str:  # type: ignore[no-untyped-def]
    words = place.split()
    said = []
    for word in words:
        match word:
            case "top":
                said.append(pick(("top", "top", "upper")))
            case "bottom":
                said.append(pick(("bottom", "bottom", "lower")))
            case "centre":
                said.append(pick(("centre", "center", "middle")))
            case _:
                said.append(word)
    spoken = " ".join(said)
    if len(said) == 2:
        return pick((f"at the {spoken}", f"in the {spoken}", f"in the {spoken} corner", spoken))
    return pick((f"at the {spoken}", f"on the {spoken}", f"in the {spoken}", spoken))
