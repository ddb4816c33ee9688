import cv2
import numpy as np
import pytest

from service.appraisal.anomalies import (
    NAMED,
    RANDOM,
    anatomy,
    change_mask,
    minimum_jacobian,
    named_types,
    normal_lip,
    read_lip_shapes,
    render,
)
from service.appraisal.anomalies.family import MOVE_SCALE
from service.appraisal.anomalies.lips import LIP_SCALE, deviation
from service.appraisal.anomalies.named import DROOP_SCALE, NEVUS_SCALE
from service.errors import ConfigurationError
from tests.unit.appraisal.drawn_face import drawn_face


def lip_shape(raised=12.0):
    """A 68-point set whose image-left peak of the bow is raised."""
    points = np.zeros((68, 2))
    angles = np.linspace(-np.pi, 0, 7)
    points[48:55] = np.stack([250 + 60 * np.cos(angles), 350 + 20 * np.sin(angles)], -1)
    points[50, 1] -= raised
    return points


@pytest.fixture
def shapes(tmp_path):
    np.save(tmp_path / "one.npy", lip_shape())
    return read_lip_shapes(tmp_path)


ALL = {**NAMED, **RANDOM}
MOVING = [name for name in ALL if name not in {"nevus", "scar"}]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("severity", [0.25, 1.0])
def test_no_type_folds_the_face_and_all_change_it(name, severity):
    canvas = drawn_face()
    for seed in range(4):
        change = ALL[name](canvas, severity, np.random.default_rng(seed))
        alpha = np.zeros(canvas.image.shape[:2], np.float32)
        field = np.zeros((*alpha.shape, 2), np.float32)
        if change.displacement is not None:
            field = change.displacement
            assert minimum_jacobian(field) > 0
            largest = np.hypot(field[..., 0], field[..., 1]).max() / canvas.unit
            assert change.magnitude == pytest.approx(largest, rel=0.02)
        if change.paint is not None:
            alpha = change.paint.alpha
            assert 0 <= alpha.min() <= alpha.max() <= 1
            assert change.paint.colour.min() >= 0
            assert change.paint.colour.max() <= 255
        assert change_mask(field, alpha).any()
        assert change.severity == severity


@pytest.mark.parametrize("name", ALL)
def test_the_same_seed_makes_the_same_change(name):
    canvas = drawn_face()
    one, two = (ALL[name](canvas, 0.5, np.random.default_rng(9)) for _ in range(2))
    if one.displacement is not None:
        # numpy's vectorised exponential rounds by where an array lies in memory
        np.testing.assert_allclose(one.displacement, two.displacement, atol=1e-4)
    if one.paint is not None:
        np.testing.assert_allclose(one.paint.alpha, two.paint.alpha, atol=1e-6)


@pytest.mark.parametrize(("name", "scale"), [("lt-v1", LIP_SCALE), ("droop", DROOP_SCALE)])
def test_severity_is_displacement_over_inter_ocular_distance(name, scale):
    canvas = drawn_face()
    for severity in (0.25, 0.5):
        change = NAMED[name](canvas, severity, np.random.default_rng(0))
        assert change.magnitude == pytest.approx(severity * scale, rel=1e-3)


def test_severity_of_a_nevus_is_its_diameter():
    change = NAMED["nevus"](drawn_face(), 0.5, np.random.default_rng(0))
    assert change.magnitude == pytest.approx(0.5 * NEVUS_SCALE)


def test_random_types_stay_within_their_scale():
    canvas = drawn_face()
    for seed in range(6):
        change = RANDOM["random-bumps"](canvas, 1.0, np.random.default_rng(seed))
        assert 0.25 * MOVE_SCALE < change.magnitude <= MOVE_SCALE + 1e-6


def test_of_an_edge_that_moves_the_edge_beside_it_stays_more_often_than_of_a_contour():
    canvas = drawn_face()
    eyes = list(zip(anatomy.UPPER_LIDS, anatomy.LOWER_LIDS, strict=True))

    def most_moved(edge, field):
        columns, rows = np.rint(canvas.landmarks[list(edge)]).astype(int).T
        return np.hypot(*field[rows, columns].T).max()

    def left_alone(name):
        apart = []
        for seed in range(60):
            field = RANDOM[name](canvas, 0.5, np.random.default_rng(seed)).displacement
            for lids in eyes:
                upper, lower = (most_moved(lid, field) for lid in lids)
                if max(upper, lower) > 0.03 * canvas.unit:
                    apart.append(min(upper, lower) / max(upper, lower))
        return np.median(apart)

    assert left_alone("random-edge") < 0.6 * left_alone("random-contour")


def test_droop_lowers_one_commissure_only():
    canvas = drawn_face()
    change = NAMED["droop"](canvas, 1.0, np.random.default_rng(0))
    corners = canvas.landmarks[list(anatomy.COMMISSURES)].astype(int)
    down = -change.displacement[corners[:, 1], corners[:, 0], 1]
    assert down.max() > 0.1 * canvas.unit
    assert down.min() < 0.02 * canvas.unit


def test_lt_v2_takes_what_the_patients_lip_has_beyond_a_normal_one(shapes):
    canvas = drawn_face()
    change = named_types(shapes)["lt-v2"](canvas, 1.0, np.random.default_rng(1))
    peaks = canvas.landmarks[[37, 267]].astype(int)
    up = change.displacement[peaks[:, 1], peaks[:, 0], 1]
    assert abs(up[0] - up[1]) > 0.05 * canvas.unit
    assert "lt-v2" not in named_types()


def test_a_lip_that_is_higher_altogether_is_no_deviation():
    shape = lip_shape(raised=0.0)[48:55].astype(np.float32)
    plain = deviation(shape)
    higher = shape.copy()
    higher[2:5, 1] -= 10
    np.testing.assert_allclose(deviation(higher)[2:5], plain[2:5], atol=1e-5)
    assert not deviation(shape)[[0, -1]].any()


def test_the_placebo_is_another_normal_lip_in_its_natural_size_and_no_anomaly():
    canvas = drawn_face()
    sizes = [normal_lip(canvas, np.random.default_rng(seed)).magnitude for seed in range(40)]
    assert 0.005 < np.median(sizes) < 0.06
    assert normal_lip(canvas, np.random.default_rng(0)).severity == 0


def test_points_of_the_mouth_lie_between_the_mesh_points_they_stand_for():
    landmarks = drawn_face().landmarks
    mouth = anatomy.dlib_mouth(landmarks)
    assert mouth.shape == (20, 2)
    np.testing.assert_allclose(mouth[0], landmarks[61])
    np.testing.assert_allclose(mouth[1], (landmarks[39] + landmarks[40]) / 2, atol=1e-4)
    assert (np.diff(mouth[:7, 0]) > 0).all()


def test_a_red_mark_is_hardly_brighter_or_darker():
    canvas = drawn_face()
    change = NAMED["haemangioma"](canvas, 1.0, np.random.default_rng(0))
    painted = render(canvas.image, change).image
    lab = [cv2.cvtColor(p.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for p in (canvas.image, painted)]
    there = change.paint.alpha > 0.7
    away = (lab[1] - lab[0])[there].mean(axis=0)
    assert away[1] > 10
    assert abs(away[0]) < 0.7 * away[1]


def test_hypertelorism_moves_both_eyes_apart_and_strabismus_one_iris():
    canvas = drawn_face()
    apart = NAMED["hypertelorism"](canvas, 1.0, np.random.default_rng(0)).displacement
    right, left = (anatomy.eye_centres(canvas.landmarks)).astype(int)
    assert apart[right[1], right[0], 0] > 0.05 * canvas.unit  # backward: taken from nearer the nose
    assert apart[left[1], left[0], 0] < -0.05 * canvas.unit
    turned = NAMED["strabismus"](canvas, 1.0, np.random.default_rng(0)).displacement
    moved = [np.abs(turned[int(y), int(x), 0]) for x, y in canvas.landmarks[list(anatomy.IRISES)]]
    assert max(moved) > 0.05 * canvas.unit
    assert min(moved) < 0.005 * canvas.unit


def test_a_palsy_moves_one_side_alone():
    canvas = drawn_face()
    for seed in range(6):
        field = NAMED["palsy"](canvas, 1.0, np.random.default_rng(seed)).displacement
        corners = canvas.landmarks[list(anatomy.COMMISSURES)].astype(int)
        moved = np.hypot(*field[corners[:, 1], corners[:, 0]].T)
        assert max(moved) > 0.04 * canvas.unit
        assert min(moved) < 0.01 * canvas.unit


def test_lip_shapes_must_be_there_and_have_68_points(tmp_path):
    with pytest.raises(ConfigurationError, match="no lip shapes"):
        read_lip_shapes(tmp_path)
    np.save(tmp_path / "bad.npy", np.zeros((5, 2)))
    with pytest.raises(ConfigurationError, match="not 68 landmarks"):
        read_lip_shapes(tmp_path)
