"""Hands and hair before a face."""

from __future__ import annotations

import numpy as np

from service.appraisal.anomalies.anatomy import BROWS
from service.training.occlusion.occluders.stage import (
    Cover,
    Field,
    Stage,
    blurred,
    closed,
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


def _hand_skin(stage: Stage, rng: np.random.Generator) -> Field:
    """Colour of a hand: the face's own, somebody else's, or a glove's."""
    kind = rng.random()
    if kind < 0.65:
        return np.asarray(
            stage.skin() * np.exp(rng.normal(0, 0.1)) * np.exp(rng.normal(0, 0.04, 3)), np.float32
        )
    if kind < 0.9:
        return pick(
            rng, (235, 195, 170), (215, 165, 135), (175, 120, 90), (120, 78, 55), (70, 45, 35)
        ) * np.float32(light_of(stage))
    return pick(rng, (225, 225, 220), (110, 140, 200), (150, 130, 190), (35, 35, 40)) * np.float32(
        light_of(stage)
    )


def hand(stage: Stage, rng: np.random.Generator) -> Cover:
    """A hand with fingers that reaches into the face from below, the side, or above."""
    unit = stage.unit
    target = stage.landmarks[int(rng.choice([0, 13, 17, 50, 280, 152, 205, 425, 4, 159, 386, 10, 152, 200]))]
    heading = float(rng.choice([np.pi / 2, 0.2, np.pi - 0.2, np.pi / 2])) + float(rng.normal(0, 0.35))
    if rng.random() < 0.08:
        heading = -heading
    back = np.array([np.cos(heading), np.sin(heading)])  # from the fingertips to the wrist
    across = np.array([-back[1], back[0]])
    thickness = float(rng.uniform(0.17, 0.27)) * unit
    length = float(rng.uniform(0.6, 1.1)) * unit
    count = int(rng.choice([1, 2, 3, 4, 4, 4]))
    spread = float(rng.uniform(0.95, 1.35)) * thickness
    skin = _hand_skin(stage, rng)
    colour = plain(stage, skin)
    body = np.zeros(stage.image.shape[:2], np.float32)
    palm = target + back * (length + 0.45 * unit) + across * rng.normal(0, 0.1) * unit
    tone = 1 + 0.05 * noise(stage, rng, 7) + 0.02 * noise(stage, rng, 60)

    def add(mask: Field, radius: float, crease: bool) -> None:
        nonlocal colour, body
        dark = np.clip(blurred(mask, 1.2) - mask, 0, 1) * body  # a finger's shade on what lies behind it
        colour = colour * (1 - 0.5 * dark[..., None])
        lit = rounded(mask, radius) * tone
        if crease:
            lit = lit * (1 - 0.12 * np.clip(noise(stage, rng, 18) - 1, 0, 1))
        colour = colour + mask[..., None] * (plain(stage, skin, np.asarray(lit, np.float32)) - colour)
        body = np.maximum(body, mask)

    turn = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    wide = max(count, 3) * spread * 0.6
    knuckles = palm + np.stack([np.cos(turn), np.sin(turn)], -1) @ np.stack(
        [across * wide, back * 0.5 * unit]
    )
    add(polygon(stage, closed(knuckles.astype(np.float32), 4)), 0.35 * unit, False)
    wrist = np.stack([palm, palm + back * 2.5 * unit]).astype(np.float32)
    add(stroke(stage, 1.4 * wide, wrist), 0.4 * unit, False)
    for number in range(count):
        place = (number - (count - 1) / 2) * spread
        reach = length * (1 - 0.18 * abs(number - 0.4 * count) / max(count, 1))
        tip = palm - back * (reach + 0.45 * unit) + across * place * float(rng.uniform(0.9, 1.2))
        root = palm + across * place * 0.9
        bend = (tip + root) / 2 + across * rng.normal(0, 0.06) * unit
        line = curve(np.array([root, bend, tip], np.float32), 14)
        add(stroke(stage, thickness * float(rng.uniform(0.85, 1.05)), line), thickness / 2, True)
        if rng.random() < 0.5:
            nail = stroke(
                stage, 0.5 * thickness, np.stack([tip, tip + back * 0.4 * thickness]).astype(np.float32)
            )
            paint = skin * 1.12 + 8 if rng.random() < 0.75 else np.asarray(rng.uniform(20, 230, 3))
            colour = colour + 0.7 * nail[..., None] * (plain(stage, np.asarray(paint, np.float32)) - colour)
    return Cover(
        alpha=body,
        colour=np.clip(colour, 0, 255).astype(np.float32),
        covered=body,
        shade=shadow(stage, body, rng, 0.1),
    )


def _hair_colour(rng: np.random.Generator) -> Field:
    return pick(
        rng,
        (22, 18, 16),
        (40, 28, 20),
        (75, 50, 32),
        (120, 85, 50),
        (185, 150, 100),
        (150, 75, 40),
        (150, 150, 150),
    )


def _strands(stage: Stage, rng: np.random.Generator, start: Field, end: Field, *, spread: float) -> Cover:
    """A lock of hair between two places: many strands, each lighter or darker."""
    unit = stage.unit
    base = _hair_colour(rng) * np.float32(light_of(stage))
    length = float(np.hypot(*(end - start)))
    bend = (start + end) / 2 + rng.normal(0, 0.15, 2) * length
    colour = plain(stage, base * 0.7)
    alpha = np.zeros(stage.image.shape[:2], np.float32)
    depth = float(rng.uniform(0.7, 1.0))
    for _ in range(int(rng.integers(3, 6))):
        lines = []
        for _ in range(int(rng.integers(4, 12))):
            off = rng.normal(0, spread, 2) * unit
            wander = rng.normal(0, 0.03, (3, 2)) * length
            lines.append(
                curve(
                    np.asarray(
                        np.stack([start + off, bend + 0.8 * off, end + 0.5 * off]) + wander, np.float32
                    ),
                    16,
                )
            )
        layer = stroke(stage, float(rng.uniform(0.4, 1.6)), *lines) * np.float32(depth)
        shade = np.float32(np.exp(rng.normal(0, 0.25)))
        colour = colour + layer[..., None] * (plain(stage, base * shade) - colour)
        alpha = np.maximum(alpha, layer)
    covered = np.clip(3.0 * (blurred(alpha, 0.035 * unit) - 0.12), 0, 1)
    return Cover(
        alpha=alpha, colour=colour, covered=covered.astype(np.float32), shade=shadow(stage, alpha, rng, 0.05)
    )


def hair(stage: Stage, rng: np.random.Generator) -> Cover:
    """A lock over eye, cheek or mouth, from above or from the side."""
    top, unit = stage.at(10)[0], stage.unit
    out = float(rng.choice([-1, 1]))
    start = top + np.array([out * rng.uniform(0, 1.2), -rng.uniform(0.0, 0.5)]) * unit
    goal = stage.landmarks[int(rng.choice([159, 386, 50, 280, 205, 425, 0, 5, 118, 347, 61, 291]))]
    end = goal + np.array([rng.normal(0, 0.2), rng.uniform(0, 0.9)]) * unit
    if rng.random() < 0.25:  # blown across
        start = np.array([(0.0, float(stage.size))[int(out > 0)], goal[1] + rng.normal(0, 0.6) * unit])
        end = goal - np.array([out * rng.uniform(0, 0.8), rng.normal(0, 0.3)]) * unit
    return _strands(stage, rng, start, end, spread=float(rng.uniform(0.05, 0.28)))


def brow_line(stage: Stage) -> Field:
    """1 below the brows, 0 above them, soft between, (S, S) float32."""
    _, y = grid(stage)
    level = float(stage.at(*BROWS[0], *BROWS[1])[:, 1].min())
    return np.asarray(np.clip((y - level + 0.04 * stage.unit) / (0.08 * stage.unit), 0, 1), np.float32)


def fringe(stage: Stage, rng: np.random.Generator) -> Cover:
    """A fringe that ends above the brows: not an occlusion."""
    top, unit = stage.at(10)[0], stage.unit
    level = float(stage.at(*BROWS[0], *BROWS[1])[:, 1].min()) - float(rng.uniform(0.05, 0.35)) * unit
    cover = _strands(
        stage,
        rng,
        top + np.array([rng.normal(0, 0.3), -0.5]) * unit,
        np.array([top[0] + rng.normal(0, 0.5) * unit, level]),
        spread=float(rng.uniform(0.15, 0.5)),
    )
    above = 1 - brow_line(stage)
    return Cover(alpha=cover.alpha * above, colour=cover.colour, covered=np.zeros_like(cover.covered))
