"""The broad random family: anomalies of no particular name, for training.

None of the makers aims at a named type: sites, directions, widths and colours are drawn at random
over the face, with more sites where the face has more structure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import cv2
import numpy as np
import numpy.typing as npt

from service.appraisal.anomalies import anatomy
from service.appraisal.anomalies.change import Change, Field, Paint
from service.appraisal.anomalies.fields import (
    Canvas,
    Maker,
    bell,
    enlarge,
    grid,
    plateau,
    pull,
    scaled_to,
)
from service.appraisal.anomalies.vascular import mottled, reddened

MOVE_SCALE = 0.20  # displacement at severity 1, inter-ocular distances
LEVEL_SCALE = 0.30  # the same of a whole storey, which shows less
PAINT_SCALE = 0.40  # diameter at severity 1
TINT_SCALE = 1.2  # the same of a patch of another hue
_TOUCHING = 0.025  # inter-ocular distances; landmarks nearer to one that moves go with it
_STILL = 24  # landmarks of edges that stay, at most

_PARTS: tuple[tuple[int, ...], ...] = (
    anatomy.LIPS,
    anatomy.LIPS,
    anatomy.UPPER_LIP_OUTER,
    (*anatomy.UPPER_LIDS[0], *anatomy.LOWER_LIDS[0], *anatomy.EYE_CORNERS[0]),
    (*anatomy.UPPER_LIDS[1], *anatomy.LOWER_LIDS[1], *anatomy.EYE_CORNERS[1]),
    (*anatomy.BROWS[0], *anatomy.BROWS[1]),
    anatomy.NOSE,
    anatomy.NOSE_BASE,
    (*anatomy.JAW, *anatomy.JAW_RIGHT),
    (*anatomy.CHEEKS[0], *anatomy.CHEEKS[1]),
    tuple(range(468)),
)

# Edges along which an opening of the face ends; one of them may move while the others stay.
_EDGES: tuple[tuple[int, ...], ...] = (
    anatomy.UPPER_LIP_OUTER,
    anatomy.UPPER_LIP_INNER,
    tuple(sorted({*anatomy.UPPER_LIP_OUTER, *anatomy.UPPER_LIP_INNER})),
    tuple(sorted({*anatomy.LOWER_LIP_OUTER, *anatomy.LOWER_LIP_INNER})),
    *anatomy.UPPER_LIDS,
    *anatomy.LOWER_LIDS,
    *anatomy.BROWS,
    anatomy.NOSE_BASE,
)
_ON_EDGES = np.unique([*anatomy.LIPS, *sum(_EDGES, ()), *sum(anatomy.EYE_CORNERS, ())])


def _direction(rng: np.random.Generator) -> Field:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)], np.float32)


def _site(canvas: Canvas, rng: np.random.Generator, spread: float = 0.06) -> Field:
    part = _PARTS[int(rng.integers(len(_PARTS)))]
    point = canvas.landmarks[part[int(rng.integers(len(part)))]]
    return np.asarray(point + rng.normal(0, spread * canvas.unit, 2), dtype=np.float32)


def _width(canvas: Canvas, rng: np.random.Generator, low: float = 0.07, high: float = 0.4) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high)))) * canvas.unit


def _mirrored(canvas: Canvas, plane: Field, rng: np.random.Generator) -> Field:
    """Sometimes make the field the same on both sides, as in a symmetric anomaly."""
    if rng.random() > 0.2:
        return plane
    point, down = anatomy.midline(canvas.landmarks)
    height, width = plane.shape[:2]
    x, y = grid(canvas)
    across = np.array([down[1], -down[0]], np.float32)
    offset = (x - point[0]) * across[0] + (y - point[1]) * across[1]
    mx, my = x - 2 * offset * across[0], y - 2 * offset * across[1]
    step = canvas.image.shape[1] / width
    other = cv2.remap(plane, (mx / step).astype(np.float32), (my / step).astype(np.float32), 1)
    reflect = np.eye(2, dtype=np.float32) - 2 * np.outer(across, across).astype(np.float32)
    return np.asarray(plane + other @ reflect.T, np.float32).reshape(height, width, 2)


def _moved(  # noqa: PLR0917
    canvas: Canvas,
    kind: str,
    severity: float,
    plane: Field,
    rng: np.random.Generator,
    scale: float = MOVE_SCALE,
) -> Change:
    both = _mirrored(canvas, plane, rng)
    field, largest = scaled_to(both, canvas, severity * scale * canvas.unit)
    return Change(kind=kind, severity=severity, magnitude=largest / canvas.unit, displacement=field)


def bumps(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
    """One to four smooth displacements near one place."""
    site = _site(canvas, rng)
    plane = np.zeros((*grid(canvas)[0].shape, 2), np.float32)
    for number in range(int(rng.integers(1, 4))):
        width = _width(canvas, rng)
        where = site if number == 0 else site + rng.normal(0, 0.2 * canvas.unit, 2)
        shape = bell(
            canvas,
            np.asarray(where, np.float32),
            (width, width * float(rng.uniform(0.5, 1.6))),
            float(rng.uniform(0, np.pi)),
        )
        plane += shape[..., None] * _direction(rng) * np.float32(rng.uniform(0.4, 1.0))
    return _moved(canvas, "random-bumps", severity, plane, rng)


def ripple(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
    """A smooth random field seen through a soft window."""
    shape = grid(canvas)[0].shape
    cells = int(rng.integers(4, 12))
    noise = rng.normal(0, 1, (cells, cells, 2)).astype(np.float32)
    smooth = cv2.resize(noise, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    width = _width(canvas, rng, 0.15, 0.5)
    window = bell(canvas, _site(canvas, rng), (width, width))
    return _moved(canvas, "random-ripple", severity, smooth * window[..., None], rng)


def swelling(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
    """Local growth or shrinking, more along one axis than the other."""
    site = _site(canvas, rng)
    width = _width(canvas, rng, 0.1, 0.45)
    x, y = grid(canvas)
    out = np.stack([x - site[0], y - site[1]], axis=-1) / width
    out[..., 0] *= np.float32(rng.uniform(0, 1))
    out[..., 1] *= np.float32(rng.uniform(0, 1))
    sign = np.float32(rng.choice([-1.0, 1.0]))
    window = bell(canvas, site, (width, width * float(rng.uniform(0.6, 1.5))))
    return _moved(canvas, "random-swelling", severity, sign * out * window[..., None], rng)


def twist(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
    """Local rotation or shear."""
    site = _site(canvas, rng)
    width = _width(canvas, rng, 0.1, 0.4)
    x, y = grid(canvas)
    matrix = rng.normal(0, 1, (2, 2)).astype(np.float32)
    if rng.random() < 0.5:
        matrix = np.array([[0, -1], [1, 0]], np.float32)
    out = np.stack([x - site[0], y - site[1]], axis=-1) / width
    window = bell(canvas, site, (width, width))
    return _moved(canvas, "random-twist", severity, (out @ matrix.T) * window[..., None], rng)


def contour(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
    """Some landmarks of a part wander, together or each its own way, and take what is around them along."""
    part = np.array(_PARTS[int(rng.integers(len(_PARTS)))])
    count = min(int(rng.integers(1, 9)), len(part))
    points = canvas.landmarks[_nearest(canvas, part, count, rng)]
    common = _direction(rng) * np.float32(rng.uniform(0, 1))
    moves = common + 0.5 * rng.normal(0, 1, (count, 2)).astype(np.float32)
    apart = _distance(canvas, points)
    reach = _width(canvas, rng, 0.1, 0.4)
    ring = np.flatnonzero((apart > reach) & (apart < 1.8 * reach))
    anchors = canvas.landmarks[rng.choice(ring, min(len(ring), 14), replace=False)]
    plane = _pulled(canvas, points, moves, anchors, float(rng.uniform(0.5, 1.0)) * reach)
    return _moved(canvas, "random-contour", severity, plane, rng)


def edge(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
    """Part of an edge moves, most in its middle; what is left of it and the edges beside it stay."""
    whole = np.array(_EDGES[int(rng.integers(len(_EDGES)))])
    chosen = _nearest(canvas, whole, int(rng.integers(1, len(whole) + 1)), rng)
    points = canvas.landmarks[chosen]
    away = np.hypot(*(points - points.mean(axis=0)).T)
    most = np.cos(away / max(float(away.max()), 1.0) * rng.uniform(0.2, 1.3))[:, None]
    moves = most * _direction(rng) + rng.uniform(0, 0.5) * rng.normal(0, 1, points.shape)
    apart = _distance(canvas, points)
    still = np.setdiff1d(_ON_EDGES, chosen)
    still = still[np.argsort(apart[still])][:_STILL]
    anchors = canvas.landmarks[still[apart[still] > _TOUCHING * canvas.unit]]
    width = float(rng.uniform(0.07, 0.18)) * canvas.unit
    plane = _pulled(canvas, points, moves.astype(np.float32), anchors, width)
    return _moved(canvas, "random-edge", severity, plane, rng)


def _nearest(
    canvas: Canvas, part: npt.NDArray[np.intp], count: int, rng: np.random.Generator
) -> npt.NDArray[np.intp]:
    """So many landmarks of a part that lie together."""
    seed = canvas.landmarks[part[int(rng.integers(len(part)))]]
    near = np.argsort(((canvas.landmarks[part] - seed) ** 2).sum(axis=1))[:count]
    return np.asarray(part[near], np.intp)


def _distance(canvas: Canvas, points: Field) -> Field:
    """How far each landmark of the mesh lies from the nearest of some points, (468,) pixels."""
    apart = ((canvas.landmarks[:468, None] - points[None]) ** 2).sum(-1).min(axis=1)
    return np.asarray(np.sqrt(apart), np.float32)


def _pulled(canvas: Canvas, points: Field, moves: Field, anchors: Field, width: float) -> Field:
    return pull(
        canvas,
        np.concatenate([points, anchors]),
        np.concatenate([0.1 * canvas.unit * moves, np.zeros_like(anchors)]),
        width,
    )


def side(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
    """A large part of one side of the face is scaled, sheared or shifted."""
    point, _ = anatomy.midline(canvas.landmarks)
    x, y = grid(canvas)
    sign = float(rng.choice([-1.0, 1.0]))
    ramp = np.clip(sign * (x - point[0]) / canvas.unit, 0, 1.5)
    level = float(rng.uniform(0.2, 0.9)) * canvas.image.shape[0]
    ramp = ramp * np.exp(-0.5 * ((y - level) / (rng.uniform(0.3, 0.9) * canvas.unit)) ** 2)
    heading = np.array([rng.choice([-1.0, 1.0]), 0], np.float32) if rng.random() < 0.5 else _direction(rng)
    plane = ramp[..., None].astype(np.float32) * heading
    return _moved(canvas, "random-side", severity, plane, rng)


def level(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
    """A storey of the face, above or below some height, grows, shrinks, widens, narrows or shifts."""
    point, _ = anatomy.midline(canvas.landmarks)
    x, y = grid(canvas)
    height = float(rng.uniform(0.3, 0.9)) * canvas.image.shape[0]
    sign = float(rng.choice([-1.0, 1.0]))
    ramp = np.clip(sign * (y - height) / canvas.unit, 0, 1.5) ** np.float32(rng.uniform(0.8, 1.8))
    if rng.random() < 0.5:  # ends again, beyond a storey's height
        beyond = np.maximum(sign * (y - height) / canvas.unit - float(rng.uniform(0.4, 1.2)), 0)
        ramp = ramp * np.exp(-0.5 * (beyond / 0.4) ** 2)
    ramp = ramp * np.exp(-0.5 * ((x - point[0]) / (rng.uniform(0.4, 0.9) * canvas.unit)) ** 2)
    heading = np.array([0, rng.choice([-1.0, 1.0])], np.float32) if rng.random() < 0.5 else _direction(rng)
    plane = ramp[..., None] * heading
    if rng.random() < 0.5:
        plane[..., 0] += ramp * np.float32(rng.uniform(-0.8, 0.8)) * (x - point[0]) / canvas.unit
    return _moved(canvas, "random-level", severity, plane.astype(np.float32), rng, LEVEL_SCALE)


def _painted(  # noqa: PLR0917
    canvas: Canvas, kind: str, severity: float, alpha: Field, colour: Field, diameter: float
) -> Change:
    return Change(
        kind=kind,
        severity=severity,
        magnitude=diameter / canvas.unit,
        displacement=None,
        paint=Paint(
            alpha=np.ascontiguousarray(alpha, np.float32),
            colour=np.clip(colour, 0, 255).astype(np.float32),
        ),
    )


def _disc(canvas: Canvas, severity: float, rng: np.random.Generator) -> tuple[Field, float]:
    """A soft, irregular patch at a random place, (H, W) 0..1, and its diameter in pixels."""
    radius = 0.5 * severity * PAINT_SCALE * canvas.unit * float(rng.uniform(0.6, 1.0))
    disc = plateau(
        canvas,
        _site(canvas, rng, 0.2),
        (radius, radius * float(rng.uniform(0.4, 1.0))),
        float(rng.uniform(0, np.pi)),
        edge=float(rng.uniform(0.15, 1.2)),
    )
    if rng.random() < 0.4:
        noise = rng.normal(0.6, 0.5, (16, 16)).astype(np.float32)
        disc = disc * np.clip(cv2.resize(noise, disc.shape[::-1], interpolation=2), 0.1, 1)
    return enlarge(disc, canvas), 2 * radius


def blob(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
    """A patch of another colour: darker, lighter, redder, bluer."""
    alpha, diameter = _disc(canvas, severity, rng)
    depth = np.exp(rng.uniform(-1.0, -0.2) if rng.random() < 0.7 else rng.uniform(0.15, 0.5))
    tint = (depth * np.exp(rng.normal(0, 0.12, 3))).astype(np.float32)
    base = cv2.GaussianBlur(canvas.image, (0, 0), 3).astype(np.float32)
    opacity = np.float32(rng.uniform(0.4, 1.0))
    return _painted(canvas, "random-blob", severity, alpha * opacity, base * tint, diameter)


def tint(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
    """A patch of another hue and of next to the same lightness, from a spot to half of a cheek."""
    wide = TINT_SCALE / PAINT_SCALE if rng.random() < 0.6 else 1.0
    alpha, diameter = _disc(canvas, wide * severity, rng)
    angle = rng.uniform(-0.9, 0.9) if rng.random() < 0.7 else rng.uniform(0, 2 * np.pi)
    depth = float(rng.uniform(8, 30))
    lightness = float(rng.uniform(-5, 3))
    colour = reddened(canvas, depth * float(np.cos(angle)), lightness, depth * float(np.sin(angle)))
    opacity = mottled(alpha.shape, rng, float(rng.uniform(0.5, 1)))
    return _painted(canvas, "random-tint", severity, alpha * opacity, colour, diameter)


def texture(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
    """A patch of rougher, or smoother, skin."""
    alpha, diameter = _disc(canvas, min(1.0, 1.4 * severity), rng)
    image = canvas.image.astype(np.float32)
    if rng.random() < 0.4:
        colour = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(1.5, 4))), dtype=np.float32)
    else:
        grain = rng.normal(0, 1, image.shape[:2]).astype(np.float32)
        grain = np.asarray(cv2.GaussianBlur(grain, (0, 0), float(rng.uniform(0.7, 3))), dtype=np.float32)
        colour = image + (grain / grain.std() * rng.uniform(8, 25))[..., None]
    return _painted(canvas, "random-texture", severity, alpha, colour, diameter)


def line(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
    """One or two bent lines, darker or lighter than the skin."""
    strokes, length = _strokes(canvas, severity, rng)
    thickness = float(rng.uniform(0.012, 0.05)) * canvas.unit
    alpha = _drawn(canvas, strokes, thickness, float(rng.uniform(0.4, 1.5)))
    base = cv2.GaussianBlur(canvas.image, (0, 0), 2).astype(np.float32)
    opacity = np.float32(rng.uniform(0.4, 1.0))
    return _painted(canvas, "random-line", severity, alpha * opacity, base * _tint(rng), length)


def seam(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
    """A bent line in an edge of another colour."""
    strokes, length = _strokes(canvas, severity, rng)
    thickness = float(rng.uniform(0.012, 0.05)) * canvas.unit
    soft = float(rng.uniform(0.4, 1.5))
    core = _drawn(canvas, strokes[:1], thickness, soft)
    wide = _drawn(canvas, strokes[:1], float(rng.uniform(1.5, 3.0)) * thickness, 1.5 * soft)
    base = cv2.GaussianBlur(canvas.image, (0, 0), 2).astype(np.float32)
    colour = core[..., None] * base * _tint(rng) + (1 - core[..., None]) * base * _tint(rng)
    alpha = np.maximum(core, np.float32(rng.uniform(0.4, 1.0)) * wide) * np.float32(rng.uniform(0.4, 1.0))
    return _painted(canvas, "random-seam", severity, alpha, colour, length)


def _strokes(canvas: Canvas, severity: float, rng: np.random.Generator) -> tuple[list[Field], float]:
    """One or two bent lines about one place, each (12, 2) float32, pixels, and their length in pixels."""
    site, heading = _site(canvas, rng, 0.15), float(rng.uniform(0, 2 * np.pi))
    length = severity * 0.8 * canvas.unit * float(rng.uniform(0.5, 1))
    strokes = []
    for _ in range(int(rng.integers(1, 3))):
        turns = heading + np.cumsum(rng.normal(0, 0.15, 12)) + rng.uniform(-0.5, 0.5)
        steps = np.stack([np.cos(turns), np.sin(turns)], axis=-1) * length / 12
        strokes.append((site + np.cumsum(steps, axis=0) - steps.sum(axis=0) / 2).astype(np.float32))
    return strokes, length


def _drawn(canvas: Canvas, strokes: Sequence[Field], thickness: float, soft: float) -> Field:
    """Polylines with soft edges, (H, W) float32, 0..1."""
    plane = np.zeros(canvas.image.shape[:2], np.uint8)
    for points in strokes:
        fixed = np.rint(points * 16).astype(np.int32)
        cv2.polylines(plane, [fixed], False, (255,), max(round(thickness), 1), cv2.LINE_AA, 4)
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), soft), np.float32) / np.float32(255)


def _tint(rng: np.random.Generator) -> Field:
    """A colour relative to the skin's, (3,) float32."""
    depth = np.exp(rng.uniform(-0.9, -0.12) if rng.random() < 0.6 else rng.uniform(0.1, 0.5))
    return np.asarray(depth * np.exp(rng.normal(0, 0.12, 3)), np.float32)


def swap(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
    """A patch copied from another place of the same face."""
    alpha, diameter = _disc(canvas, severity, rng)
    shift = _direction(rng) * np.float32(rng.uniform(0.15, 0.6)) * canvas.unit
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    size = (canvas.image.shape[1], canvas.image.shape[0])
    moved = cv2.warpAffine(canvas.image, matrix, size, borderMode=cv2.BORDER_REFLECT_101)
    return _painted(canvas, "random-swap", severity, alpha, moved.astype(np.float32), diameter)


def both(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
    """A displacement with a change of colour."""
    moved = bumps(canvas, severity, rng)
    painted = (blob if rng.random() < 0.5 else line)(canvas, 0.6 * severity, rng)
    return Change(
        kind="random-both",
        severity=severity,
        magnitude=moved.magnitude,
        displacement=moved.displacement,
        paint=painted.paint,
    )


RANDOM: Mapping[str, Maker] = MappingProxyType(
    {
        "random-bumps": bumps,
        "random-ripple": ripple,
        "random-swelling": swelling,
        "random-twist": twist,
        "random-contour": contour,
        "random-edge": edge,
        "random-side": side,
        "random-level": level,
        "random-blob": blob,
        "random-tint": tint,
        "random-texture": texture,
        "random-line": line,
        "random-seam": seam,
        "random-swap": swap,
        "random-both": both,
    }
)
