"""Reads a picture back: which shape, in which colour, on which ground, where. Knows nothing of the model.

Classical steps: the border gives the ground; what differs from it is the figure; its outline, stretched to its own
bounding box, is compared with eight ideal outlines.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# What people call these colours, as typical screen values; written for the reader, not shared with the generator.
NAMED_COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 20, 30),
    "green": (20, 150, 50),
    "blue": (25, 50, 215),
    "yellow": (250, 225, 40),
    "orange": (250, 135, 15),
    "purple": (125, 35, 165),
    "pink": (250, 125, 190),
    "cyan": (60, 215, 230),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "grey": (128, 128, 128),
}
CELLS = 48  # side of the frame in which outlines are compared
MIN_OVERLAP = 0.75  # below this the figure resembles nothing
MIN_FIGURE_PIXELS = 40
MAX_UNEVENNESS = 40.0  # median distance from the one colour a plain area should have


@dataclass(frozen=True, kw_only=True)
class Reading:
    shape: str  # "unclear" when no outline fits, "nothing" when the picture is plain
    colour: str
    background: str
    place: str
    size: str


def read_picture(pixels: NDArray[np.uint8]) -> Reading:
    """`pixels` is [64, 64, 3]."""
    values = pixels.astype(np.float32)
    border = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    ground = np.median(border, axis=0)
    distance = np.linalg.norm(values - ground, axis=-1)
    figure = largest_patch(distance > max(30.0, 0.5 * float(np.percentile(distance, 99))))
    background = nearest_colour(ground)
    if figure.sum() < MIN_FIGURE_PIXELS:
        return Reading(shape="nothing", colour="none", background=background, place="none", size="none")
    rows, columns = np.flatnonzero(figure.any(axis=1)), np.flatnonzero(figure.any(axis=0))
    box = figure[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Reading(
        shape=nearest_shape(box) if is_plain(border) and is_plain(values[figure]) else "unclear",
        colour=nearest_colour(np.median(values[figure], axis=0)),
        background=background,
        place=name_place(x=(columns[0] + columns[-1]) / 2 - 31.5, y=(rows[0] + rows[-1]) / 2 - 31.5),
        size="small" if max(box.shape) < 26 else "large" if max(box.shape) > 28 else "medium",
    )


def is_plain(values: NDArray[np.float32]) -> bool:
    return float(np.median(np.linalg.norm(values - np.median(values, axis=0), axis=-1))) < MAX_UNEVENNESS


def nearest_colour(rgb: NDArray[np.float32]) -> str:
    return min(NAMED_COLOURS, key=lambda name: float(np.linalg.norm(rgb - np.array(NAMED_COLOURS[name]))))


def name_place(*, x: float, y: float) -> str:
    vertical = "top" if y < -6 else "bottom" if y > 6 else ""
    horizontal = "left" if x < -6 else "right" if x > 6 else ""
    return f"{vertical} {horizontal}".strip() or "centre"


def nearest_shape(box: NDArray[np.bool_]) -> str:
    height, width = box.shape
    if not 0.75 < height / width < 1.33:
        return "unclear"
    steps = (np.arange(CELLS) + 0.5) / CELLS
    stretched = box[(steps * height).astype(int)][:, (steps * width).astype(int)]
    overlaps = {
        name: float((stretched & outline).sum() / (stretched | outline).sum())
        for name, outline in OUTLINES.items()
    }
    best = max(overlaps, key=lambda name: overlaps[name])
    return best if overlaps[best] >= MIN_OVERLAP else "unclear"


def largest_patch(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest set of true pixels that touch side by side."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    best: set[tuple[int, int]] = set()
    while left:
        patch, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            patch.add((y, x))
            for neighbour in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if neighbour in left:
                    left.remove(neighbour)
                    edge.append(neighbour)
        best = max(best, patch, key=len)
    found = np.zeros_like(mask)
    for y, x in best:
        found[y, x] = True
    return found


def _inside_polygon(
    x: NDArray[np.float64], y: NDArray[np.float64], corners: list[tuple[float, float]]
) -> NDArray[np.bool_]:
    inside = np.zeros(x.shape, dtype=bool)
    for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
        if y1 == y2:
            continue
        crosses = (y1 > y) != (y2 > y)
        inside ^= crosses & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    return inside


def _ideal_outlines() -> dict[str, NDArray[np.bool_]]:
    """Each shape filling the unit square, (0, 0) at the top left."""
    steps = (np.arange(CELLS) + 0.5) / CELLS
    x, y = np.meshgrid(steps, steps)
    radius = np.hypot(x - 0.5, y - 0.5)
    arm_x, arm_y = np.abs(x - 0.5) < 1 / 6, np.abs(y - 0.5) < 1 / 6
    turns = np.arange(10) * np.pi / 5
    lengths = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
    star_x, star_y = lengths * np.sin(turns), -lengths * np.cos(turns)
    star = [
        (float((a - star_x.min()) / np.ptp(star_x)), float((b - star_y.min()) / np.ptp(star_y)))
        for a, b in zip(star_x, star_y, strict=True)
    ]
    lobes = (np.hypot(np.abs(x - 0.5) - 0.21, y - 0.29) < 0.29) | (
        np.abs(x - 0.5) + np.abs(y - 0.5) * 0.95 < 0.42
    )
    heart_tip = _inside_polygon(x, y, [(0.0, 0.4), (1.0, 0.4), (0.5, 1.0)])
    return {
        "circle": radius < 0.5,
        "square": np.ones_like(radius, dtype=bool),
        "triangle": np.abs(x - 0.5) < y / 2,
        "star": _inside_polygon(x, y, star),
        "ring": (radius < 0.5) & (radius > 0.25),
        "cross": arm_x | arm_y,
        "diamond": np.abs(x - 0.5) + np.abs(y - 0.5) < 0.5,
        "heart": lobes | heart_tip,
    }


OUTLINES = _ideal_outlines()
