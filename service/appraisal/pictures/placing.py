"""Maps brought from the method's square to the pixels of a photograph or a picture."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from service.pictures.native_map import NativeMap


def photograph_map(native: NativeMap) -> NDArray[np.float32]:
    """Bring a map to the photograph's own rows and columns.

    Returns:
        (H, W) float32, NaN where nothing was judged.
    """
    if native.is_photograph_sized:
        return native.difference
    full = np.full((native.rows, native.columns), np.nan, dtype=np.float32)
    placed = place(native.difference, native.to_photograph, (native.rows, native.columns))
    if placed is not None:
        full[placed.window] = placed.values
    return full


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """Part of a picture that a map reaches, with the map's values there."""

    top: int
    left: int
    values: NDArray[np.float32]  # (h, w) float32, NaN where nothing was judged

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the picture."""
        rows, columns = self.values.shape
        return slice(self.top, self.top + rows), slice(self.left, self.left + columns)


def place(values: NDArray[np.float32], matrix: NDArray[np.float64], shape: tuple[int, int]) -> Placed | None:
    """Lay a map over a picture, computing only where it reaches.

    Args:
        values: (h, w) float32, NaN where nothing was judged.
        matrix: (2, 3) float64: pixels of the map -> pixels of the picture.
        shape: Rows and columns of the picture.

    Returns:
        None when the map lies beside the picture.
    """
    rows, columns = shape
    height, width = values.shape
    edges = np.array([[-0.5, -0.5], [width - 0.5, -0.5], [-0.5, height - 0.5], [width - 0.5, height - 0.5]])
    corners = edges @ matrix[:, :2].T + matrix[:, 2]
    left, top = np.clip(np.floor(corners.min(0)).astype(int), 0, (columns, rows)).tolist()
    right, bottom = np.clip(np.ceil(corners.max(0)).astype(int) + 1, 0, (columns, rows)).tolist()
    if right <= left or bottom <= top:
        return None
    shifted = matrix - np.array([[0.0, 0.0, left], [0.0, 0.0, top]])
    target = (right - left, bottom - top)
    known = np.isfinite(values)
    filled = np.where(known, values, np.float32(0)).astype(np.float32)
    weight = cv2.warpAffine(known.astype(np.float32), shifted, target, flags=cv2.INTER_LINEAR)
    mapped = cv2.warpAffine(filled, shifted, target, flags=cv2.INTER_LINEAR)
    with np.errstate(invalid="ignore", divide="ignore"):
        placed = np.where(weight >= 0.5, mapped / weight, np.float32(np.nan)).astype(np.float32)
    return Placed(top=top, left=left, values=placed)


def to_sent(matrix: NDArray[np.float64], reduction: int) -> NDArray[np.float64]:
    """A transform to pixels of the photograph as decoded, made one to those of the photograph as sent.

    Args:
        matrix: (2, 3) float64.
        reduction: Side of the photograph as sent over that as decoded.
    """
    sent = matrix * reduction
    sent[:, 2] += 0.5 * reduction - 0.5
    return sent
