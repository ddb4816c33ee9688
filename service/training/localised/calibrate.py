"""Calibration of the default method on faces kept out of training, with the random family only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from service.appraisal.anomalies import Canvas, Maker, forward_points, inter_ocular_distance, render
from service.appraisal.face.alignment import AlignedFace, align
from service.appraisal.face.finder import FaceFinder
from service.appraisal.methods.localised.counterpart.drawing import ExpectedFace
from service.appraisal.methods.localised.explicit import ExplicitMeasures
from service.appraisal.methods.localised.fusion import (
    FEATURES,
    FaceReading,
    Fusion,
    close_features,
    oddities,
    planes,
)
from service.appraisal.methods.localised.localisation import face_reading
from service.appraisal.methods.localised.reading import NetworkReader
from service.appraisal.methods.localised.shape import MEASURES, PART_MEASURES, PART_POINTS, Part, Shape
from service.appraisal.methods.localised.views import CLOSE_UP, INPUT_SIZE, LANDMARKS
from service.appraisal.photograph.decode import photograph_from_rgb
from service.training.faces import FacePool, NormalFace
from service.training.localised import augmentation
from service.training.localised.examples import make_change
from service.training.localised.explicit import usual

SHAMS = 3  # of each face, under different light, camera and placement
ANOMALIES = 5  # of each face
_SMOOTH_CELLS = 2.0
_RIDGE = 0.005
_DISPLACED = 2.0  # standard deviations a measure must have been moved for its part to be displaced
_DISPLACED_SHARE = 0.01  # of the side a point must have been moved to be displaced
_FEWEST_DISPLACED = 5  # samples to learn from what a displaced part looks like
_SILENT = -20.0  # log likelihood ratio of a part nothing is known of


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One reading with what is known of the image."""

    seen: FaceReading
    severity: float  # 0 for a sham
    kind: str  # "sham" or the anomaly type
    moved: NDArray[np.float32]  # (len(LANDMARKS), 2) float32, true displacement, fractions of the square
    face: int = 0  # number of the face it was made of


def collect(
    pool: FacePool,
    makers: Mapping[str, Maker],
    reader: NetworkReader,
    finder: FaceFinder,
    expected: ExpectedFace,
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
        expected: what to expect of a face, by which redness is told.
        faces: how many faces at most.
        seed: of all chance.
        tell: told how many of how many faces are done.
    """
    rng = np.random.default_rng(seed)
    chosen = np.linspace(0, len(pool) - 1, min(faces, len(pool))).astype(int)
    samples: list[Sample] = []
    for done, number in enumerate(chosen):
        face = pool.face(int(number), INPUT_SIZE)
        made = _samples(face, makers, reader, finder, expected, rng)
        samples.extend(replace(sample, face=done) for sample in made)
        tell(done + 1, len(chosen))
    return samples


def _samples(  # noqa: PLR0917
    face: NormalFace,
    makers: Mapping[str, Maker],
    reader: NetworkReader,
    finder: FaceFinder,
    expected: ExpectedFace,
    rng: np.random.Generator,
) -> list[Sample]:
    unit = inter_ocular_distance(face.landmarks)
    canvas = Canvas(image=face.image, landmarks=face.landmarks, unit=unit)
    faces: list[AlignedFace] = []
    truths: list[tuple[float, str, NDArray[np.float32]]] = []
    points = face.landmarks[list(LANDMARKS)].astype(np.float32)
    for severity in [0.0] * SHAMS + [float(rng.uniform(0.15, 1.0)) for _ in range(ANOMALIES)]:
        change = make_change(canvas, makers, severity, rng)[0] if severity else None
        shift = rng.uniform(-0.5, 0.5, 2)
        place = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
        rendered = render(face.image, change, place)
        image = augmentation.light(rendered.image, rng)
        if rng.random() < 0.6:
            image = augmentation.camera(image, rng)
        found = finder.find(image)
        if len(found) == 1:
            faces.append(align(photograph_from_rgb(image), found[0], INPUT_SIZE, fine=True))
            moved = (forward_points(points, rendered.displacement) - points) / INPUT_SIZE
            truths.append((severity, change.kind if change else "sham", moved))
    return [
        Sample(
            seen=face_reading(aligned, reading, expected.redness(aligned, reading)),
            severity=severity,
            kind=kind,
            moved=moved,
        )
        for reading, aligned, (severity, kind, moved) in zip(reader.read(faces), faces, truths, strict=True)
    ]


def fit(
    samples: Sequence[Sample], shape: Shape, explicit: ExplicitMeasures, known: Fusion | None = None
) -> Fusion:
    """Fit what is usual at each place and of each measure, and the weights of the evidence.

    Args:
        samples: shams and anomalies of faces kept out of training.
        shape: predictions of the measures; how much normal faces differ from them is found anew here,
            on the landmarks the network finds.
        explicit: measures; what is usual of them is found anew here.
        known: an earlier fusion to take the parts' weights from, where samples are few; they are per
            standard deviation, so they hold for other normal faces.
    """
    shams = [s.seen for s in samples if s.severity == 0]
    local = np.stack([planes(seen.reading) for seen in shams])
    local = np.concatenate([local, local[..., ::-1]])
    mean = np.stack([cv2.GaussianBlur(plane, (0, 0), _SMOOTH_CELLS) for plane in local.mean(axis=0)])
    spread = np.stack([cv2.GaussianBlur(plane, (0, 0), _SMOOTH_CELLS) for plane in local.var(axis=0)])
    deviation = np.sqrt(spread + 0.05 * spread.mean(axis=(1, 2), keepdims=True) + 1e-6)
    draft = Fusion(
        mean=np.asarray(mean, np.float32),
        deviation=np.asarray(deviation, np.float32),
        shape=_usual(shape, shams),
        weights=np.zeros(len(FEATURES)),
        bias=0.0,
        close_weights=np.zeros(2),
        close_bias=0.0,
        measure_weights=np.zeros(len(MEASURES)),
        part_biases=np.zeros(len(Part)),
        explicit=usual(explicit, shams),
    )
    weights, bias = _picture(draft, samples)
    close_weights, close_bias = _close_up(samples)
    measures, biases = (
        _parts(draft.shape, samples) if known is None else (known.measure_weights, known.part_biases)
    )
    return replace(
        draft,
        weights=weights,
        bias=bias,
        close_weights=close_weights,
        close_bias=close_bias,
        measure_weights=measures,
        part_biases=biases,
    )


def _usual(shape: Shape, shams: Sequence[FaceReading]) -> Shape:
    """The shape with the mean and spread of the residuals of these normal faces."""
    found = np.stack([shape.residuals(seen.found(), seen.size) for seen in shams])
    return replace(shape, mean=found.mean(axis=0), deviation=found.std(axis=0) + 1e-6)


def _picture(draft: Fusion, samples: Sequence[Sample]) -> tuple[NDArray[np.float64], float]:
    """Weights and bias of the picture's log likelihood ratio."""
    return _against_shams(np.stack([draft.features(s.seen) for s in samples]), samples)


def _close_up(samples: Sequence[Sample]) -> tuple[NDArray[np.float64], float]:
    """Weights and bias of the close-up's: of faces with a displaced mouth or nose against shams."""
    chosen = list(CLOSE_UP.chosen)
    shown = [s for s in samples if s.severity == 0 or np.hypot(*s.moved[chosen].T).max() > _DISPLACED_SHARE]
    if sum(s.severity > 0 for s in shown) < _FEWEST_DISPLACED:
        return np.zeros(2), _SILENT
    return _against_shams(np.stack([close_features(s.seen.reading) for s in shown]), shown)


def _against_shams(
    table: NDArray[np.float64], samples: Sequence[Sample]
) -> tuple[NDArray[np.float64], float]:
    """A regression in which shams and anomalies weigh alike, and severe anomalies more than subtle ones."""
    present = np.array([s.severity > 0 for s in samples])
    importance = np.array([1.0 if s.severity == 0 else 0.5 + s.severity for s in samples])
    importance[present] *= importance[~present].sum() / importance[present].sum()
    return _regress(table, present, importance)


def _parts(shape: Shape, samples: Sequence[Sample]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights of the measures and biases of the parts in the parts' log likelihood ratios.

    A part is displaced where one of its measures or of its points is; one that too few samples displace
    stays silent.
    """
    seen = np.stack([oddities(shape, s.seen) for s in samples])
    true = np.abs(np.stack([shape.residual @ s.moved.ravel() / shape.deviation for s in samples]))
    moved = np.stack([np.hypot(*s.moved.T) for s in samples])
    sham = np.array([s.severity == 0 for s in samples])
    weights, biases = np.zeros(len(MEASURES)), np.full(len(Part), _SILENT)
    for number, part in enumerate(Part):
        own = list(PART_MEASURES[part])
        points = [LANDMARKS.index(point) for point in sorted(PART_POINTS[part])]
        displaced = true[:, own].max(axis=1) > _DISPLACED
        displaced |= moved[:, points].max(axis=1) > _DISPLACED_SHARE
        if displaced.sum() < _FEWEST_DISPLACED:
            continue
        some = sham | displaced
        alike = np.where(displaced, 1 / displaced.sum(), 1 / sham.sum())
        weights[own], biases[number] = _regress(seen[np.ix_(some, own)], displaced[some], alike[some])
    return weights, biases


def _regress(
    table: NDArray[np.float64], present: NDArray[np.bool_], importance: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Monotone logistic regression on columns of any scale."""
    centre, scale = table.mean(axis=0), table.std(axis=0) + 1e-9
    slopes, offset = _monotone_logistic((table - centre) / scale, present, importance)
    weights = slopes / scale
    return weights, offset - float(weights @ centre)


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
