"""Where a face has a colour that its own skin, and its other side, do not let one expect there.

For each cell of the texture frame: how its colour differs from what is around it, at two scales, and
from the face's own skin as a whole (red and yellow only: light falls in from one side or another).
Both are in standard deviations of normal faces at that place. What the mirror side has as well is
no paint: the smaller of the contrast and of its difference from the mirror side counts.

There are two views of these, each over what is usual: marks that are redder than what is around
them, than the whole skin and than the mirror side, as vascular marks are; and marks of any colour
where the network sees an anomaly. Each is divided by what is usual of the face itself: a face that is
lit unevenly or made up has many contrasts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from service.appraisal.methods.localised.counterpart.expected_shape import stored
from service.appraisal.methods.localised.counterpart.frame import CELLS

SCALES: Final = (
    (1.2, 7.0),
    (2.5, 18.0),
)  # sigma of what is compared with sigma of what it is compared to, cells
_WIDE: Final = 4.0  # sigma, cells, of what is compared with the whole face's skin
FEATURES: Final = 3 * len(SCALES) + 2
VIEWS: Final = 2
REDNESS, COLOUR = range(VIEWS)
_RED: Final = (*(3 * scale + 1 for scale in range(len(SCALES))), FEATURES - 2)
_GROUPS: Final = tuple((3 * scale, 3 * scale + 1, 3 * scale + 2) for scale in range(len(SCALES)))
_SMOOTH: Final = (4.0, 1.5)  # sigma of each view, cells
_PER_DEVIATION: Final = 0.6  # of the second view's logarithm, for each standard deviation of the network's
_LEAST_LEANING, _MOST_LEANING = -2.0, 6.0  # standard deviations
_LEANING_POWER: Final = 0.5  # that brings the second view, which is steep with it, to the first
OWN_POWER: Final = 0.75  # of the face's own median contrast, by which its contrasts are divided
LEAST_OWN: Final = 0.7  # of that of other faces; an even face is no reason to see more
_AROUND: Final = (
    0.35,
    0.6,
)  # of the threshold, by view: what is over it around what is over the whole is paint
_GROWN: Final = (13, 9)  # cells, by view, by which paint is taken to be wider than it is seen


@dataclass(frozen=True, kw_only=True, eq=False)
class PaintMap:
    """What colour contrasts normal faces have."""

    region: NDArray[np.bool_]  # (CELLS, CELLS) bool, cells that are judged
    middle: NDArray[np.float32]  # (CELLS, CELLS, FEATURES) float32, median of normal faces
    spread: NDArray[np.float32]  # likewise, standard deviations, > 0
    sides: NDArray[np.float32]  # likewise, of the difference from the mirror side, > 0
    medians: NDArray[np.float64]  # (VIEWS,) median of a normal face's cells, before it is divided by it, > 0
    usual: NDArray[
        np.float32
    ]  # (CELLS, CELLS, VIEWS) float32, what one normal face in a hundred exceeds there
    peaks: NDArray[np.float64]  # (VIEWS,) largest of normal faces over the usual, > 0
    threshold: float  # largest over these of normal faces, all views together

    def contrasts(self, colours: NDArray[np.float32]) -> NDArray[np.float32]:
        """Colour contrasts, (CELLS, CELLS, FEATURES) float32, CIE L*a*b*; 0 outside the region.

        Args:
            colours: (CELLS, CELLS, 3) float32, CIE L*a*b*, of the texture frame.
        """
        return contrasts(colours, self.region)

    def views(
        self, colours: NDArray[np.float32], shown: NDArray[np.bool_], z: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """How foreign each cell's colour is in each view, over what is usual there, >= 0.

        Args:
            colours: (CELLS, CELLS, 3) float32, CIE L*a*b*, of the texture frame.
            shown: (CELLS, CELLS) bool, cells in which the face is seen; others are not judged.
            z: (CELLS, CELLS) float32, the network's local evidence, standard deviations.

        Returns:
            (CELLS, CELLS, VIEWS) float32.
        """
        seen = self.raw_views(colours, shown) / self.usual
        leaning = np.exp(_PER_DEVIATION * np.clip(z, _LEAST_LEANING, _MOST_LEANING))
        seen[..., COLOUR] = (seen[..., COLOUR] * leaning) ** _LEANING_POWER
        return np.asarray(seen, np.float32)

    def raw_views(self, colours: NDArray[np.float32], shown: NDArray[np.bool_]) -> NDArray[np.float32]:
        """The views before what is usual is taken into account, (CELLS, CELLS, VIEWS) float32."""
        region = self.region & shown
        if not region.any():
            return np.zeros((*region.shape, VIEWS), np.float32)
        own = contrasts(colours, region)
        alone, aside = (own - self.middle) / self.spread, (own - own[:, ::-1]) / self.sides
        red = np.maximum(np.minimum(alone, aside)[..., _RED].max(axis=-1), 0)
        foreign = np.minimum(_largest(alone), _largest(aside))
        planes = [
            cv2.GaussianBlur((plane * region).astype(np.float32), (0, 0), sigma) * region
            for plane, sigma in zip((red, foreign), _SMOOTH, strict=True)
        ]
        views = np.stack(planes, axis=-1)
        own = np.maximum(np.median(views[region], axis=0) / self.medians, LEAST_OWN)
        return np.asarray(views / own**OWN_POWER, np.float32)

    def find(
        self, colours: NDArray[np.float32], shown: NDArray[np.bool_], z: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The views over the peaks of normal faces, (CELLS, CELLS, VIEWS) float32, >= 0.

        The arguments are those of ``views``.
        """
        return np.asarray(self.views(colours, shown, z) / self.peaks, np.float32)

    def painted(self, foreign: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Cells that are painted over, (CELLS, CELLS) bool.

        Args:
            foreign: (CELLS, CELLS, VIEWS) float32, as found.
        """
        found = np.zeros(self.region.shape, np.bool_)
        for view, (around, grown) in enumerate(zip(_AROUND, _GROWN, strict=True)):
            own = foreign[..., view]
            whole = _reached(own > around * self.threshold, own > self.threshold)
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (grown, grown))
            closed = cv2.morphologyEx(whole.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
            found |= cv2.dilate(closed, kernel) > 0
        return np.asarray(found & self.region, np.bool_)

    def tensors(self) -> dict[str, torch.Tensor]:
        """As stored."""
        parts = {
            "paint_middle": self.middle,
            "paint_spread": self.spread,
            "paint_sides": self.sides,
            "paint_usual": self.usual,
        }
        halves = {name: torch.from_numpy(part.astype(np.float16)) for name, part in parts.items()}
        levels = {
            "paint_medians": self.medians,
            "paint_peaks": self.peaks,
            "paint_threshold": np.array([self.threshold]),
        }
        return {**halves, **{name: torch.from_numpy(np.asarray(part)) for name, part in levels.items()}}


def contrasts(colours: NDArray[np.float32], region: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Colour contrasts of the cells of a region; see ``PaintMap.contrasts``."""
    inside = region.astype(np.float32)

    def mean(sigma: float) -> NDArray[np.float32]:
        weight = np.maximum(cv2.GaussianBlur(inside, (0, 0), sigma), 0.02)
        return np.asarray(cv2.GaussianBlur(colours * inside[..., None], (0, 0), sigma) / weight[..., None])

    skin = np.median(colours[region], axis=0)
    local = [mean(fine) - mean(broad) for fine, broad in SCALES]
    wide = (mean(_WIDE) - skin)[..., 1:]
    return np.asarray(np.concatenate([*local, wide], axis=-1) * inside[..., None], np.float32)


def _largest(standard: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest of the local contrasts of a cell, over the scales, (CELLS, CELLS) float32."""
    lengths = [np.sqrt((standard[..., list(group)] ** 2).sum(axis=-1)) for group in _GROUPS]
    return np.asarray(np.max(lengths, axis=0), np.float32)


def _reached(cells: NDArray[np.bool_], start: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Connected pieces that hold a cell of ``start``, (CELLS, CELLS) bool."""
    _, labels = cv2.connectedComponents(cells.astype(np.uint8))
    return np.asarray(np.isin(labels, np.unique(labels[cells & start])) & cells, np.bool_)


def paint_map_from(tensors: Mapping[str, torch.Tensor], region: NDArray[np.bool_]) -> PaintMap:
    """Read a stored map.

    Args:
        tensors: as stored.
        region: (CELLS, CELLS) bool, cells that are judged.

    Raises:
        ModelIntegrityError: a tensor is missing or of another shape.
    """
    grid = (CELLS, CELLS, FEATURES)
    return PaintMap(
        region=region,
        middle=stored(tensors, "paint_middle", *grid).astype(np.float32),
        spread=stored(tensors, "paint_spread", *grid).astype(np.float32),
        sides=stored(tensors, "paint_sides", *grid).astype(np.float32),
        usual=stored(tensors, "paint_usual", CELLS, CELLS, VIEWS).astype(np.float32),
        medians=stored(tensors, "paint_medians", VIEWS),
        peaks=stored(tensors, "paint_peaks", VIEWS),
        threshold=float(stored(tensors, "paint_threshold", 1)[0]),
    )
