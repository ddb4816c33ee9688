"""What the default method's networks look at: the whole aligned face, and mouth and nose from close by.

A lip that differs by a hundredth of the face's width is a matter of few cells of the whole face's
maps; the close-up has more of them there, and its network has to know lips and noses only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.appraisal.anomalies import anatomy

INPUT_SIZE: Final = 256  # pixels a side of the aligned face
STRIDE: Final = 4  # input pixels per output cell

_NOSE_TIP: Final[tuple[int, ...]] = (1, 4)

# Landmarks the networks find, as indices into the 478-point mesh.
LANDMARKS: Final[tuple[int, ...]] = (
    *anatomy.LIPS,
    *(33, 133, 160, 159, 158, 144, 145, 153),
    *(263, 362, 387, 386, 385, 373, 374, 380),
    *anatomy.BROWS[0],
    *anatomy.BROWS[1],
    *_NOSE_TIP,
    *(168, 6, 197),
    *anatomy.NOSE_BASE,
    *(234, 93, 132, 58, 136, 149, 148, 152, 377, 378, 365, 288, 361, 323, 454),
)

# Position in LANDMARKS of each landmark's mirror image.
MIRRORED: Final[tuple[int, ...]] = (
    *(0, 1, 2, 3, *range(22, 40), *range(4, 22)),
    *(*range(48, 56), *range(40, 48)),
    *range(65, 55, -1),
    *range(66, 71),
    *range(77, 70, -1),
    *range(92, 77, -1),
)


@dataclass(frozen=True, kw_only=True)
class View:
    """A square part of the aligned face, even about its middle, as a network sees it."""

    name: str
    size: int  # pixels a side
    top: float  # fraction of the aligned face's side
    extent: float  # side, likewise
    chosen: tuple[int, ...]  # positions in LANDMARKS of what is found in it

    @property
    def left(self) -> float:
        """Fraction of the aligned face's side."""
        return 0.5 - self.extent / 2

    @property
    def cells(self) -> int:
        """Cells a side of the network's maps."""
        return self.size // STRIDE

    @property
    def landmarks(self) -> tuple[int, ...]:
        """What is found in it, as indices into the 478-point mesh."""
        return tuple(LANDMARKS[position] for position in self.chosen)

    @property
    def mirrored(self) -> tuple[int, ...]:
        """Position in ``landmarks`` of each one's mirror image."""
        return tuple(self.chosen.index(MIRRORED[position]) for position in self.chosen)

    def from_aligned(self, size: int) -> NDArray[np.float64]:
        """Pixels of an aligned face of so many a side -> pixels of the view, (2, 3) float64."""
        scale = self.size / (self.extent * size)
        shift = [0.5 * scale - 0.5 - scale * size * edge for edge in (self.left, self.top)]
        return np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])

    def to_aligned(self, size: int) -> NDArray[np.float64]:
        """Pixels of the view -> pixels of an aligned face of so many a side, (2, 3) float64."""
        scale = self.extent * size / self.size
        shift = [0.5 * scale - 0.5 + size * edge for edge in (self.left, self.top)]
        return np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])


WHOLE: Final = View(name="whole", size=INPUT_SIZE, top=0.0, extent=1.0, chosen=tuple(range(len(LANDMARKS))))
CLOSE_UP: Final = View(
    name="close-up",
    size=160,
    top=29 / 64,
    extent=0.5,
    chosen=tuple(LANDMARKS.index(point) for point in (*anatomy.LIPS, *_NOSE_TIP, *anatomy.NOSE_BASE)),
)
