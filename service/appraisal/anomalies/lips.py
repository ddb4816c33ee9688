"""Displacements of the upper lip (paper 001), and the lips of other normal people as their placebo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from service.appraisal.anomalies import anatomy
from service.appraisal.anomalies.change import Change, Field
from service.appraisal.anomalies.fields import Canvas, Maker, pull, scaled_to
from service.errors import ConfigurationError

LIP_SCALE: Final = 0.16  # displacement at severity 1, inter-ocular distances
_UPPER: Final = 7  # points of the outer upper lip in dlib's scheme, commissure to commissure
_BOW: Final = slice(2, 5)  # its peaks and the dip between them
_FLANK_SHARE: Final = 0.6  # of the bow's height that a flank takes part in

# The seven transformations of the upper lip (LT-v1) by the points of DLIB_MOUTH 0..6 they move and
# the direction (x towards the moved side, y down), after Rosero et al. as cited in paper 001.
_LT_V1: Final[tuple[tuple[tuple[int, float, float], ...], ...]] = (
    ((2, 0.0, -1.0),),  # raised peak
    ((2, 0.0, -1.0), (1, 0.0, -0.6)),  # raised peak and flank
    ((2, 0.3, -0.8), (3, 0.6, -0.5)),  # bow pulled to one side
    ((3, 0.8, 0.0), (2, 0.6, 0.0), (4, 0.6, 0.0)),  # bow displaced sideways
    ((2, 0.0, 0.8), (3, 0.0, -0.4)),  # flattened bow
    ((1, 0.0, -0.8), (0, 0.0, -0.5)),  # short flank
    ((2, 0.0, 1.0), (1, 0.0, 0.7)),  # long flank
)

# Outer upper lip of 6,579 normal faces in the same scheme: commissures at (-.5, 0) and (.5, 0), y down.
_NORMAL: Final = np.array(
    [
        *((-0.5, 0), (-0.339, -0.0723), (-0.1502, -0.1151), (0, -0.0921)),
        *((0.1502, -0.1151), (0.339, -0.0723), (0.5, 0)),
    ],
    np.float32,
)
# How normal lips differ from it, along and across: principal directions, each of one standard deviation.
_NORMAL_SPREAD: Final = np.array(
    [
        [(0, 0), (0.0264, 0.0012), (0.0449, 0), (0.0494, 0), (0.0449, 0), (0.0264, -0.0012), (0, 0)],
        [
            *((0, 0), (-0.0126, -0.0031), (-0.0055, 0.0006), (0, -0.0012)),
            *((0.0055, 0.0006), (0.0126, -0.0031), (0, 0)),
        ],
        [(0, 0), (-0.0014, 0.0056), (0.0001, 0), (0, 0), (-0.0001, 0), (0.0014, 0.0056), (0, 0)],
        [
            *((0, 0), (-0.0005, -0.0002), (0.0018, 0.0019), (0, -0.0037)),
            *((-0.0018, 0.0019), (0.0005, -0.0002), (0, 0)),
        ],
    ],
    np.float32,
)


def read_lip_shapes(folder: Path) -> tuple[Field, ...]:
    """Read upper lips of repaired clefts from 68-point landmark files.

    Args:
        folder: holds ``*.npy``, each (68, 2), pixels, in dlib's order.

    Returns:
        For each patient points 48-54, (7, 2) float32.

    Raises:
        ConfigurationError: there are none, or one is not of that shape.
    """
    shapes = []
    for path in sorted(folder.glob("*.npy")):
        points = np.load(path, allow_pickle=False)
        if points.shape != (68, 2):
            raise ConfigurationError(f"{path} holds {points.shape}, not 68 landmarks")
        shapes.append(points[48 : 48 + _UPPER].astype(np.float32))
    if not shapes:
        raise ConfigurationError(f"no lip shapes (*.npy) in {folder}")
    return tuple(shapes)


def _anchors(canvas: Canvas) -> Field:
    keep = [*anatomy.NOSE_BASE, 1, 17, 84, 314, 91, 321, 14, 87, 317, 50, 280, 152]
    return canvas.landmarks[keep]


def _pulled(canvas: Canvas, points: Field, moves: Field) -> Field:
    anchors = _anchors(canvas)
    return pull(
        canvas,
        np.concatenate([points, anchors]),
        np.concatenate([moves, np.zeros_like(anchors)]),
        0.16 * canvas.unit,
    )


def _change(canvas: Canvas, kind: str, severity: float, points: Field, moves: Field) -> Change:
    plane = _pulled(canvas, points, moves)
    field, largest = scaled_to(plane, canvas, severity * LIP_SCALE * canvas.unit)
    return Change(kind=kind, severity=severity, magnitude=largest / canvas.unit, displacement=field)


def lt_v1(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
    """Lip transformation v1 (paper 001, section 5.2): one of seven displacements of the lip."""
    side = int(rng.integers(2))
    order = range(_UPPER) if side == 0 else range(_UPPER - 1, -1, -1)
    points = anatomy.dlib_mouth(canvas.landmarks)[list(order)]
    moves = np.zeros((_UPPER, 2), np.float32)
    for position, across, down in _LT_V1[int(rng.integers(len(_LT_V1)))]:
        moves[position] = (across if side else -across, down)
    return _change(canvas, "lt-v1", severity, points, moves * np.float32(0.1 * canvas.unit))


def lt_v2(shapes: Sequence[Field]) -> Maker:
    """Lip transformation v2 (paper 001, section 3.1), as a transfer of deviations.

    What a repaired cleft's upper lip has beyond the mean normal one is added to the face's own. Paper
    001 puts the cleft's points in the place of the face's: most of such a move is the difference of two
    normal lips and of two landmark schemes, so that a normal person's lip is found as easily.

    Args:
        shapes: as ``read_lip_shapes`` gives them.
    """

    def make(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
        away = deviation(shapes[int(rng.integers(len(shapes)))])
        if rng.random() < 0.5:
            away = away[::-1] * np.array([-1, 1], np.float32)
        own = anatomy.dlib_mouth(canvas.landmarks)[:_UPPER]
        return _change(canvas, "lt-v2", severity, own, _on_face(own, away))

    return make


def normal_lip(canvas: Canvas, rng: np.random.Generator) -> Change:
    """The placebo of LT-v2: what another normal lip has beyond the mean, in its natural size."""
    away = np.tensordot(rng.normal(0, 1, len(_NORMAL_SPREAD)), _NORMAL_SPREAD, axes=1).astype(np.float32)
    own = anatomy.dlib_mouth(canvas.landmarks)[:_UPPER]
    moves = _on_face(own, away)
    natural = float(np.hypot(*moves.T).max())
    field, largest = scaled_to(_pulled(canvas, own, moves), canvas, natural)
    return Change(kind="normal-lip", severity=0.0, magnitude=largest / canvas.unit, displacement=field)


def deviation(shape: Field) -> Field:
    """What an upper lip has beyond the mean normal one, its commissures fixed and its bow's height taken off.

    Args:
        shape: (7, 2) float32, commissure to commissure, y down, any scale.

    Returns:
        (7, 2) float32, in widths of the mouth along and across it.
    """
    middle, across = (shape[0] + shape[-1]) / 2, shape[-1] - shape[0]
    width = float(np.hypot(*across))
    cosine, sine = across / width
    turn = np.array([[cosine, sine], [-sine, cosine]], np.float32)
    away = (shape - middle) @ turn.T / np.float32(width) - _NORMAL
    share = np.full(_UPPER, _FLANK_SHARE, np.float32)
    share[_BOW] = 1
    away[:, 1] -= share * away[_BOW, 1].mean()
    away[[0, -1]] = 0
    return np.asarray(away, np.float32)


def _on_face(own: Field, away: Field) -> Field:
    """A deviation in pixels and in the direction of the face's own mouth, (7, 2) float32."""
    across = own[-1] - own[0]
    down = np.array([-across[1], across[0]], np.float32)
    return np.asarray(away[:, :1] * across + away[:, 1:] * down, np.float32)
