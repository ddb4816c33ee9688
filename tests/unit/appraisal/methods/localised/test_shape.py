import numpy as np

from service.appraisal.methods.localised.shape import MEASURES, PART_POINTS, paint
from service.appraisal.methods.localised.views import LANDMARKS
from tests.unit.appraisal.drawn_face import drawn_mesh

SIZE = 256


def test_every_measure_is_of_points_of_its_part():
    assert len({measure.name for measure in MEASURES}) == len(MEASURES)
    for measure in MEASURES:
        assert {*measure.points, *measure.against, *measure.together} <= PART_POINTS[measure.part]
    assert {point for points in PART_POINTS.values() for point in points} <= set(LANDMARKS)


def test_a_difference_is_blind_to_a_shift_and_a_position_is_not():
    ones = np.ones((len(LANDMARKS), 2))
    for measure in MEASURES:
        shifted = (measure.functional() * ones).sum()
        expected = 0 if measure.against else 2 if measure.together else 1
        assert np.isclose(shifted, expected), measure.name


def test_what_is_expected_is_not_painted_and_what_is_not_is_painted_where_it_is():
    mesh = drawn_mesh(SIZE).astype(np.float64)
    excess = np.full(len(MEASURES), -1.0)
    assert not paint(excess, mesh, SIZE, 0.05).any()
    excess[[measure.name for measure in MEASURES].index("chin-height")] = 3
    plane = paint(excess, mesh, SIZE, 0.05)
    row, column = np.unravel_index(plane.argmax(), plane.shape)
    assert np.isclose(plane.max(), 3)
    assert np.hypot(*(mesh[[148, 152, 377]] - [column, row]).T).min() < 5
