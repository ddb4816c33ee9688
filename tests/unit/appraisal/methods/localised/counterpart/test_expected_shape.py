"""The expected shape, on landmarks drawn from a known distribution."""

from dataclasses import replace

import numpy as np
import pytest

from service.appraisal.methods.localised.counterpart.expected_shape import (
    MOST_UNITS,
    ExpectedShape,
    expected_shape_from,
)
from service.appraisal.methods.localised.counterpart.units import UNITS
from service.appraisal.methods.localised.views import LANDMARKS
from service.errors import ModelIntegrityError

COUNT = 2 * len(LANDMARKS)
BY_NAME = {unit.name: unit for unit in UNITS}


@pytest.fixture(scope="module")
def shape():
    """Landmarks that vary together by ten directions, and each a little by itself."""
    rng = np.random.default_rng(4)
    directions = rng.normal(0, 0.01, (COUNT, 10))
    covariance = directions @ directions.T + 0.001**2 * np.eye(COUNT)
    mean = rng.uniform(0.2, 0.8, COUNT)
    drawn = rng.multivariate_normal(mean, covariance, 400)
    draft = ExpectedShape(mean=mean, covariance=covariance, usual=np.ones(len(UNITS)), threshold=1.0)
    distances = np.stack([draft.distances(each.reshape(-1, 2)) for each in drawn])
    usual = np.quantile(distances, 0.99, axis=0)
    return replace(draft, usual=usual, threshold=float(np.quantile((distances / usual).max(axis=1), 0.98)))


def normal(shape, seed):
    drawn = np.random.default_rng(seed).multivariate_normal(shape.mean, shape.covariance)
    return drawn.reshape(-1, 2)


def test_few_normal_faces_are_moved_and_those_that_are_not_stay_as_they_are(shape):
    expected = [shape.expect(normal(shape, seed)) for seed in range(100, 200)]
    still = [seed for seed, each in zip(range(100, 200), expected, strict=True) if not each.units]
    assert len(still) >= 93
    for seed in still[:5]:
        np.testing.assert_array_equal(shape.expect(normal(shape, seed)).points, normal(shape, seed))


def test_what_is_displaced_is_found_and_put_where_it_was(shape):
    true = normal(shape, 1)
    own = list(BY_NAME["left upper lid"].points)
    moved = true.copy()
    moved[own, 1] += 0.02
    found = shape.expect(moved)
    assert "left upper lid" in {unit.name for unit in found.units}
    assert np.abs(found.points[own] - true[own]).max() < 0.006
    others = np.setdiff1d(np.arange(len(true)), [p for unit in found.units for p in unit.points])
    np.testing.assert_array_equal(found.points[others], moved[others])


def test_given_others_is_the_conditional_mean(shape):
    points = normal(shape, 3)
    own = np.array([4, 5, 60])
    rows = np.stack([2 * own, 2 * own + 1], axis=1).ravel()
    rest = np.setdiff1d(np.arange(COUNT), rows)
    gain = shape.covariance[np.ix_(rows, rest)] @ np.linalg.inv(shape.covariance[np.ix_(rest, rest)])
    mean = shape.mean[rows] + gain @ (points.ravel()[rest] - shape.mean[rest])
    found = shape.given_others(points, frozenset(own.tolist()))
    np.testing.assert_allclose(found.ravel()[rows], mean, atol=1e-9)


def test_other_evidence_leans_on_the_ratio_and_makes_nothing_odd_alone(shape):
    true = normal(shape, 1)
    k = [unit.name for unit in UNITS].index("chin")
    moved = true.copy()
    moved[list(UNITS[k].points), 1] += 0.004
    ratio = shape.ratios(moved)[k]
    strict = replace(shape, threshold=1.5 * max(float(shape.ratios(moved).max()), 1.0))
    leaning = np.zeros(len(UNITS))
    assert not strict.expect(moved, leaning).units
    leaning[k] = np.log(2 * strict.threshold / ratio)
    assert strict.expect(moved, leaning).units[0].name == "chin"
    perfect = shape.mean.reshape(-1, 2)
    assert not shape.expect(perfect, np.full(len(UNITS), 50.0)).units


def test_a_face_that_is_odd_everywhere_loses_no_more_units_than_most(shape):
    rng = np.random.default_rng(0)
    assert len(shape.expect(normal(shape, 2) + rng.normal(0, 0.1, (len(LANDMARKS), 2))).units) <= MOST_UNITS


def test_it_is_stored_whole_and_refused_in_part(shape):
    read = expected_shape_from(shape.tensors())
    np.testing.assert_allclose(read.ratios(normal(shape, 5)), shape.ratios(normal(shape, 5)))
    assert read.threshold == shape.threshold
    for name in shape.tensors():
        with pytest.raises(ModelIntegrityError, match=name):
            expected_shape_from({k: v for k, v in shape.tensors().items() if k != name})
        with pytest.raises(ModelIntegrityError, match="shape"):
            expected_shape_from(shape.tensors() | {name: shape.tensors()[name][..., None]})
