"""The normal counterpart of a face, and what was changed to draw it.

In this order: units that are displaced are moved to where the other parts of the face let one expect
them; of a lid displaced on one side the texture is taken from the other side, which opens a closed
one; what is painted over is filled. What is normal stays, pixel for pixel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from service.appraisal.face.alignment import CANONICAL_INTER_OCULAR, AlignedFace, resized
from service.appraisal.face.regions import face_mask
from service.appraisal.methods.localised.counterpart.expected_shape import (
    Expectation,
    ExpectedShape,
    expected_shape_from,
    stored,
)
from service.appraisal.methods.localised.counterpart.fill import (
    Texture,
    filled,
    mirrored_texture,
    texture_from,
)
from service.appraisal.methods.localised.counterpart.frame import CELLS, SIDE, Frame, cells, lab, pixels, srgb
from service.appraisal.methods.localised.counterpart.paint_map import (
    COLOUR,
    REDNESS,
    PaintMap,
    paint_map_from,
)
from service.appraisal.methods.localised.counterpart.units import UNITS, Unit
from service.appraisal.methods.localised.counterpart.warping import Points, moved_back
from service.appraisal.methods.localised.reading import Reading

_PER_DEVIATION: Final = 0.6  # of the logarithm of a ratio, for each standard deviation of the network's
_LEAST_LEANING, _MOST_LEANING = -2.0, 6.0  # standard deviations
_LOCAL_SMOOTH: Final = 1.0  # sigma, cells of the network
_NEAR_PX: Final = 7.0  # of what moves; landmarks that near move along
_TEXTURE_GROWN: Final = 15  # pixels by which what is taken from the other side is wider than its landmarks
_SILENCED: Final = 14  # cells around what moved, in which the network's evidence is that of the move
_LEAST_CELLS: Final = 8  # of the frame, for anything to be filled
_SEEN: Final = 0.95  # of a cell that must be seen of the face itself
_SOFT_PX: Final = 2.0  # sigma of the edge of what is drawn anew
_LEAST_DELTA: Final = 0.5  # CIE L*a*b*, all channels together, under which a pixel stays as it is
_MOST_COVERED: Final = 0.25  # of the face; with more, what is left does not tell the rest
_MOST_PAINTED: Final = 0.35  # of the face's cells, likewise
_FARTHEST: Final = 0.45  # inter-ocular distances a unit's points may be moved on average


@dataclass(frozen=True, kw_only=True)
class Move:
    """A unit that was moved to where the rest of the face lets one expect it."""

    unit: Unit
    across: float  # mean of its points, inter-ocular distances, > 0 to the patient's left
    down: float  # likewise, > 0 downwards


@dataclass(frozen=True, kw_only=True, eq=False)
class Counterpart:
    """The normal counterpart of an aligned face, in register with it."""

    rgb: NDArray[np.uint8]  # (SIDE, SIDE, 3) uint8, sRGB; the face itself where it cannot be drawn
    moves: tuple[Move, ...]  # the oddest unit first
    painted: float  # share of the face's cells that were filled, 0..1
    ratios: NDArray[np.float64]  # (len(UNITS),) of each unit's oddness to the usual, before anything moved
    redness: float  # of the reddest mark over that of normal faces, before anything moved, >= 0
    refusal: str = ""  # why none can be drawn; "" where it is


@dataclass(frozen=True, kw_only=True, eq=False)
class ExpectedFace:
    """What to expect of a face: shape, colour, texture."""

    shape: ExpectedShape
    paint: PaintMap
    texture: Texture
    frame: Frame
    local_mean: NDArray[np.float64]  # (64, 64) float64, usual logit of the network
    local_deviation: NDArray[np.float64]  # (64, 64) float64, > 0

    def local(self, reading: Reading) -> NDArray[np.float32]:
        """The network's local evidence, (64, 64) float32, standard deviations over the usual."""
        z = (reading.localisation - self.local_mean) / self.local_deviation
        return np.asarray(cv2.GaussianBlur(z.astype(np.float32), (0, 0), _LOCAL_SMOOTH), np.float32)

    def leaning(self, reading: Reading) -> NDArray[np.float64]:
        """What the network adds to the logarithm of each unit's ratio, (len(UNITS),) float64."""
        z = self.local(reading)
        side = z.shape[0]
        at = np.clip(reading.landmarks * side - 0.5, 0, side - 1).astype(np.float32)
        there = cv2.remap(z, at[:, :1], at[:, 1:], cv2.INTER_LINEAR)[:, 0]
        mean = np.array([there[list(unit.points)].mean() for unit in UNITS])
        return np.asarray(_PER_DEVIATION * np.clip(mean, _LEAST_LEANING, _MOST_LEANING), np.float64)

    def draw(self, face: AlignedFace, reading: Reading) -> Counterpart:
        """Draw the counterpart of a face.

        Args:
            face: aligned, of any size.
            reading: the networks' of it.
        """
        rgb = resized(face.rgb, SIDE)
        points = reading.landmarks.astype(np.float64)
        expectation = self.shape.expect(points, self.leaning(reading))
        moves = tuple(_move(unit, points, expectation) for unit in expectation.units)
        now, wanted = points * SIDE - 0.5, expectation.points * SIDE - 0.5
        shown = _shown(face)
        drawn = rgb
        if moves:
            drawn = _moved(_of_side(face, rgb), now, wanted, expectation.units)
            drawn = self._other_side(drawn, wanted, expectation.units)
        z = self._local_cells(reading, now, expectation.units)
        colours, foreign = self._foreign(rgb, now, shown, z)
        redness = float(foreign[..., REDNESS].max())
        if moves:
            colours, foreign = self._foreign(drawn, wanted, shown, z)
        drawn, painted = self._unpainted(drawn, wanted, colours, foreign)
        share = float(painted.sum() / max(int(self.frame.region.sum()), 1))
        refusal = _refusal(face, moves, share)
        return Counterpart(
            rgb=rgb if refusal else drawn,
            moves=() if refusal else moves,
            painted=0.0 if refusal else share,
            ratios=self.shape.ratios(points),
            redness=redness,
            refusal=refusal,
        )

    def _other_side(
        self, rgb: NDArray[np.uint8], wanted: Points, units: tuple[Unit, ...]
    ) -> NDArray[np.uint8]:
        """The texture of lids displaced on one side, taken from the other side."""
        hole = np.zeros((SIDE, SIDE), np.uint8)
        for unit in units:
            if unit.texture:
                around = self.frame.mean[list(unit.texture)]
                plane = np.zeros_like(hole)
                cv2.fillConvexPoly(plane, cv2.convexHull(np.rint(around).astype(np.int32)), (1.0,))
                kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_TEXTURE_GROWN, _TEXTURE_GROWN))
                hole = np.maximum(hole, cv2.dilate(plane, kernel)).astype(np.uint8)
        alone = (hole > 0) & ~(hole[:, ::-1] > 0)
        if not alone.any():
            return rgb
        colours = lab(np.asarray(self.frame.into(rgb, wanted), np.uint8))
        return self._laid_over(rgb, mirrored_texture(colours, alone) - colours, alone, wanted)

    def local_cells(self, reading: Reading, now: Points) -> NDArray[np.float32]:
        """The network's local evidence in the texture frame, (CELLS, CELLS) float32.

        Args:
            reading: of the face.
            now: (len(LANDMARKS), 2) float64, its landmarks, pixels of a square of SIDE.
        """
        wide = pixels(self.local(reading))
        return cells(np.asarray(self.frame.into(wide, now), np.float32))

    def _local_cells(self, reading: Reading, now: Points, units: tuple[Unit, ...]) -> NDArray[np.float32]:
        """The same, with none where units are displaced: there it tells of them and not of paint."""
        z = self.local_cells(reading, now)
        moved = np.zeros(z.shape, np.uint8)
        for column, row in np.rint(self.frame.mean[[p for unit in units for p in unit.points]] / 2).astype(
            int
        ):
            cv2.circle(moved, (int(column), int(row)), _SILENCED, (1.0,), -1)
        return np.where(moved > 0, np.float32(0), z)

    def redness(self, face: AlignedFace, reading: Reading) -> float:
        """How red the reddest mark of a face is, over that of normal faces, >= 0.

        Args:
            face: aligned, of any size.
            reading: the networks' of it.
        """
        now = reading.landmarks.astype(np.float64) * SIDE - 0.5
        nowhere = np.zeros((CELLS, CELLS), np.float32)  # the network has no say in redness
        foreign = self._foreign(resized(face.rgb, SIDE), now, _shown(face), nowhere)[1]
        return float(foreign[..., REDNESS].max())

    def _foreign(
        self, rgb: NDArray[np.uint8], points: Points, shown: NDArray[np.bool_], z: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A face's colours in the texture frame, and how foreign its cells are."""
        colours = lab(np.asarray(self.frame.into(rgb, points), np.uint8))
        seen = np.asarray(self.frame.into(shown.astype(np.float32), points), np.float32)
        return colours, self.paint.find(cells(colours), cells(seen) > _SEEN, z)

    def _unpainted(
        self,
        rgb: NDArray[np.uint8],
        points: Points,
        colours: NDArray[np.float32],
        foreign: NDArray[np.float32],
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """The face without paint, and the cells that were filled."""
        painted = self.paint.painted(foreign)
        if painted.sum() < _LEAST_CELLS:
            return rgb, np.zeros_like(painted)
        red = foreign[..., REDNESS] >= foreign[..., COLOUR]
        delta = filled(colours, cells(colours), painted, red, self.texture) - colours
        hole = np.abs(delta).sum(axis=-1) > 0
        return self._laid_over(rgb, delta, hole, points), painted

    def _laid_over(
        self, rgb: NDArray[np.uint8], delta: NDArray[np.float32], hole: NDArray[np.bool_], points: Points
    ) -> NDArray[np.uint8]:
        """A change of colour within a hole of the frame, on the face."""
        soft = cv2.GaussianBlur(hole.astype(np.float32), (0, 0), _SOFT_PX)
        share = np.clip(2 * soft - 0.8, 0, 1) * hole
        there = np.asarray(self.frame.back((delta * share[..., None]).astype(np.float32), points), np.float32)
        changed = np.abs(there).sum(axis=-1) > _LEAST_DELTA
        return np.where(changed[..., None], srgb(lab(rgb) + there), rgb)

    def tensors(self) -> dict[str, torch.Tensor]:
        """As stored."""
        return {
            **self.shape.tensors(),
            **self.paint.tensors(),
            **self.texture.tensors(),
            "local_mean": torch.from_numpy(self.local_mean.astype(np.float32)),
            "local_deviation": torch.from_numpy(self.local_deviation.astype(np.float32)),
        }


def expected_face_from(tensors: Mapping[str, torch.Tensor]) -> ExpectedFace:
    """Read a stored expectation.

    Raises:
        ModelIntegrityError: a tensor is missing or of another shape.
    """
    shape = expected_shape_from(tensors)
    frame = Frame(mean=shape.mean.reshape(-1, 2) * SIDE - 0.5)
    return ExpectedFace(
        shape=shape,
        paint=paint_map_from(tensors, frame.region),
        texture=texture_from(tensors, frame.region),
        frame=frame,
        local_mean=stored(tensors, "local_mean", 64, 64),
        local_deviation=stored(tensors, "local_deviation", 64, 64),
    )


def _move(unit: Unit, points: Points, expectation: Expectation) -> Move:
    """How far a unit was moved."""
    own = list(unit.points)
    mean = (expectation.points[own] - points[own]).mean(axis=0) / CANONICAL_INTER_OCULAR
    return Move(unit=unit, across=float(mean[0]), down=float(mean[1]))


def _of_side(face: AlignedFace, rgb: NDArray[np.uint8]) -> AlignedFace:
    """The face in a square of SIDE pixels."""
    if face.size == SIDE:
        return face
    scale = SIDE / face.size
    shift = 0.5 * scale - 0.5
    matrix = face.matrix * scale + np.array([[0, 0, shift], [0, 0, shift]])
    inside = cv2.resize(face.inside.astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST) > 0
    landmarks = (face.landmarks + 0.5) * scale - 0.5
    return replace(face, rgb=rgb, matrix=matrix, inside=inside, landmarks=landmarks)


def _moved(face: AlignedFace, now: Points, wanted: Points, units: tuple[Unit, ...]) -> NDArray[np.uint8]:
    own = sorted({point for unit in units for point in unit.points})
    others = np.delete(now, own, axis=0)
    apart = np.hypot(*(others[:, None] - now[None, own]).transpose(2, 0, 1)).min(axis=1)
    return moved_back(face, now[own], wanted[own], others[apart > _NEAR_PX])


def _shown(face: AlignedFace) -> NDArray[np.bool_]:
    """Where the face itself is seen, (SIDE, SIDE) bool."""
    inside = face.inside.astype(np.uint8)
    return np.asarray(cv2.resize(inside, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST) > 0, np.bool_)


def _refusal(face: AlignedFace, moves: tuple[Move, ...], painted: float) -> str:
    """Why a counterpart cannot be trusted, in words; "" where it can."""
    oval = face_mask(face.landmarks, (face.size, face.size))
    covered = 1 - float(face.inside[oval].mean()) if oval.any() else 1.0
    if covered > _MOST_COVERED:
        return f"{covered:.0%} of the face is covered or cut off"
    if painted > _MOST_PAINTED:
        return f"{painted:.0%} of the face has colours that are not its own"
    far = [move for move in moves if np.hypot(move.across, move.down) > _FARTHEST]
    if far:
        return f"the {far[0].unit.name} is too far from where the face lets one expect it"
    return ""
