"""What to expect of a face: landmarks, colours and texture of normal faces, and how far these go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from service.appraisal.methods.localised.counterpart.drawing import ExpectedFace
from service.appraisal.methods.localised.counterpart.expected_shape import LEAST_RATIO, ExpectedShape
from service.appraisal.methods.localised.counterpart.fill import Texture
from service.appraisal.methods.localised.counterpart.frame import SIDE, Frame, cells, lab
from service.appraisal.methods.localised.counterpart.paint_map import (
    LEAST_OWN,
    OWN_POWER,
    VIEWS,
    PaintMap,
    contrasts,
)
from service.appraisal.methods.localised.counterpart.units import UNITS
from service.appraisal.methods.localised.reading import Reading
from service.appraisal.methods.localised.views import LANDMARKS, MIRRORED
from service.errors import ConfigurationError

FEWEST: Final = 300  # normal faces for what to expect
MOVED_SHARE: Final = 0.022  # of normal faces in which a unit may be moved
PAINTED_SHARE: Final = 0.026  # of normal faces in which something may be filled
COMPONENTS: Final = 64  # of the texture
_TRIMMED: Final = 0.03  # of the faces, the oddest, left out of mean and covariance, twice
_NOISE: Final = 0.0008  # standard deviation of a landmark, fraction of the side
_PLACED: Final = 0.008  # standard deviation of a face's place in its square, fraction of the side
_SCALED, _TURNED = 0.02, 0.03  # of its size, fraction; of its turn, radians
_USUAL: Final = 0.99  # of normal faces
_LEAST_SPREAD: Final = 0.6  # of colour contrasts, CIE L*a*b*
_FOR_SPREAD: Final = 800  # faces that tell how colours spread; quantiles take all
_LEAST_USUAL: Final = 0.5  # standard deviations
_MAD: Final = 1.4826  # median absolute deviation to standard deviation


@dataclass(frozen=True, kw_only=True, eq=False)
class NormalReading:
    """A normal face that passed the gates, with its reading."""

    rgb: NDArray[np.uint8]  # (SIDE, SIDE, 3) uint8, sRGB, aligned, covers replaced
    shown: NDArray[np.bool_]  # (SIDE, SIDE) bool, where the face itself is seen
    reading: Reading
    fine: bool  # of the archive of the highest resolution


def fit_expected_face(training: Sequence[NormalReading], judged: Sequence[NormalReading]) -> ExpectedFace:
    """Fit what to expect, and the thresholds that few normal faces exceed.

    Args:
        training: normal faces; mean, covariance and texture come of the finest alone, what is usual of all.
        judged: normal faces kept out of training, for the thresholds.

    Raises:
        ConfigurationError: fewer than FEWEST faces of either, or of the finest.
    """
    fine = [face for face in training if face.fine]
    if min(len(fine), len(judged)) < FEWEST:
        raise ConfigurationError(
            f"{len(fine)} and {len(judged)} normal faces are too few to know what to expect: {FEWEST} each"
        )
    mean, covariance = _shape_of(np.stack([_points(face) for face in fine]))
    shape = ExpectedShape(mean=mean, covariance=covariance, usual=np.ones(len(UNITS)), threshold=1.0)
    distances = np.stack([shape.distances(each) for face in training for each in _both(_points(face))])
    shape = replace(shape, usual=np.quantile(distances, _USUAL, axis=0))
    frame = Frame(mean=mean.reshape(-1, 2) * SIDE - 0.5)
    colours = [_colours(face, frame) for face in training]
    local = np.stack([face.reading.localisation for face in judged])
    local = np.concatenate([local, local[..., ::-1]])
    draft = ExpectedFace(
        shape=shape,
        paint=_paint_of(np.stack(colours), frame),
        texture=_texture_of(
            np.stack([c for c, face in zip(colours, training, strict=True) if face.fine]), frame
        ),
        frame=frame,
        local_mean=cv2.GaussianBlur(local.mean(axis=0), (0, 0), 2.0).astype(np.float64),
        local_deviation=np.sqrt(cv2.GaussianBlur(local.var(axis=0), (0, 0), 2.0) + 0.05 * local.var()),
    )
    return _with_thresholds(draft, judged)


def _with_thresholds(draft: ExpectedFace, judged: Sequence[NormalReading]) -> ExpectedFace:
    """The thresholds that no more than a share of normal faces exceed, all units and cells together."""
    largest = [largest_ratio(draft, face.reading) for face in judged]
    seen = [
        draft.paint.views(_colours(face, draft.frame), _shown(face, draft.frame), _local(face, draft))
        for face in judged
    ]
    tops = np.stack([views.max(axis=(0, 1)) for views in seen]).astype(np.float64)
    peaks = np.quantile(tops, 1 - PAINTED_SHARE / 2, axis=0)
    together = (tops / peaks).max(axis=1)
    return replace(
        draft,
        shape=replace(draft.shape, threshold=float(np.quantile(largest, 1 - MOVED_SHARE))),
        paint=replace(draft.paint, peaks=peaks, threshold=float(np.quantile(together, 1 - PAINTED_SHARE))),
    )


def _local(face: NormalReading, draft: ExpectedFace) -> NDArray[np.float32]:
    return draft.local_cells(face.reading, _points(face) * SIDE - 0.5)


def largest_ratio(expected: ExpectedFace, reading: Reading) -> float:
    """The largest ratio of a face's units with what leans on it, 0 where none could be odd."""
    ratios = expected.shape.ratios(reading.landmarks.astype(np.float64))
    return float(np.where(ratios < LEAST_RATIO, 0.0, ratios * np.exp(expected.leaning(reading))).max())


def _points(face: NormalReading) -> NDArray[np.float64]:
    return face.reading.landmarks.astype(np.float64)


def _both(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Landmarks, and those of the mirror image."""
    return points, points[list(MIRRORED)] * np.array([-1, 1]) + np.array([1, 0])


def _shape_of(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and covariance of landmarks and their mirror images, with the face's place left free."""
    faces = np.stack([np.concatenate([both.ravel() for both in _both(each)]) for each in points])
    kept = np.arange(len(faces))
    for last in (False, False, True):
        rows = faces[kept].reshape(2 * len(kept), -1)
        mean = rows.mean(axis=0)
        covariance = np.cov(rows.T) + _NOISE**2 * np.eye(rows.shape[1])
        if not last:
            away = faces[kept][:, : rows.shape[1]] - mean
            far = np.einsum("ij,jk,ik->i", away, np.linalg.inv(covariance), away)
            kept = kept[far < np.quantile(far, 1 - _TRIMMED)]
    centred = mean.reshape(-1, 2) - mean.reshape(-1, 2).mean(axis=0)
    free = np.stack(
        [
            np.tile([1.0, 0.0], len(LANDMARKS)),
            np.tile([0.0, 1.0], len(LANDMARKS)),
            centred.ravel(),
            np.stack([-centred[:, 1], centred[:, 0]], axis=1).ravel(),
        ]
    )
    return mean, covariance + free.T @ np.diag(np.square([_PLACED, _PLACED, _SCALED, _TURNED])) @ free


def _colours(face: NormalReading, frame: Frame) -> NDArray[np.float32]:
    """The face's colours by cells of the texture frame, (CELLS, CELLS, 3) float32, CIE L*a*b*."""
    return cells(lab(np.asarray(frame.into(face.rgb, _points(face) * SIDE - 0.5), np.uint8)))


def _shown(face: NormalReading, frame: Frame) -> NDArray[np.bool_]:
    there = np.asarray(frame.into(face.shown.astype(np.float32), _points(face) * SIDE - 0.5), np.float32)
    return cells(there) > 0.95


def _paint_of(colours: NDArray[np.float32], frame: Frame) -> PaintMap:
    """Colour contrasts of normal faces."""
    some = colours[:: max(len(colours) // _FOR_SPREAD, 1)]
    own = np.stack([contrasts(each, frame.region) for each in some])
    aside = np.abs(own - own[:, :, ::-1])
    both = np.concatenate([own, own[:, :, ::-1]])
    middle = np.median(both, axis=0)
    draft = PaintMap(
        region=frame.region,
        middle=middle.astype(np.float32),
        spread=_smooth_spread(np.median(np.abs(both - middle), axis=0)),
        sides=_smooth_spread(np.median(aside, axis=0)),
        medians=np.full(VIEWS, np.inf),
        usual=np.ones((*frame.region.shape, VIEWS), np.float32),
        peaks=np.ones(VIEWS),
        threshold=np.inf,
    )
    found = np.stack([draft.raw_views(each, frame.region) for each in some])
    # An infinite median leaves each face's contrasts as they are, but for one factor.
    medians = np.median(np.median(found[:, frame.region], axis=1), axis=0) * LEAST_OWN**OWN_POWER
    draft = replace(draft, medians=medians.astype(np.float64))
    found = np.stack([draft.raw_views(each, frame.region) for each in colours])
    usual = np.quantile(found, _USUAL, axis=0)
    usual = cv2.GaussianBlur(np.maximum(usual, usual[:, ::-1]).astype(np.float32), (0, 0), 1.5)
    return replace(draft, usual=np.maximum(usual, np.float32(_LEAST_USUAL)))


def _smooth_spread(deviation: NDArray[np.float32]) -> NDArray[np.float32]:
    smooth = cv2.GaussianBlur((_MAD * deviation).astype(np.float32), (0, 0), 2.0)
    return np.maximum(smooth, np.float32(_LEAST_SPREAD))


def _texture_of(colours: NDArray[np.float32], frame: Frame) -> Texture:
    """Principal components of the colours of normal faces and of their mirror images."""
    rows = np.concatenate([colours, colours[:, :, ::-1]])[:, frame.region].reshape(2 * len(colours), -1)
    mean = rows.mean(axis=0)
    away = rows - mean
    values, vectors = np.linalg.eigh((away @ away.T).astype(np.float64))
    largest = np.argsort(values)[::-1][:COMPONENTS]
    basis = away.T @ vectors[:, largest] / np.sqrt(values[largest])
    return Texture(
        region=frame.region,
        mean=mean.astype(np.float32),
        basis=basis.astype(np.float32),
        variance=(values[largest] / len(rows)).astype(np.float32),
    )
