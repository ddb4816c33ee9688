"""What lies on a face and covers nothing: make-up and stubble. Never to be taken for an occlusion."""

from __future__ import annotations

import cv2
import numpy as np

from service.appraisal.anomalies.anatomy import (
    BROWS,
    CHEEKS,
    EYE_CORNERS,
    JAW,
    JAW_RIGHT,
    LOWER_LIP_OUTER,
    UPPER_LIDS,
    UPPER_LIP_OUTER,
)
from service.training.occlusion.occluders.stage import (
    Cover,
    Field,
    Stage,
    blurred,
    noise,
    pick,
    plain,
    polygon,
    stroke,
)


def _laid_on(stage: Stage, mask: Field, tint: Field, opacity: float) -> Cover:
    """Pigment: it keeps the skin's own shading."""
    grey = cv2.cvtColor(stage.image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    relative = grey / max(float(np.median(grey)), 1.0)
    colour = plain(stage, tint, np.clip(relative, 0.3, 1.6).astype(np.float32))
    return Cover(alpha=mask * np.float32(opacity), colour=colour, covered=np.zeros_like(mask))


def lipstick(stage: Stage, rng: np.random.Generator) -> Cover:
    """Painted lips."""
    outline = np.concatenate([stage.at(*UPPER_LIP_OUTER), stage.at(*LOWER_LIP_OUTER)])
    tint = pick(rng, (170, 30, 45), (120, 20, 40), (200, 80, 90), (90, 20, 60), (60, 20, 25), (215, 120, 110))
    return _laid_on(stage, blurred(polygon(stage, outline), 0.6), tint, float(rng.uniform(0.3, 0.85)))


def eye_make_up(stage: Stage, rng: np.random.Generator) -> Cover:
    """Shadow on the lids, liner, darkened brows, blush."""
    lids = [
        curve
        for side in (0, 1)
        for curve in (stage.at(EYE_CORNERS[side][0], *UPPER_LIDS[side], EYE_CORNERS[side][1]),)
    ]
    width = float(rng.uniform(0.03, 0.2)) * stage.unit
    mask = blurred(stroke(stage, width, *lids), 0.25 * width)
    tint = pick(rng, (30, 22, 25), (90, 60, 60), (60, 70, 120), (120, 60, 100), (70, 100, 80))
    if rng.random() < 0.5:
        mask = np.maximum(
            mask, blurred(stroke(stage, 0.07 * stage.unit, *(stage.at(*brow) for brow in BROWS)), 0.8)
        )
    if rng.random() < 0.3:
        cheeks = [stage.at(*cheek) for cheek in CHEEKS]
        mask = np.maximum(mask, 0.5 * blurred(polygon(stage, *cheeks), 4))
        tint = pick(rng, (200, 90, 90), (180, 80, 70))
    return _laid_on(stage, mask, tint, float(rng.uniform(0.3, 0.8)))


def stubble(stage: Stage, rng: np.random.Generator) -> Cover:
    """Beard growth over jaw and lip, from a shadow to a beard."""
    jaw = stage.at(*JAW, *JAW_RIGHT)
    mouth = stage.at(*UPPER_LIP_OUTER, *LOWER_LIP_OUTER)
    low = polygon(stage, np.concatenate([jaw, stage.at(425, 326, 2, 97, 205)]))
    lips = blurred(polygon(stage, mouth), 0.8)
    mask = np.clip(blurred(low, 0.05 * stage.unit) - lips, 0, 1)
    hairs = np.clip(0.6 + 0.5 * noise(stage, rng, 110) + 0.2 * noise(stage, rng, 10), 0, 1)
    tint = pick(rng, (35, 28, 25), (60, 45, 35), (110, 85, 60), (130, 130, 130))
    return _laid_on(stage, np.asarray(mask * hairs, np.float32), tint, float(rng.uniform(0.3, 0.9)))
