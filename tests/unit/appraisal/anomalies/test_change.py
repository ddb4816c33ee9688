import numpy as np
import pytest

from service.appraisal.anomalies import (
    Change,
    Paint,
    forward_points,
    minimum_jacobian,
    render,
    undoing_displacement,
)
from tests.unit.appraisal.drawn_face import drawn_face

SIZE = 256


def bell(amplitude):
    rows, columns = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    window = np.exp(-((columns - 120) ** 2 + (rows - 150) ** 2) / (2 * 20.0**2))
    return (amplitude * np.stack([window, -0.5 * window], -1)).astype(np.float32)


def moved(amplitude=8.0):
    return Change(kind="x", severity=0.5, magnitude=0.1, displacement=bell(amplitude))


def test_a_fold_has_a_negative_jacobian_and_a_gentle_field_has_not():
    assert minimum_jacobian(bell(8.0)) > 0
    assert minimum_jacobian(bell(80.0)) < 0


def test_jacobian_of_a_known_map_is_its_determinant():
    rows, columns = np.mgrid[0:32, 0:32].astype(np.float32)
    field = np.stack([0.2 * columns + 0.1 * rows, 0.3 * columns - 0.4 * rows], -1)
    assert minimum_jacobian(field) == pytest.approx(1.2 * 0.6 - 0.1 * 0.3, abs=1e-4)


def test_rendered_pixels_come_from_where_the_displacement_says():
    face = drawn_face().image
    field = np.zeros((SIZE, SIZE, 2), np.float32)
    field[..., 0], field[..., 1] = 5, -3
    out = render(face, Change(kind="x", severity=1, magnitude=1, displacement=field))
    np.testing.assert_array_equal(out.image[20:-20, 20:-20], face[17:-23, 25:-15])


def test_sham_goes_through_the_same_resampling():
    face = drawn_face().image
    place = np.array([[1.01, 0.02, 1.3], [-0.02, 0.99, 0.4]], np.float32)
    far_away = np.zeros((SIZE, SIZE, 2), np.float32)
    far_away[:40, :40, 0] = 4
    sham = render(face, None, place)
    other = render(face, Change(kind="x", severity=1, magnitude=1, displacement=far_away), place)
    np.testing.assert_array_equal(sham.image[80:, 80:], other.image[80:, 80:])
    assert not sham.mask.any()
    assert not sham.displacement.any()
    assert not sham.alpha.any()


def test_the_mask_is_where_the_picture_changed():
    face = drawn_face().image
    sham, out = render(face, None), render(face, moved())
    changed = np.abs(out.image.astype(int) - sham.image).max(-1)
    assert changed[out.mask].mean() > 4 * changed[~out.mask].mean()
    moved_px = np.hypot(*np.moveaxis(out.displacement, -1, 0))
    assert moved_px[out.mask].min() >= 0.2 * moved_px.max()
    assert moved_px[~out.mask].max() <= 0.2 * moved_px.max() + 1e-5


def test_paint_changes_exactly_its_alpha():
    face = drawn_face().image
    alpha = np.zeros((SIZE, SIZE), np.float32)
    alpha[100:110, 100:110] = 1
    paint = Paint(alpha=alpha, colour=np.full((SIZE, SIZE, 3), 7, np.float32))
    out = render(face, Change(kind="x", severity=1, magnitude=1, displacement=None, paint=paint))
    np.testing.assert_array_equal(out.mask, alpha > 0)
    assert (out.image[100:110, 100:110] == 7).all()
    np.testing.assert_array_equal(out.image[~out.mask], face[~out.mask])
    np.testing.assert_array_equal(out.unpainted, face)


def test_forward_points_invert_the_backward_field():
    field = bell(9.0)
    points = np.array([[118, 149], [130, 160], [20, 20]], np.float32)
    there = forward_points(points, field)
    columns, rows = np.rint(there).astype(int).T
    np.testing.assert_allclose(there + field[rows, columns], points, atol=0.35)
    assert np.hypot(*(there[0] - points[0])) > 5


def test_undoing_a_displacement_restores_the_face():
    face = drawn_face().image
    out = render(face, moved())
    undone = render(
        out.image,
        Change(kind="undo", severity=0, magnitude=0, displacement=undoing_displacement(out.displacement)),
    )
    before = np.abs(out.image.astype(float) - face)[out.mask].mean()
    after = np.abs(undone.image.astype(float) - face)[out.mask].mean()
    assert after < 0.45 * before


def test_ground_truth_follows_the_placement():
    face = drawn_face().image
    shift = np.array([[1, 0, 10], [0, 1, 0]], np.float32)
    plain, placed = render(face, moved()), render(face, moved(), shift)
    np.testing.assert_array_equal(placed.mask[:, :-12], plain.mask[:, 10:-2])
