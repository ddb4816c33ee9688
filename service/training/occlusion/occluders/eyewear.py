"""Glasses of every shape: frames, rimless, tinted, mirrored, with reflections; and eye patches.

The whole of a lens counts as covered: what is seen through it is bent, tinted and framed.
"""

from __future__ import annotations

import cv2
import numpy as np

from service.appraisal.anomalies.anatomy import eye_centres
from service.training.occlusion.occluders.stage import (
    Cover,
    Field,
    Stage,
    blurred,
    curve,
    grid,
    light_of,
    noise,
    pick,
    plain,
    polygon,
    rounded,
    shadow,
    stroke,
)


def _lens(stage: Stage, centre: Field, rng_shape: np.random.Generator, side: float) -> Field:
    """Outline of a lens, a superellipse that may sag, taper or wing, (48, 2) float32."""
    draw = rng_shape
    half_width, half_height = float(draw.uniform(0.34, 0.50)), float(draw.uniform(0.20, 0.46))
    power = float(draw.uniform(1.8, 5.0))
    sag, wing = float(draw.normal(0, 0.12)), float(draw.uniform(-0.05, 0.25))
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x = np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** (2 / power)
    y = np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** (2 / power)
    x = x * (1 - sag * y)
    y = y - wing * x * (y < 0)
    outline = np.stack([side * x * half_width, y * half_height], axis=-1) * stage.unit
    return np.asarray(centre + outline, np.float32)


def _lenses(stage: Stage, rng: np.random.Generator) -> tuple[Field, Field]:
    """Outlines of both lenses of a pair, image left first."""
    left, right = eye_centres(stage.landmarks)
    seed = int(rng.integers(2**31))
    apart = float(rng.normal(0.03, 0.03)) * stage.unit
    drop = float(rng.uniform(-0.02, 0.14)) * stage.unit
    tilt = float(rng.normal(0, 0.02)) * stage.unit
    first = left + np.array([-apart, drop + tilt], np.float32)
    second = right + np.array([apart, drop - tilt], np.float32)
    return (
        _lens(stage, first.astype(np.float32), np.random.default_rng(seed), -1.0),
        _lens(stage, second.astype(np.float32), np.random.default_rng(seed), 1.0),
    )


def _glare(stage: Stage, inside: Field, rng: np.random.Generator) -> Field:
    """Opacity of reflections of windows and lamps in the lenses, (S, S) float32."""
    x, y = grid(stage)
    plane = np.zeros_like(inside)
    angle = float(rng.uniform(0, np.pi))
    across = np.cos(angle) * x + np.sin(angle) * y
    for _ in range(int(rng.integers(1, 4))):
        middle = float(rng.uniform(across.min(), across.max()))
        width = float(rng.uniform(0.03, 0.3)) * stage.unit
        soft = np.clip(1.5 - np.abs(across - middle) / width, 0, 1)
        plane = np.maximum(plane, np.float32(rng.uniform(0.15, 0.9)) * soft)
    if rng.random() < 0.4:
        plane = np.maximum(plane, np.clip(0.5 * noise(stage, rng, 6), 0, 0.8))
    return np.asarray(plane * inside, np.float32)


def _tint(stage: Stage, inside: Field, rng: np.random.Generator) -> Field:
    """Opacity of the glass, mostly clear, sometimes sunglasses, sometimes darker above, (S, S) float32."""
    kind = rng.random()
    depth = (
        rng.uniform(0, 0.08)
        if kind < 0.5
        else rng.uniform(0.15, 0.65)
        if kind < 0.7
        else rng.uniform(0.7, 0.98)
    )
    plane = np.full_like(inside, depth)
    if rng.random() < 0.35:
        _, y = grid(stage)
        rows = np.flatnonzero(inside.max(axis=1) > 0.5)
        if len(rows):
            plane = plane * np.clip(1.3 - (y - rows[0]) / max(rows[-1] - rows[0], 1), 0.1, 1)
    return np.asarray(plane * inside, np.float32)


def _refracted(stage: Stage, inside: Field, rng: np.random.Generator) -> Field:
    """The face as seen through the lenses, somewhat larger or smaller, (S, S, 3) float32."""
    face = stage.image.astype(np.float32)
    if rng.random() < 0.4:
        return face
    scale = float(rng.uniform(0.93, 1.09))
    middle = eye_centres(stage.landmarks).mean(axis=0)
    x = stage.size / 2
    for side, centre in enumerate(eye_centres(stage.landmarks)):
        matrix = np.array(
            [[scale, 0, (1 - scale) * centre[0]], [0, scale, (1 - scale) * centre[1]]], np.float32
        )
        seen = cv2.warpAffine(stage.image, matrix, (stage.size, stage.size), borderMode=cv2.BORDER_REPLICATE)
        columns = np.arange(stage.size) < (middle[0] if np.isfinite(middle[0]) else x)
        half = columns if side == 0 else ~columns
        face[:, half] = seen[:, half]
    return face


def _frame(stage: Stage, lenses: tuple[Field, Field], rng: np.random.Generator) -> Field:
    """Rims, bridge and temples, (S, S) float32."""
    width = float(np.exp(rng.uniform(np.log(0.02), np.log(0.11)))) * stage.unit
    rims = [np.concatenate([lens, lens[:2]]) for lens in lenses]
    style = rng.random()
    if style < 0.15:  # half rims: the upper part only
        rims = [lens[24:48] if lens[30, 1] < lens[6, 1] else lens[0:24] for lens in lenses]
    elif style < 0.25:  # rimless
        rims, width = [], 0.03 * stage.unit
    inner = (lenses[0][0], lenses[1][0]), (lenses[0][24], lenses[1][24])
    nose = min(inner, key=lambda pair: abs(float(pair[1][0] - pair[0][0])))
    outer = max(inner, key=lambda pair: abs(float(pair[1][0] - pair[0][0])))
    arch = float(rng.uniform(-0.08, 0.05)) * stage.unit
    height = float(rng.uniform(-0.12, 0.02)) * stage.unit
    ends = np.add(np.stack([nose[0], np.add(nose[0] / 2 + nose[1] / 2, [0, arch]), nose[1]]), [0, height])
    parts = [stroke(stage, width, *rims)] if rims else []
    parts.append(stroke(stage, max(0.7 * width, 1.0), curve(ends.astype(np.float32), 12)))
    ears = stage.at(127, 356) if rng.random() < 0.5 else stage.at(234, 454)
    temples = [np.stack([outer[k], ears[k] + [(-1, 1)[k] * 0.1 * stage.unit, 0]]) for k in (0, 1)]
    parts.append(stroke(stage, max(float(rng.uniform(0.5, 1.1)) * width, 1.0), *temples))
    return np.asarray(np.maximum.reduce(parts), np.float32)


def glasses(stage: Stage, rng: np.random.Generator) -> Cover:
    """Spectacles and sunglasses."""
    lenses = _lenses(stage, rng)
    inside = polygon(stage, *lenses)
    frame = _frame(stage, lenses, rng)
    paint = pick(
        rng, (18, 18, 20), (25, 20, 18), (60, 35, 22), (95, 60, 35), (150, 150, 155), (190, 160, 90),
        (130, 25, 30), (30, 50, 110), (215, 205, 200), (70, 70, 75),
    )  # fmt: skip
    grain = 1 + (0.35 if rng.random() < 0.25 else 0.06) * noise(stage, rng, 40)
    shine = rounded(frame, 0.05 * stage.unit) * grain * light_of(stage)
    colour = plain(stage, paint, shine.astype(np.float32))
    colour = colour + 120 * np.clip(noise(stage, rng, 14) - 1.3, 0, 1)[..., None] * (rng.random() < 0.6)
    tint, glare = _tint(stage, inside, rng), np.zeros_like(inside)
    if rng.random() < 0.55:
        glare = _glare(stage, inside, rng)
    glass = pick(rng, (12, 12, 14), (30, 22, 15), (20, 28, 20), (60, 40, 20), (20, 25, 50), (150, 120, 40))
    seen = _refracted(stage, inside, rng)
    seen = seen + tint[..., None] * (glass - seen)
    seen = seen + glare[..., None] * (pick(rng, (235, 240, 245), (200, 215, 240), (190, 225, 200)) - seen)
    opaque = frame * np.float32(1.0 if rng.random() < 0.85 else rng.uniform(0.35, 0.7))
    body = np.maximum(inside, frame)
    mixed = seen + opaque[..., None] * (colour - seen)
    return Cover(
        alpha=body,
        colour=np.clip(mixed, 0, 255).astype(np.float32),
        covered=body,
        shade=shadow(stage, np.maximum(frame, 0.5 * tint), rng, 0.07),
    )


def eye_patch(stage: Stage, rng: np.random.Generator) -> Cover:
    """An eye pad or patch, with or without its strap."""
    centre = eye_centres(stage.landmarks)[int(rng.integers(2))]
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = np.array([rng.uniform(0.32, 0.5), rng.uniform(0.28, 0.5)]) * stage.unit
    shape = 1 + 0.12 * np.sin(turn * int(rng.integers(1, 4)) + rng.uniform(0, 6))
    outline = centre + np.stack([np.cos(turn), np.sin(turn)], -1) * shape[:, None] * radius
    mask = polygon(stage, outline.astype(np.float32))
    dark = rng.random() < 0.4
    paint = pick(rng, (22, 22, 25)) if dark else pick(rng, (240, 238, 232), (225, 190, 160), (235, 225, 205))
    if dark or rng.random() < 0.2:
        ends = np.array([[-0.2, rng.uniform(-0.2, 0.4)], [1.2, rng.uniform(-0.2, 0.4)]]) * stage.size
        mask = np.maximum(mask, stroke(stage, 0.06 * stage.unit, np.stack([ends[0], centre, ends[1]])))
    weave = 1 + 0.05 * noise(stage, rng, 64) + 0.05 * noise(stage, rng, 9)
    colour = plain(
        stage, paint * light_of(stage), (weave * rounded(mask, 0.12 * stage.unit)).astype(np.float32)
    )
    return Cover(alpha=blurred(mask, 0.4), colour=colour, covered=mask, shade=shadow(stage, mask, rng))
