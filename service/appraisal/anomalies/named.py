"""Named anomaly types: what clinicians would recognise. Kept out of training for the benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import cv2
import numpy as np

from service.appraisal.anomalies import anatomy
from service.appraisal.anomalies.change import Change, Field, Paint
from service.appraisal.anomalies.eyes import hypertelorism, strabismus
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
from service.appraisal.anomalies.lips import lt_v1, lt_v2
from service.appraisal.anomalies.palsy import palsy
from service.appraisal.anomalies.vascular import haemangioma

DROOP_SCALE = 0.20
PTOSIS_SCALE = 0.12
MICROGNATHIA_SCALE = 0.30
NEVUS_SCALE = 0.30  # diameter at severity 1
SCAR_SCALE = 0.60  # length at severity 1


def droop(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
    """Facial palsy: the commissure and the cheek beside it sink, on one side."""
    side = int(rng.integers(2))
    corner = canvas.landmarks[anatomy.COMMISSURES[side]]
    out = 1.0 if side else -1.0
    width = 0.26 * canvas.unit
    centre = corner + np.array([out * 0.05, -0.03], np.float32) * canvas.unit
    window = bell(canvas, centre, (width, 1.2 * width))
    plane = np.stack([window * 0.15 * out, -window], axis=-1)
    field, largest = scaled_to(plane, canvas, severity * DROOP_SCALE * canvas.unit)
    return Change(kind="droop", severity=severity, magnitude=largest / canvas.unit, displacement=field)


def ptosis(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
    """One upper lid hangs; the lower lid and the corners stay."""
    side = int(rng.integers(2))
    lid = canvas.landmarks[list(anatomy.UPPER_LIDS[side])]
    corners = canvas.landmarks[list(anatomy.EYE_CORNERS[side])]
    lower = canvas.landmarks[list(anatomy.LOWER_LIDS[side])]
    brow = canvas.landmarks[list(anatomy.BROWS[side])]
    anchors = np.concatenate([corners, lower, brow])
    down = np.zeros_like(lid)
    down[:, 1] = np.sin(np.linspace(0.15, 0.85, len(lid)) * np.pi) * 0.1 * canvas.unit
    plane = pull(
        canvas,
        np.concatenate([lid, anchors]),
        np.concatenate([down, np.zeros_like(anchors)]),
        0.10 * canvas.unit,
    )
    field, largest = scaled_to(plane, canvas, severity * PTOSIS_SCALE * canvas.unit)
    return Change(kind="ptosis", severity=severity, magnitude=largest / canvas.unit, displacement=field)


def micrognathia(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
    """A small lower jaw: chin and jaw line drawn up and in, on both sides."""
    chin = canvas.landmarks[anatomy.CHIN]
    mouth = canvas.landmarks[list(anatomy.COMMISSURES)].mean(axis=0)
    x, y = grid(canvas)
    below = np.clip((y - mouth[1]) / max(float(chin[1] - mouth[1]), 1.0), 0, 1.2)
    ramp = below**1.5
    side = np.exp(-0.5 * ((x - chin[0]) / (0.8 * canvas.unit)) ** 2)
    fade = np.exp(-0.5 * (np.maximum(y - chin[1], 0) / (0.35 * canvas.unit)) ** 2)
    window = ramp * side * fade
    narrowing = float(rng.uniform(0.2, 0.6))
    inward = (x - chin[0]) / canvas.unit
    plane = np.stack([window * narrowing * inward, window], axis=-1).astype(np.float32)
    field, largest = scaled_to(plane, canvas, severity * MICROGNATHIA_SCALE * canvas.unit)
    return Change(
        kind="micrognathia",
        severity=severity,
        magnitude=largest / canvas.unit,
        displacement=field,
    )


def _skin_site(canvas: Canvas, rng: np.random.Generator) -> Field:
    """A random place on the skin, within the oval and away from eyes, brows, nostrils and lips."""
    oval = canvas.landmarks[list(anatomy.OVAL)]
    centre = oval.mean(axis=0)
    taboo = canvas.landmarks[
        [
            *anatomy.LIPS,
            *anatomy.UPPER_LIDS[0],
            *anatomy.UPPER_LIDS[1],
            *anatomy.LOWER_LIDS[0],
            *anatomy.LOWER_LIDS[1],
            98,
            327,
            2,
        ]
    ]
    low, high = oval.min(axis=0), oval.max(axis=0)
    hull = (0.82 * (oval - centre) + centre).astype(np.float32)
    for _ in range(64):
        site = rng.uniform(low, high).astype(np.float32)
        inside = cv2.pointPolygonTest(hull, (float(site[0]), float(site[1])), False) > 0
        if inside and np.hypot(*(taboo - site).T).min() > 0.14 * canvas.unit:
            return np.asarray(site, dtype=np.float32)
    return np.asarray(canvas.landmarks[anatomy.CHEEKS[int(rng.integers(2))][0]], dtype=np.float32)


def _local_colour(canvas: Canvas, site: Field) -> Field:
    column, row = (round(float(v)) for v in site)
    reach = max(int(0.06 * canvas.unit), 1)
    patch = canvas.image[max(row - reach, 0) : row + reach, max(column - reach, 0) : column + reach]
    return np.asarray(patch.reshape(-1, 3).mean(axis=0), np.float32)


def nevus(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
    """A pigmented naevus with a soft, slightly irregular edge."""
    site = _skin_site(canvas, rng)
    radius = 0.5 * severity * NEVUS_SCALE * canvas.unit
    stretch = float(rng.uniform(0.75, 1.0))
    alpha = plateau(canvas, site, (radius, radius * stretch), float(rng.uniform(0, np.pi)), edge=0.35)
    speckle = rng.normal(0, 1, alpha.shape).astype(np.float32)
    speckle = cv2.GaussianBlur(speckle, (0, 0), 1.5) * 12
    pigment = _local_colour(canvas, site) * np.array([0.45, 0.32, 0.28], np.float32)
    colour = np.clip(pigment + speckle[..., None], 0, 255).astype(np.float32)
    return Change(
        kind="nevus",
        severity=severity,
        magnitude=2 * radius / canvas.unit,
        displacement=None,
        paint=Paint(alpha=enlarge(alpha * np.float32(0.85), canvas), colour=enlarge(colour, canvas)),
    )


def scar(canvas: Canvas, severity: float, rng: np.random.Generator) -> Change:
    """A linear scar: a pale or reddish bent line with a darker border."""
    site = _skin_site(canvas, rng)
    length = severity * SCAR_SCALE * canvas.unit
    angle = float(rng.uniform(0, np.pi))
    along = np.array([np.cos(angle), np.sin(angle)], np.float32)
    across = np.array([-along[1], along[0]], np.float32)
    steps = np.linspace(-0.5, 0.5, 24, dtype=np.float32)
    bend = float(rng.uniform(-0.15, 0.15)) * length
    line = site + steps[:, None] * length * along + (4 * steps[:, None] ** 2) * bend * across
    height, width = canvas.image.shape[:2]
    thickness = float(rng.uniform(0.02, 0.035)) * canvas.unit
    core = _stroke((height, width), line, thickness)
    border = _stroke((height, width), line, 2.2 * thickness)
    tint = (1.18, 1.02, 0.98) if rng.random() < 0.5 else (1.12, 0.78, 0.75)
    base = _local_colour(canvas, site)
    colour = core[..., None] * base * np.array(tint, np.float32) + (1 - core[..., None]) * (
        base * np.array([0.80, 0.66, 0.64], np.float32)
    )
    return Change(
        kind="scar",
        severity=severity,
        magnitude=length / canvas.unit,
        displacement=None,
        paint=Paint(
            alpha=(0.8 * np.maximum(core, 0.6 * border)).astype(np.float32),
            colour=np.clip(colour, 0, 255).astype(np.float32),
        ),
    )


def _stroke(shape: tuple[int, int], line: Field, thickness: float) -> Field:
    """An antialiased polyline, (H, W) float32, 0..1."""
    plane = np.zeros(shape, np.uint8)
    points = np.rint(line * 16).astype(np.int32)
    cv2.polylines(plane, [points], False, (255,), max(round(thickness), 1), cv2.LINE_AA, 4)
    blurred = cv2.GaussianBlur(plane, (0, 0), max(0.35 * thickness, 0.4))
    return np.asarray(blurred, np.float32) / np.float32(255)


NAMED: Mapping[str, Maker] = MappingProxyType(
    {
        "lt-v1": lt_v1,
        "droop": droop,
        "ptosis": ptosis,
        "micrognathia": micrognathia,
        "nevus": nevus,
        "scar": scar,
        "haemangioma": haemangioma,
        "hypertelorism": hypertelorism,
        "strabismus": strabismus,
        "palsy": palsy,
    }
)


def named_types(lip_shapes: Sequence[Field] = ()) -> Mapping[str, Maker]:
    """The named types that can be made: LT-v2 only where lip shapes are at hand."""
    return {**NAMED, "lt-v2": lt_v2(lip_shapes)} if lip_shapes else NAMED
