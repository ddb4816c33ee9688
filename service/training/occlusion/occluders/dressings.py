"""What a hospital puts on a face: tubes, tape, plasters, strips, masks, dummies."""

from __future__ import annotations

import cv2
import numpy as np

from service.training.occlusion.occluders.stage import (
    Cover,
    Field,
    Stage,
    any_colour,
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


def _strip(stage: Stage, middle: Field, length: float, width: float, angle: float) -> Field:
    """Corners of a rectangle with clipped corners, (8, 2) float32; lengths in pixels."""
    x, y = length / 2, width / 2
    cut = 0.25 * min(x, y)
    corners = np.array(
        [[-x + cut, -y], [x - cut, -y], [x, -y + cut], [x, y - cut], [x - cut, y], [-x + cut, y],
         [-x, y - cut],         [-x, -y + cut]]
    )  # fmt: skip
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.asarray(middle + corners @ turn, np.float32)


def _fabric(stage: Stage, rng: np.random.Generator, angle: float) -> Field:
    """Brightness of tape: weave, pores and creases, (S, S) float32 about 1."""
    x, y = grid(stage)
    along = np.cos(angle) * x + np.sin(angle) * y
    across = np.cos(angle) * y - np.sin(angle) * x
    period = float(rng.uniform(1.8, 4.0))
    weave = np.sin(2 * np.pi * along / period) * np.sin(2 * np.pi * across / period)
    creases = np.sin(along / float(rng.uniform(1.5, 5)) + 2 * noise(stage, rng, 5))
    return np.asarray(
        1
        + rng.uniform(0, 0.06) * weave
        + rng.uniform(0, 0.07) * creases
        + rng.uniform(0.01, 0.05) * noise(stage, rng, 80)
        + rng.uniform(0, 0.08) * noise(stage, rng, 6),
        np.float32,
    )


def _site(stage: Stage, rng: np.random.Generator) -> Field:
    """Somewhere on the face where dressings go: cheeks, lip, nose, brow, chin, (2,) float32."""
    point = int(rng.choice([50, 280, 205, 425, 0, 164, 164, 5, 195, 1, 9, 105, 334, 199, 187, 411, 118, 347]))
    return np.asarray(stage.landmarks[point] + rng.normal(0, 0.12, 2) * stage.unit, np.float32)


def _dressed(stage: Stage, mask: Field, rng: np.random.Generator, angle: float, clear: bool) -> Cover:
    """Tape of some material in the shape of a mask."""
    skin = stage.skin()
    paint = pick(rng, (242, 240, 236), (235, 226, 210), (222, 185, 150), (205, 165, 130), (190, 205, 225))
    texture = _fabric(stage, rng, angle)
    edge = np.clip(mask - np.asarray(cv2.erode(mask, np.ones((3, 3), np.uint8))), 0, 1)
    if clear:
        paint = np.asarray(0.45 * skin + 0.55 * np.array([245, 245, 245]), np.float32)
        gloss = np.clip(noise(stage, rng, 7), 0, 1.5) * rng.uniform(0, 0.25)
        opacity = np.float32(rng.uniform(0.3, 0.65)) + gloss + 0.3 * edge
    else:
        opacity = np.full_like(mask, rng.uniform(0.82, 1.0))
    colour = plain(stage, paint * light_of(stage), texture - np.float32(rng.uniform(0, 0.25)) * edge)
    alpha = np.clip(mask * opacity, 0, 1).astype(np.float32)
    return Cover(alpha=alpha, colour=colour, covered=mask, shade=shadow(stage, mask, rng, 0.02))


def tape(stage: Stage, rng: np.random.Generator) -> Cover:
    """One or more pieces of adhesive tape, opaque or clear."""
    angle = float(rng.normal(0, 0.5)) if rng.random() < 0.6 else float(rng.uniform(0, np.pi))
    pieces = [
        _strip(
            stage,
            _site(stage, rng),
            float(rng.uniform(0.45, 1.3)) * stage.unit,
            float(rng.uniform(0.16, 0.42)) * stage.unit,
            angle + float(rng.normal(0, 0.15)),
        )
        for _ in range(1 + int(rng.random() < 0.3))
    ]
    return _dressed(stage, polygon(stage, *pieces), rng, angle, clear=bool(rng.random() < 0.3))


def lip_tape(stage: Stage, rng: np.random.Generator) -> Cover:
    """Tape across the upper lip from cheek to cheek, as before and after the repair of a cleft."""
    points = stage.at(205, 164, 425) + rng.normal(0, 0.06, (3, 2)) * stage.unit
    points = points + np.array([0, float(rng.uniform(-0.05, 0.12)) * stage.unit])
    mask = stroke(stage, float(rng.uniform(0.14, 0.36)) * stage.unit, curve(points.astype(np.float32), 20))
    return _dressed(stage, mask, rng, 0.0, clear=bool(rng.random() < 0.25))


def strips(stage: Stage, rng: np.random.Generator) -> Cover:
    """Wound closure strips side by side."""
    angle = float(rng.uniform(0, np.pi))
    middle = _site(stage, rng)
    width = float(rng.uniform(0.07, 0.13)) * stage.unit
    step = np.array([-np.sin(angle), np.cos(angle)]) * width * float(rng.uniform(1.1, 1.5))
    count = int(rng.integers(2, 6))
    pieces = [
        _strip(
            stage,
            np.asarray(middle + (k - (count - 1) / 2) * step, np.float32),
            float(rng.uniform(0.4, 0.75)) * stage.unit,
            width,
            angle + float(rng.normal(0, 0.05)),
        )
        for k in range(count)
    ]
    mask = polygon(stage, *pieces)
    return _dressed(stage, mask, rng, angle, clear=False)


def plaster(stage: Stage, rng: np.random.Generator) -> Cover:
    """A plaster with its pad, skin-coloured or gaudy; a square dressing."""
    angle = float(rng.uniform(0, np.pi))
    length = float(rng.uniform(0.45, 0.95)) * stage.unit
    square = rng.random() < 0.3
    width = length * float(rng.uniform(0.8, 1.0) if square else rng.uniform(0.28, 0.42))
    middle = _site(stage, rng)
    mask = polygon(stage, closed(_strip(stage, middle, length, width, angle), 3))
    pad = polygon(stage, _strip(stage, middle, 0.4 * length, 0.75 * width, angle))
    skin = stage.skin()
    paint = pick(rng, (225, 185, 150), (205, 160, 120), (235, 225, 215), (240, 240, 240), (120, 80, 55))
    if rng.random() < 0.25:
        paint = any_colour(rng)
    if rng.random() < 0.2:
        paint = np.asarray(skin * rng.uniform(0.9, 1.15), np.float32)
    texture = _fabric(stage, rng, angle) * (1 + np.float32(rng.uniform(-0.1, 0.12)) * blurred(pad, 0.6))
    edge = mask - np.asarray(cv2.erode(mask, np.ones((3, 3), np.uint8)))
    colour = plain(stage, paint * light_of(stage), texture - 0.2 * edge)
    return Cover(alpha=mask, colour=colour, covered=mask, shade=shadow(stage, mask, rng, 0.03))


def _tube_paint(stage: Stage, rng: np.random.Generator, mask: Field, width: float) -> tuple[Field, Field]:
    """Opacity and colour of a tube, see-through or coloured, lit as a cylinder."""
    bulge = rounded(mask, width / 2)
    gleam = np.clip((bulge - 0.9) * 10, 0, 1) * rng.uniform(0, 0.5)
    paint = pick(
        rng, (235, 235, 230), (225, 215, 180), (200, 225, 190), (120, 190, 120), (225, 140, 70),
        (215, 190, 60),        (100, 150, 215), (240, 205, 195), (70, 160, 170),
    )  # fmt: skip
    colour = plain(stage, paint * light_of(stage), (0.15 + bulge + gleam).astype(np.float32))
    if rng.random() < 0.35:
        return np.asarray(mask * np.clip(1.35 - 0.9 * bulge + gleam, 0.3, 1), np.float32), colour
    return mask, colour


def nasal_tube(stage: Stage, rng: np.random.Generator) -> Cover:
    """A feeding or oxygen tube from a nostril over the cheek, with the tape that holds it."""
    side = int(rng.integers(2))
    out = 1.0 if side else -1.0
    nostril = stage.at(98, 327)[side]
    unit = stage.unit
    cheek = stage.at(205, 425)[side] + rng.normal(0, 0.15, 2) * unit
    ear = stage.at(234, 454)[side] + np.array([out * 0.2, rng.uniform(-0.2, 0.6)]) * unit
    up = rng.random() < 0.15  # over the nose to the forehead
    path = [nostril, nostril + np.array([out * 0.08, 0.12]) * unit, cheek, ear]
    if up:
        path = [
            nostril + np.array([0, 0.05]) * unit,
            stage.at(4)[0],
            stage.at(6)[0],
            stage.at(10)[0] - [0, 0.4 * unit],
        ]
    width = float(rng.uniform(0.05, 0.12)) * unit
    lines = [curve(np.array(path, np.float32))]
    if not up and rng.random() < 0.3:  # cannula: both sides
        mirror = [stage.at(327, 98)[side], stage.at(425, 205)[side], stage.at(454, 234)[side]]
        lines += [curve(np.array([nostril, stage.at(2)[0] + [0, 0.1 * unit], *mirror], np.float32))]
    tube = stroke(stage, width, *lines)
    alpha, colour = _tube_paint(stage, rng, tube, width)
    covered, shade = tube, shadow(stage, tube, rng, 0.05)
    if rng.random() < 0.75:
        at = lines[0][int(rng.integers(6, 30))]
        piece = _strip(stage, at, float(rng.uniform(0.3, 0.7)) * unit, float(rng.uniform(0.2, 0.4)) * unit,
                       float(rng.uniform(0, np.pi)))  # fmt: skip
        held = _dressed(stage, polygon(stage, piece), rng, 0.4, clear=bool(rng.random() < 0.4))
        ridge = 1 + np.float32(0.15) * (blurred(tube, 0.8) - 0.5) * (tube > 0)
        colour = colour + held.alpha[..., None] * (held.colour * ridge[..., None] - colour)
        alpha, covered = np.maximum(alpha, held.alpha), np.maximum(covered, held.covered)
    return Cover(alpha=alpha, colour=colour, covered=covered, shade=shade)


def mouth_tube(stage: Stage, rng: np.random.Generator) -> Cover:
    """A breathing tube in the mouth, with its holder or tape."""
    mouth = stage.at(13, 61, 291)[int(rng.integers(3))] + rng.normal(0, 0.05, 2) * stage.unit
    end = mouth + np.array([rng.normal(0, 0.8), rng.uniform(0.8, 2.0)]) * stage.unit
    middle = (mouth + end) / 2 + rng.normal(0, 0.15, 2) * stage.unit
    width = float(rng.uniform(0.1, 0.22)) * stage.unit
    tube = stroke(stage, width, curve(np.array([mouth, middle, end], np.float32), 20))
    alpha, colour = _tube_paint(stage, rng, tube, width)
    cover = Cover(alpha=alpha, colour=colour, covered=tube, shade=shadow(stage, tube, rng, 0.08))
    if rng.random() < 0.3:
        return cover
    held = lip_tape(stage, rng)
    return Cover(
        alpha=np.maximum(alpha, held.alpha),
        colour=np.asarray(np.where((tube > 0.5)[..., None], colour, held.colour), np.float32),
        covered=np.maximum(tube, held.covered),
        shade=cover.shade,
    )


def _mask_outline(stage: Stage, rng: np.random.Generator) -> Field:
    """Outline of a mask from the nose to under the chin; sometimes pulled below the nose."""
    top = stage.landmarks[int(rng.choice([6, 197, 195, 5, 5, 4, 2]))]
    left, right = stage.at(234, 454) if rng.random() < 0.7 else stage.at(93, 323)
    low_left, low_right = stage.at(172, 397)
    chin = stage.at(152)[0] + np.array([0, float(rng.uniform(-0.02, 0.25))]) * stage.unit
    side = float(rng.uniform(0.0, 0.35)) * stage.unit
    points = np.array(
        [
            np.add(left, [0.02 * stage.unit, side]),
            (left + top) / 2 + [0, float(rng.uniform(-0.02, 0.12)) * stage.unit],
            top,
            (right + top) / 2 + [0, float(rng.uniform(-0.02, 0.12)) * stage.unit],
            np.add(right, [-0.02 * stage.unit, side]),
            np.add(low_right, [0.05 * stage.unit, 0]),
            np.add(chin, [0.35 * stage.unit, 0]),
            chin - [0.35 * stage.unit, 0],
            low_left - [0.05 * stage.unit, 0],
        ],
        np.float32,
    )
    return closed(points + rng.normal(0, 0.02, points.shape).astype(np.float32) * stage.unit, 5)


def surgical_mask(stage: Stage, rng: np.random.Generator) -> Cover:
    """A face mask: pleated, moulded or of cloth, with its loops."""
    mask = polygon(stage, _mask_outline(stage, rng))
    x, y = grid(stage)
    nose = stage.at(4)[0]
    shading = 1 - 0.25 * ((x - nose[0]) / (1.4 * stage.unit)) ** 2 + 0.05 * noise(stage, rng, 4)
    if rng.random() < 0.6:  # pleats
        gap = float(rng.uniform(0.22, 0.4)) * stage.unit
        sag = 0.06 * (x - nose[0]) ** 2 / stage.unit
        phase = ((y + sag) / gap) % 1
        shading = shading * (1 - np.float32(rng.uniform(0.08, 0.3)) * np.exp(-((phase - 0.5) ** 2) / 0.008))
    elif rng.random() < 0.5:  # seam down the middle
        shading = shading * (1 - 0.2 * np.exp(-(((x - nose[0]) / (0.03 * stage.unit)) ** 2)))
    paint = pick(
        rng, (150, 195, 220), (165, 205, 215), (140, 200, 185), (238, 238, 238), (25, 25, 28),
        (225, 170, 190),        (60, 70, 110), (120, 120, 125),
    )  # fmt: skip
    colour = plain(stage, paint * light_of(stage), shading.astype(np.float32))
    if rng.random() < 0.2:  # printed cloth
        colour = colour + 45 * noise(stage, rng, float(rng.uniform(8, 30)))[..., None] * rng.normal(0, 1, 3)
    ears = stage.at(127, 356)
    corners = stage.at(234, 454)
    loops = [np.stack([corners[k], ears[k] + [(-1, 1)[k] * 0.1 * stage.unit, 0]]) for k in (0, 1)]
    body = mask
    if rng.random() < 0.6:
        body = np.maximum(mask, stroke(stage, 0.035 * stage.unit, *loops))
    edge = body - np.asarray(cv2.erode(body, np.ones((3, 3), np.uint8)))
    colour = colour * (1 - 0.15 * edge[..., None])
    return Cover(
        alpha=body,
        colour=np.clip(colour, 0, 255).astype(np.float32),
        covered=body,
        shade=shadow(stage, body, rng, 0.08),
    )


def oxygen_mask(stage: Stage, rng: np.random.Generator) -> Cover:
    """A clear breathing mask over nose and mouth."""
    top = stage.at(197)[0]
    chin = stage.at(199)[0] + np.array([0, float(rng.uniform(0, 0.2))]) * stage.unit
    wide = float(rng.uniform(0.55, 0.8)) * stage.unit
    mouth = stage.at(0)[0]
    points = np.array(
        [top, [mouth[0] + 0.75 * wide, (top[1] + mouth[1]) / 2], [mouth[0] + wide, mouth[1]],
         [mouth[0] + 0.7 * wide, chin[1]], [mouth[0] - 0.7 * wide, chin[1]], [mouth[0] - wide, mouth[1]],
         [mouth[0] - 0.75 * wide, (top[1] + mouth[1]) / 2]],
        np.float32,
    )  # fmt: skip
    outline = closed(points, 6)
    mask = polygon(stage, outline)
    rim = stroke(stage, float(rng.uniform(0.05, 0.1)) * stage.unit, np.concatenate([outline, outline[:2]]))
    gleam = np.clip(noise(stage, rng, 8) - 0.5, 0, 1)
    paint = pick(rng, (215, 230, 225), (170, 215, 190), (225, 232, 240), (190, 210, 225))
    colour = plain(stage, paint * light_of(stage), 1 + 0.25 * gleam - 0.15 * rim)
    alpha = np.clip(mask * (rng.uniform(0.15, 0.45) + 0.5 * gleam) + 0.6 * rim, 0, 0.95)
    body = np.maximum(mask, rim)
    if rng.random() < 0.5:
        port = stroke(stage, 0.3 * stage.unit, np.stack([mouth, np.add(mouth, 0.1)]).astype(np.float32))
        alpha = np.maximum(alpha, port * 0.9)
        colour = colour * (1 - 0.3 * blurred(port, 2)[..., None])
    return Cover(alpha=alpha.astype(np.float32), colour=colour.astype(np.float32), covered=body)


def dummy(stage: Stage, rng: np.random.Generator) -> Cover:
    """A baby's dummy: shield over the mouth, button and ring."""
    mouth = stage.at(13)[0] + rng.normal(0, 0.05, 2) * stage.unit
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    wings = 1 + float(rng.uniform(0, 0.2)) * np.cos(2 * turn)
    radius = np.array([rng.uniform(0.38, 0.62), rng.uniform(0.3, 0.45)]) * stage.unit
    shield = polygon(
        stage,
        (mouth + np.stack([np.cos(turn), np.sin(turn)], -1) * wings[:, None] * radius).astype(np.float32),
    )
    button = polygon(
        stage, (mouth + np.stack([np.cos(turn), np.sin(turn)], -1) * 0.16 * stage.unit).astype(np.float32)
    )
    ring = stroke(
        stage,
        0.06 * stage.unit,
        (
            mouth + [0, 0.2 * stage.unit] + np.stack([np.cos(turn), np.sin(turn)], -1) * 0.22 * stage.unit
        ).astype(np.float32),
    )
    first, second = any_colour(rng), any_colour(rng)
    bulge = rounded(shield, 0.2 * stage.unit) * light_of(stage)
    colour = plain(stage, first, np.asarray(bulge, np.float32))
    front = np.maximum(button, ring)
    colour = colour + front[..., None] * (plain(stage, second, rounded(front, 0.06 * stage.unit)) - colour)
    body = np.maximum(shield, front)
    return Cover(
        alpha=body, colour=colour.astype(np.float32), covered=body, shade=shadow(stage, body, rng, 0.08)
    )
