"""Eyes too far apart, and eyes that do not look the same way."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from service.appraisal.anomalies import anatomy
from service.appraisal.anomalies.change import Change
from service.appraisal.anomalies.fields import Canvas, bell, grid, scaled_to

HYPERTELORISM_SCALE: Final = 0.12  # by which each eye moves out at severity 1, inter-ocular distances
STRABISMUS_SCALE: Final = 0.10  # by which an iris turns aside at severity 1
_OPENING: Final = 4.0  # how sharply what is beside the fissure stays


def hypertelorism(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
    """Eyes too far apart: both sockets move outwards, with lids and brows; the bridge of the nose widens."""
    plane = np.zeros((*grid(canvas)[0].shape, 2), np.float32)
    reach = float(rng.uniform(0.85, 1.15))
    for centre, out in zip(anatomy.eye_centres(canvas.landmarks), (-1.0, 1.0), strict=True):
        window = bell(canvas, centre, (0.24 * reach * canvas.unit, 0.30 * reach * canvas.unit))
        plane[..., 0] -= out * window
    field, largest = scaled_to(plane, canvas, severity * HYPERTELORISM_SCALE * canvas.unit)
    return Change(
        kind="hypertelorism", severity=severity, magnitude=largest / canvas.unit, displacement=field
    )


def strabismus(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
    """One iris turned inwards or outwards; the lids stay."""
    eye = int(rng.integers(2))
    inwards = rng.random() < 0.6
    towards = (1.0 if eye == 0 else -1.0) * (1.0 if inwards else -1.0)
    iris = canvas.landmarks[anatomy.IRISES[eye]]
    radius = float(np.hypot(*(canvas.landmarks[list(anatomy.IRIS_RINGS[eye])] - iris).T).mean())
    lids = [*anatomy.UPPER_LIDS[eye], *anatomy.LOWER_LIDS[eye], *anatomy.EYE_CORNERS[eye]]
    fissure = cv2.convexHull(canvas.landmarks[lids].astype(np.float32))
    opening = np.zeros(canvas.image.shape[:2], np.uint8)
    cv2.fillConvexPoly(opening, np.rint(fissure).astype(np.int32), (1.0,))
    depth = cv2.distanceTransform(np.pad(opening, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    shape = grid(canvas)[0].shape
    within = np.clip(cv2.resize(depth, shape[::-1]) / max(radius / _OPENING, 1.0), 0, 1)
    window = within * bell(canvas, iris, (1.6 * radius, 2.2 * radius))
    plane = np.stack([-towards * window, np.zeros_like(window)], axis=-1).astype(np.float32)
    field, largest = scaled_to(plane, canvas, severity * STRABISMUS_SCALE * canvas.unit)
    return Change(kind="strabismus", severity=severity, magnitude=largest / canvas.unit, displacement=field)
