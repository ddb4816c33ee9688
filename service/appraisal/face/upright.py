"""Photographs that lie on their side or stand on their head, turned upright."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.appraisal.face.finder import Face, FaceFinder
from service.appraisal.photograph.decode import Photograph

MOST_ROLL_DEG: Final = 45.0  # beyond, the photograph lies on its side


def is_upright(face: Face) -> bool:
    """Whether a face stands on its feet, more or less."""
    return not face.upside_down and abs(face.pose.roll_deg) <= MOST_ROLL_DEG


def upright(
    finder: FaceFinder, photograph: Photograph, faces: tuple[Face, ...]
) -> tuple[Photograph, tuple[Face, ...]]:
    """Turn a photograph by quarters until its largest face is upright; what was done is noted.

    Args:
        finder: Finds the face anew in the turned photograph.
        photograph: As it was sent.
        faces: Found in it, the largest first.

    Returns:
        Photograph and faces; those given where the face is upright, or where no turn makes it so.
    """
    if not faces or is_upright(faces[0]):
        return photograph, faces
    first = round(faces[0].pose.roll_deg / 90) % 4 or 2
    for quarters in (first, (first + 2) % 4):
        if not quarters:
            continue
        turned = _turned(photograph, quarters)
        again = finder.find(turned.rgb)
        if again and is_upright(again[0]):
            return turned, again
    return photograph, faces


def _turned(photograph: Photograph, quarters: int) -> Photograph:
    """The photograph turned counter-clockwise by quarters; its digest stays that of what was sent."""
    rgb = np.ascontiguousarray(np.rot90(photograph.rgb, quarters))
    rgb.flags.writeable = False
    size = photograph.sent_size
    note = f"the photograph lay {_LAY[quarters]}: it was turned by {90 * min(quarters, 4 - quarters)} degrees"
    return replace(
        photograph,
        rgb=rgb,
        quarters=quarters,
        sent_size=(size[1], size[0]) if size is not None and quarters % 2 else size,
        warnings=(*photograph.warnings, note),
    )


def way_back(quarters: int, height: float, width: float) -> NDArray[np.float64]:
    """From pixels of a picture turned counter-clockwise by quarters to those of the picture before.

    Args:
        quarters: 0 to 3.
        height: Rows of the turned picture.
        width: Its columns.

    Returns:
        (3, 3) float64, of x, y and 1; the centre of the first pixel is (0, 0).
    """
    bottom, right = height - 1, width - 1
    rows = {
        0: ((1, 0, 0), (0, 1, 0)),
        1: ((0, -1, bottom), (1, 0, 0)),
        2: ((-1, 0, right), (0, -1, bottom)),
        3: ((0, 1, 0), (-1, 0, right)),
    }[quarters]
    return np.array([*rows, (0, 0, 1)], np.float64)


_LAY: Final = {1: "on its side", 2: "upside down", 3: "on its side"}
