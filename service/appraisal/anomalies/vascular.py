"""Red marks of the skin: brighter or darker hardly at all, and of any extent."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from service.appraisal.anomalies import anatomy
from service.appraisal.anomalies.change import Change, Field, Paint
from service.appraisal.anomalies.fields import Canvas, enlarge, plateau

HAEMANGIOMA_SCALE: Final = 1.0  # diameter at severity 1, inter-ocular distances
_CIELAB_REDNESS: Final = 26.0  # a* added where a mark is densest


def haemangioma(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
    """A flat vascular mark (naevus flammeus, early haemangioma) with an irregular edge."""
    cheek = anatomy.CHEEKS[int(rng.integers(2))]
    site = canvas.landmarks[cheek[int(rng.integers(len(cheek)))]]
    site = np.asarray(site + rng.normal(0, 0.08 * canvas.unit, 2), np.float32)
    radius = 0.5 * severity * HAEMANGIOMA_SCALE * canvas.unit
    spot = plateau(
        canvas, site, (radius, radius * float(rng.uniform(0.6, 1.0))), float(rng.uniform(0, np.pi)), edge=0.4
    )
    alpha = enlarge(spot * mottled(spot.shape, rng, 0.75), canvas)
    colour = reddened(canvas, _CIELAB_REDNESS, float(rng.uniform(-6, 0)))
    return Change(
        kind="haemangioma",
        severity=severity,
        magnitude=2 * radius / canvas.unit,
        displacement=None,
        paint=Paint(alpha=np.asarray(alpha, np.float32), colour=colour),
    )


def mottled(shape: tuple[int, ...], rng: np.random.Generator, least: float) -> Field:
    """A smooth random opacity, (h, w) float32, ``least`` to 1."""
    noise = rng.uniform(0, 1, (12, 12)).astype(np.float32)
    smooth = cv2.resize(noise, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(least + (1 - least) * np.clip(smooth, 0, 1), np.float32)


def reddened(canvas: Canvas, redness: float, lightness: float, yellowness: float = 0.0) -> Field:
    """The face with another colour of skin in CIELAB, (H, W, 3) float32, sRGB, 0..255.

    Args:
        canvas: the face.
        redness: a* added.
        lightness: L* added.
        yellowness: b* added.
    """
    lab = cv2.cvtColor(canvas.image.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2LAB)
    moved = lab + np.array([lightness, redness, yellowness], np.float32)
    rgb = cv2.cvtColor(moved.astype(np.float32), cv2.COLOR_LAB2RGB)
    return np.asarray(np.clip(rgb, 0, 1) * 255, np.float32)
