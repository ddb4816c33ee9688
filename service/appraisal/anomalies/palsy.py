"""Facial palsy as a whole: mouth, fold, brow and lids of one side, flaccid or synkinetic."""

from __future__ import annotations

from typing import Final

import numpy as np

from service.appraisal.anomalies import anatomy
from service.appraisal.anomalies.change import Change, Field
from service.appraisal.anomalies.fields import Canvas, pull, scaled_to

PALSY_SCALE: Final = 0.16  # largest displacement at severity 1, inter-ocular distances


def palsy(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
    """One side of the face without tone, or with too much of it.

    Flaccid: commissure and brow sink, the fissure is wider. Synkinetic: the fissure narrows and the
    commissure is drawn up and out.
    """
    side = int(rng.integers(2))
    out = 1.0 if side else -1.0
    flaccid = rng.random() < 0.6
    corner, brow, upper, lower = (1.0, 0.6, -0.12, 0.38) if flaccid else (-0.7, -0.1, 0.5, -0.3)
    aside = -0.25 if flaccid else 0.4
    groups: tuple[tuple[tuple[int, ...], float, float], ...] = (
        ((anatomy.COMMISSURES[side],), out * aside, corner),
        (anatomy.BROWS[side], 0.0, brow),
        (anatomy.UPPER_LIDS[side][1:-1], 0.0, upper),
        (anatomy.LOWER_LIDS[side][1:-1], 0.0, lower),
        (((185, 40), (409, 270))[side], out * aside / 2, 0.5 * corner),
        (((146, 91), (375, 321))[side], out * aside / 2, 0.6 * corner),
    )
    points = np.concatenate([canvas.landmarks[list(group)] for group, _, _ in groups])
    moves = np.concatenate([np.tile([[across, down]], (len(group), 1)) for group, across, down in groups])
    plane = _pulled(canvas, side, points, moves.astype(np.float32))
    field, largest = scaled_to(plane, canvas, severity * PALSY_SCALE * canvas.unit)
    return Change(kind="palsy", severity=severity, magnitude=largest / canvas.unit, displacement=field)


def _pulled(canvas: Canvas, side: int, points: Field, moves: Field) -> Field:
    """The field that moves these points; the other side, the canthi and the bow stay."""
    still = [
        *anatomy.EYE_CORNERS[0],
        *anatomy.EYE_CORNERS[1],
        *(anatomy.COMMISSURES[1 - side], 0, 17, 1, 152, 168),
        *anatomy.BROWS[1 - side],
    ]
    anchors = canvas.landmarks[still]
    return pull(
        canvas,
        np.concatenate([points, anchors]),
        np.concatenate([np.float32(0.1 * canvas.unit) * moves, np.zeros_like(anchors)]),
        0.11 * canvas.unit,
    )
