"""What to expect of a face, fitted on drawn readings."""

import cv2
import numpy as np
import pytest

from service.appraisal.methods.localised.counterpart.frame import SIDE, cells, lab
from service.appraisal.methods.localised.reading import Reading
from service.appraisal.methods.localised.views import LANDMARKS, MIRRORED
from service.errors import ConfigurationError
from service.training.localised.expected_face import (
    FEWEST,
    MOVED_SHARE,
    PAINTED_SHARE,
    NormalReading,
    fit_expected_face,
    largest_ratio,
)
from tests.unit.appraisal.drawn_face import drawn_face


def reading(points, localisation):
    return Reading(
        localisation=localisation.astype(np.float32),
        flow=np.zeros((64, 64, 2), np.float32),
        residual=np.zeros((64, 64, 3), np.float32),
        evidence=0.0,
        severity=0.0,
        close_evidence=0.0,
        close_severity=0.0,
        landmarks=points.astype(np.float32),
    )


@pytest.fixture(scope="module")
def faces():
    """Faces of one drawing, with landmarks that vary together, tints, grain and marks of the network."""
    rng = np.random.default_rng(2)
    face = drawn_face(SIDE)
    mean = (face.landmarks[list(LANDMARKS)].astype(np.float64) + 0.5) / SIDE
    directions = rng.normal(0, 0.006, (8, *mean.shape))
    made = []
    for _ in range(FEWEST):
        points = mean + np.tensordot(rng.normal(size=8), directions, 1) + rng.normal(0, 0.001, mean.shape)
        grain = cv2.resize(rng.normal(0, 4, (32, 32, 3)).astype(np.float32), (SIDE, SIDE))
        rgb = np.clip(face.image + rng.normal(0, 8, 3) + grain, 0, 255).astype(np.uint8)
        seen = reading(points, rng.normal(-3, 1, (64, 64)))
        made.append(NormalReading(rgb=rgb, shown=np.ones((SIDE, SIDE), bool), reading=seen, fine=True))
    return made


@pytest.fixture(scope="module")
def expected(faces):
    return fit_expected_face(faces, faces)


def test_no_more_normal_faces_than_said_exceed_the_thresholds(expected, faces):
    ratios = [largest_ratio(expected, face.reading) for face in faces]
    assert 0 < np.mean(np.array(ratios) > expected.shape.threshold) <= MOVED_SHARE + 1 / FEWEST
    peaks = []
    for face in faces:
        points = face.reading.landmarks.astype(np.float64) * SIDE - 0.5
        colours = cells(lab(expected.frame.into(face.rgb, points)))
        z = expected.local_cells(face.reading, points)
        peaks.append(expected.paint.find(colours, expected.frame.region, z).max())
    assert 0 < np.mean(np.array(peaks) > expected.paint.threshold) <= PAINTED_SHARE + 1 / FEWEST


def test_left_and_right_are_expected_alike(expected):
    mean = expected.shape.mean.reshape(-1, 2)
    np.testing.assert_allclose(mean[list(MIRRORED)] * [-1, 1] + [1, 0], mean, atol=1e-9)
    region = expected.frame.region
    np.testing.assert_array_equal(region, region[:, ::-1])
    np.testing.assert_allclose(expected.paint.usual, expected.paint.usual[:, ::-1], atol=1e-5)


def test_a_face_moved_as_a_whole_is_as_normal_as_before(expected, faces):
    points = faces[0].reading.landmarks.astype(np.float64)
    shifted = expected.shape.ratios(points + np.array([0.005, -0.004]))
    np.testing.assert_allclose(shifted, expected.shape.ratios(points), rtol=0.25, atol=0.05)


def test_too_few_faces_are_refused(faces):
    with pytest.raises(ConfigurationError, match="too few"):
        fit_expected_face(faces[1:], faces)
    with pytest.raises(ConfigurationError, match="too few"):
        fit_expected_face(faces, faces[1:])
