"""What belongs to the patient and covers nothing, beyond the anomalies the product knows.

Clefts, port-wine stains, sutured wounds, scabs and patches without pigment must never be taken for
an occlusion: they are what is to be seen.
"""

from __future__ import annotations

import numpy as np

from service.training.occlusion.occluders.stage import (
    Cover,
    Field,
    Stage,
    blurred,
    closed,
    curve,
    noise,
    pick,
    plain,
    polygon,
    rounded,
    stroke,
)


def _on_skin(stage: Stage, mask: Field, colour: Field, opacity: float) -> Cover:
    alpha = np.clip(mask * np.float32(opacity), 0, 1).astype(np.float32)
    return Cover(alpha=alpha, colour=np.asarray(colour, np.float32), covered=np.zeros_like(alpha))


def _site(stage: Stage, rng: np.random.Generator) -> Field:
    return np.asarray(
        stage.landmarks[int(rng.integers(468))] + rng.normal(0, 0.05, 2) * stage.unit, np.float32
    )


def _patch(stage: Stage, rng: np.random.Generator, low: float, high: float) -> Field:
    """An irregular soft-edged patch, (S, S) float32."""
    turn = np.linspace(0, 2 * np.pi, 9, endpoint=False)
    radius = float(np.exp(rng.uniform(np.log(low), np.log(high)))) * stage.unit
    shape = rng.uniform(0.55, 1.25, (9, 1)) * radius * [1, rng.uniform(0.6, 1.4)]
    outline = _site(stage, rng) + np.stack([np.cos(turn), np.sin(turn)], -1) * shape
    mask = polygon(stage, closed(outline.astype(np.float32), 5))
    return blurred(mask, float(rng.uniform(0.3, 2.5)))


def stain(stage: Stage, rng: np.random.Generator) -> Cover:
    """A port-wine stain, bruise, large naevus or patch without pigment: the skin shows through."""
    mask = _patch(stage, rng, 0.15, 0.9)
    tint = np.array(
        [(0.85, 0.5, 0.55), (0.7, 0.55, 0.65), (0.5, 0.42, 0.4), (1.25, 1.3, 1.35), (0.95, 0.65, 0.6),
         (0.35, 0.28, 0.26)]
    )[int(rng.integers(6))]  # fmt: skip
    mottled = 1 + rng.uniform(0, 0.12) * noise(stage, rng, float(rng.uniform(5, 40)))
    colour = stage.image.astype(np.float32) * tint.astype(np.float32) * mottled[..., None].astype(np.float32)
    return _on_skin(stage, mask, np.clip(colour, 0, 255), float(rng.uniform(0.5, 1.0)))


def lump(stage: Stage, rng: np.random.Generator) -> Cover:
    """A raised naevus, haemangioma, scab or swelling, lit as a bulge."""
    mask = _patch(stage, rng, 0.06, 0.35)
    paint = (
        stage.skin()
        * pick(rng, (140, 60, 60), (110, 80, 70), (200, 120, 120), (90, 50, 40), (240, 235, 230))
        / 200
    )
    bulge = rounded(mask, 0.15 * stage.unit) * (1 + 0.12 * noise(stage, rng, 25))
    return _on_skin(
        stage, mask, plain(stage, paint, np.asarray(1.15 * bulge, np.float32)), float(rng.uniform(0.6, 1.0))
    )


def cleft(stage: Stage, rng: np.random.Generator) -> Cover:
    """An unrepaired cleft of the lip: a dark or red gap from the lip towards a nostril."""
    side = int(rng.integers(2))
    nostril, bow = stage.at(98, 327)[side], stage.at(39, 269)[side]
    inner = stage.at(81, 311)[side] + [0, 0.04 * stage.unit]
    reach = float(rng.uniform(0.3, 1.05))
    apex = bow + reach * (nostril - bow)
    wide = float(rng.uniform(0.05, 0.2)) * stage.unit
    outline = np.array(
        [
            np.add(start, [share * wide, 0])
            for start, share in ((apex, -0.2), (apex, 0.2), (inner, 0.6), (inner, -0.6))
        ]
    )
    gap = blurred(polygon(stage, outline.astype(np.float32)), 0.7)
    rim = blurred(stroke(stage, 0.06 * stage.unit, outline[[3, 0, 1, 2]].astype(np.float32)), 0.6)
    paint = pick(rng, (70, 25, 25), (120, 50, 50), (40, 18, 18), (150, 80, 80))
    colour = plain(stage, paint)
    edge = plain(stage, np.asarray(stage.skin() * [0.95, 0.65, 0.65], np.float32))
    colour = edge + np.clip(1.5 * gap, 0, 1)[..., None] * (colour - edge)
    return _on_skin(stage, np.maximum(gap, 0.7 * rim), colour, 1.0)


def sutures(stage: Stage, rng: np.random.Generator) -> Cover:
    """A fresh wound with its stitches, or a red scar."""
    start = stage.landmarks[int(rng.choice([98, 327, 164, 50, 280, 105, 334, 61, 291, 199]))]
    end = start + rng.normal(0, 0.4, 2) * stage.unit
    middle = (start + end) / 2 + rng.normal(0, 0.06, 2) * stage.unit
    line = curve(np.array([start, middle, end], np.float32), 24)
    wound = stroke(stage, float(rng.uniform(0.015, 0.05)) * stage.unit, line)
    around = blurred(wound, 0.05 * stage.unit)
    colour = plain(stage, np.asarray(stage.skin() * [0.9, 0.55, 0.55], np.float32))
    alpha = np.clip(np.maximum(0.8 * wound, 0.6 * around), 0, 1)
    if rng.random() < 0.6:
        along = np.gradient(line, axis=0)
        across = np.stack([-along[:, 1], along[:, 0]], -1) / np.maximum(np.hypot(*along.T), 1e-3)[:, None]
        reach = 0.04 * stage.unit
        ties = [np.stack([line[k] - reach * across[k], line[k] + reach * across[k]]) for k in range(2, 22, 4)]
        stitched = stroke(stage, 0.8, *(tie.astype(np.float32) for tie in ties))
        colour = colour + stitched[..., None] * (pick(rng, (25, 25, 35), (30, 50, 120)) - colour)
        alpha = np.maximum(alpha, stitched)
    return _on_skin(stage, np.asarray(alpha, np.float32), colour, float(rng.uniform(0.6, 1.0)))
