"""Objects before a face: microphone, cup, cloth, and shapes of no particular name."""

from __future__ import annotations

import cv2
import numpy as np

from service.training.occlusion.occluders.stage import (
    Cover,
    Field,
    Stage,
    any_colour,
    closed,
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


def microphone(stage: Stage, rng: np.random.Generator) -> Cover:
    """A microphone before mouth or chin."""
    unit = stage.unit
    head = stage.at(17)[0] + np.array([rng.normal(0, 0.35), rng.uniform(-0.2, 0.6)]) * unit
    foot = head + np.array([rng.normal(0, 0.5), 2.5]) * unit
    radius = float(rng.uniform(0.18, 0.45)) * unit
    ball = stroke(stage, 2 * radius, np.stack([head, np.add(head, 0.2)]).astype(np.float32))
    stick = stroke(stage, radius * float(rng.uniform(0.5, 1.1)), np.stack([head, foot]).astype(np.float32))
    x, y = grid(stage)
    mesh = 1 + 0.2 * np.sin(2.2 * x) * np.sin(2.2 * y) + 0.1 * noise(stage, rng, 50)
    paint = pick(rng, (30, 30, 32), (70, 70, 72), (150, 150, 155), (20, 20, 25))
    handle = pick(rng, (25, 25, 28), (60, 60, 60), (130, 20, 20), (180, 180, 180))
    colour = plain(stage, handle * light_of(stage), rounded(stick, radius / 2))
    lit = np.asarray(mesh * rounded(ball, radius), np.float32)
    colour = colour + ball[..., None] * (plain(stage, paint * light_of(stage), lit) - colour)
    body = np.maximum(ball, stick)
    return Cover(
        alpha=body, colour=colour.astype(np.float32), covered=body, shade=shadow(stage, body, rng, 0.1)
    )


def _texture(stage: Stage, rng: np.random.Generator) -> Field:
    """A random material: plain, striped, checked, mottled or graded, (S, S, 3) float32."""
    first, second = any_colour(rng), any_colour(rng)
    x, y = grid(stage)
    angle, period = float(rng.uniform(0, np.pi)), float(rng.uniform(2.5, 30))
    along = (np.cos(angle) * x + np.sin(angle) * y) / period
    kind = int(rng.integers(5))
    if kind == 0:
        share = np.zeros_like(x)
    elif kind == 1:
        share = (np.sin(2 * np.pi * along) > 0).astype(np.float32)
    elif kind == 2:
        across = (np.cos(angle) * y - np.sin(angle) * x) / period
        share = ((np.sin(2 * np.pi * along) > 0) ^ (np.sin(2 * np.pi * across) > 0)).astype(np.float32)
    elif kind == 3:
        share = np.clip(0.5 + 0.6 * noise(stage, rng, float(rng.uniform(3, 60))), 0, 1)
    else:
        share = (along - along.min()) / max(float(np.ptp(along)), 1e-3)
    mixed = first + np.asarray(share, np.float32)[..., None] * (second - first)
    grain = 1 + rng.uniform(0.01, 0.08) * noise(stage, rng, 90) + rng.uniform(0, 0.1) * noise(stage, rng, 5)
    return np.asarray(mixed * grain[..., None] * light_of(stage), np.float32)


def thing(stage: Stage, rng: np.random.Generator) -> Cover:
    """Something of any shape and material, most often reaching in from the edge."""
    unit = stage.unit
    target = stage.landmarks[int(rng.integers(468))]
    corners = int(rng.integers(3, 9))
    turn = np.sort(rng.uniform(0, 2 * np.pi, corners))
    size = float(np.exp(rng.uniform(np.log(0.3), np.log(1.1)))) * unit
    shape = target + np.stack([np.cos(turn), np.sin(turn)], -1) * rng.uniform(0.6, 1.3, (corners, 1)) * size
    outline = closed(shape.astype(np.float32), 6) if rng.random() < 0.6 else shape.astype(np.float32)
    mask = polygon(stage, outline)
    if rng.random() < 0.5:
        edge = target + np.array([rng.normal(0, 1), rng.choice([-1.0, 1.0, 1.0])]) * 3 * unit
        mask = np.maximum(
            mask,
            stroke(stage, float(rng.uniform(0.3, 1.2)) * size, np.stack([target, edge]).astype(np.float32)),
        )
    colour = _texture(stage, rng) * rounded(mask, float(rng.uniform(0.1, 0.8)) * size)[..., None]
    return Cover(
        alpha=mask, colour=colour.astype(np.float32), covered=mask, shade=shadow(stage, mask, rng, 0.1)
    )


def cup(stage: Stage, rng: np.random.Generator) -> Cover:
    """A cup, bottle or telephone held before the mouth or beside the eye."""
    unit = stage.unit
    middle = stage.landmarks[int(rng.choice([13, 17, 0, 50, 280, 152]))] + rng.normal(0, 0.25, 2) * unit
    wide, high = float(rng.uniform(0.35, 0.9)) * unit, float(rng.uniform(0.7, 2.2)) * unit
    angle = float(rng.normal(0, 0.3))
    taper = float(rng.uniform(0.7, 1.0))
    corners = np.array([[-wide, 0], [wide, 0], [taper * wide, high], [-taper * wide, high]]) - [0, 0.3 * high]
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    mask = polygon(stage, (middle + corners @ turn).astype(np.float32))
    x, _ = grid(stage)
    round_shade = 1 - 0.45 * np.clip(np.abs(x - middle[0]) / wide, 0, 1.3) ** 2
    gleam = 1 + 0.5 * np.exp(-(((x - middle[0] + 0.4 * wide) / (0.1 * wide)) ** 2)) * (rng.random() < 0.5)
    colour = _texture(stage, rng) * np.asarray(round_shade * gleam, np.float32)[..., None]
    return Cover(
        alpha=mask,
        colour=np.clip(colour, 0, 255).astype(np.float32),
        covered=mask,
        shade=shadow(stage, mask, rng, 0.1),
    )


def cloth(stage: Stage, rng: np.random.Generator) -> Cover:
    """A scarf, blanket or collar over chin, cheek or forehead, with folds."""
    unit = stage.unit
    x, y = grid(stage)
    heading = float(rng.choice([np.pi / 2, np.pi / 2, 0, np.pi, -np.pi / 2])) + float(rng.normal(0, 0.25))
    level = {True: stage.at(17, 152)[int(rng.integers(2))]}.get(
        bool(np.sin(heading) > 0.5), stage.landmarks[int(rng.choice([50, 280, 9, 205, 425]))]
    )
    away = (x - level[0]) * np.cos(heading) + (y - level[1]) * np.sin(heading)
    wave = 0.12 * unit * noise(stage, rng, 4)
    mask = np.clip((away + wave) / 1.2 + 0.5, 0, 1).astype(np.float32)
    folds = 1 + 0.22 * np.sin(away / (float(rng.uniform(0.06, 0.2)) * unit) + 1.5 * noise(stage, rng, 5))
    rim = np.clip(1 - np.abs(away + wave) / (0.06 * unit), 0, 1)
    colour = _texture(stage, rng) * np.asarray(folds + 0.15 * rim, np.float32)[..., None]
    smooth = cv2.GaussianBlur(colour, (0, 0), 0.6)
    return Cover(
        alpha=mask,
        colour=np.clip(smooth, 0, 255).astype(np.float32),
        covered=mask,
        shade=shadow(stage, mask, rng, 0.1),
    )
