"""Calibration of the default method on faces kept out of training, with the random family only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from service.appraisal.alignment import AlignedFace, align
from service.appraisal.anomalies import Canvas, Maker, inter_ocular_distance, render
from service.appraisal.anomaly_network import INPUT_SIZE
from service.appraisal.face import FaceFinder
from service.appraisal.fusion import FEATURES, FaceReading, Fusion, mesh_measures, planes
from service.appraisal.localisation import face_reading
from service.appraisal.photograph import photograph_from_rgb
from service.appraisal.reading import NetworkReader
from service.training import augmentation
from service.training.examples import make_change
from service.training.faces import FacePool, NormalFace

SHAMS = 3  # of each face, under different light, camera and placement
ANOMALIES = 5  # of each face
_SMOOTH_CELLS = 2.0
_RIDGE = 0.005


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One reading with what is known of the image."""

    seen: FaceReading
    severity: float  # 0 for a sham
    kind: str  # "sham" or the anomaly type


def collect(
    pool: FacePool,
    makers: Mapping[str, Maker],
    reader: NetworkReader,
    finder: FaceFinder,
    *,
    faces: int,
    seed: int,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> list[Sample]:
    """Read shams and random anomalies of the pool's faces.

    Args:
        pool: calibration faces.
        makers: anomaly types.
        reader: the trained network.
        finder: finds the mesh, as in the product.
        faces: how many faces at most.
        seed: of all chance.
        tell: told how many of how many faces are done.
    """
    rng = np.random.default_rng(seed)
    chosen = np.linspace(0, len(pool) - 1, min(faces, len(pool))).astype(int)
    samples: list[Sample] = []
    for done, number in enumerate(chosen):
        face = pool.face(int(number), INPUT_SIZE)
        samples.extend(_samples(face, makers, reader, finder, rng))
        tell(done + 1, len(chosen))
    return samples


def _samples(
    face: NormalFace,
    makers: Mapping[str, Maker],
    reader: NetworkReader,
    finder: FaceFinder,
    rng: np.random.Generator,
) -> list[Sample]:
    unit = inter_ocular_distance(face.landmarks)
    canvas = Canvas(image=face.image, landmarks=face.landmarks, unit=unit)
    faces: list[AlignedFace] = []
    truths: list[tuple[float, str]] = []
    for severity in [0.0] * SHAMS + [float(rng.uniform(0.15, 1.0)) for _ in range(ANOMALIES)]:
        change = make_change(canvas, makers, severity, rng)[0] if severity else None
        shift = rng.uniform(-0.5, 0.5, 2)
        place = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
        image = augmentation.light(render(face.image, change, place).image, rng)
        if rng.random() < 0.6:
            image = augmentation.camera(image, rng)
        found = finder.find(image)
        if len(found) == 1:
            faces.append(align(photograph_from_rgb(image), found[0], INPUT_SIZE))
            truths.append((severity, change.kind if change else "sham"))
    return [
        Sample(seen=face_reading(aligned, reading), severity=severity, kind=kind)
        for reading, aligned, (severity, kind) in zip(reader.read(faces), faces, truths, strict=True)
    ]


def fit(samples: Sequence[Sample]) -> Fusion:
    """Fit what is usual at each place, and the weights of the evidence.

    Args:
        samples: shams and anomalies of faces kept out of training.
    """
    shams = [s.seen for s in samples if s.severity == 0]
    local = np.stack([planes(seen.reading) for seen in shams])
    local = np.concatenate([local, local[..., ::-1]])
    mean = np.stack([cv2.GaussianBlur(plane, (0, 0), _SMOOTH_CELLS) for plane in local.mean(axis=0)])
    spread = np.stack([cv2.GaussianBlur(plane, (0, 0), _SMOOTH_CELLS) for plane in local.var(axis=0)])
    deviation = np.sqrt(spread + 0.05 * spread.mean(axis=(1, 2), keepdims=True) + 1e-6)
    odd = np.stack([mesh_measures(seen) for seen in shams])
    draft = Fusion(
        mean=np.asarray(mean, np.float32),
        deviation=np.asarray(deviation, np.float32),
        mesh_mean=odd.mean(axis=0),
        mesh_deviation=odd.std(axis=0) + 1e-6,
        weights=np.zeros(len(FEATURES)),
        bias=0.0,
    )
    table = np.stack([draft.features(s.seen) for s in samples])
    present = np.array([s.severity > 0 for s in samples])
    importance = np.array([1.0 if s.severity == 0 else 0.5 + s.severity for s in samples])
    importance[present] *= importance[~present].sum() / importance[present].sum()
    centre, scale = table.mean(axis=0), table.std(axis=0) + 1e-9
    slopes, offset = _monotone_logistic((table - centre) / scale, present, importance)
    weights = slopes / scale
    return replace(draft, weights=weights, bias=offset - float(weights @ centre))


def _monotone_logistic(
    table: NDArray[np.float64], present: NDArray[np.bool_], importance: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Logistic regression with weights >= 0: no evidence may speak for normality."""
    sign = np.where(present, 1.0, -1.0)
    share = importance / importance.sum()

    def loss(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin = sign * (table @ x[:-1] + x[-1])
        value = float((share * np.logaddexp(0, -margin)).sum() + _RIDGE * (x[:-1] ** 2).sum())
        pull = -share * sign / (1 + np.exp(margin))
        return value, np.append(table.T @ pull + 2 * _RIDGE * x[:-1], pull.sum())

    bounds = [(0.0, None)] * table.shape[1] + [(None, None)]
    start = np.append(np.full(table.shape[1], 0.1), 0.0)
    found = optimize.minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B")
    return np.asarray(found.x[:-1]), float(found.x[-1])
