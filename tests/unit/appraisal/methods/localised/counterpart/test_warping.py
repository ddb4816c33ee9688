"""Warping: landmarks come to lie where they are wanted, and nothing else changes."""

import cv2
import numpy as np

from service.appraisal.face.alignment import AlignedFace
from service.appraisal.methods.localised.counterpart.warping import Spline, border, moved_back
from service.appraisal.photograph.decode import photograph_from_rgb


def face_of(rgb, offset=0):
    size = rgb.shape[0] - 2 * offset
    return AlignedFace(
        rgb=np.ascontiguousarray(rgb[offset : offset + size, offset : offset + size]),
        landmarks=np.zeros((478, 2)),
        matrix=np.array([[1.0, 0, -offset], [0, 1.0, -offset]]),
        inside=np.ones((size, size), bool),
        photograph=photograph_from_rgb(rgb),
        face=None,
    )


def spot(x, y, size=256):
    rgb = np.random.default_rng(0).integers(100, 110, (size, size, 3)).astype(np.uint8)
    cv2.circle(rgb, (x, y), 4, (250, 20, 20), -1)
    return rgb


def middle_of(rgb):
    rows, columns = np.nonzero((rgb[..., 0] > 180) & (rgb[..., 1] < 80))
    return columns.mean(), rows.mean()


def test_a_spline_passes_through_its_points():
    points = np.vstack([np.array([[80.0, 80], [160, 120]]), border(0, 255)])
    moves = np.zeros_like(points)
    moves[:2] = [[3, -2], [-4, 5]]
    field = Spline(points=points, side=256, stiff=0.0).field(moves)
    np.testing.assert_allclose(field[80, 80], [3, -2], atol=0.05)
    np.testing.assert_allclose(field[120, 160], [-4, 5], atol=0.05)
    assert np.abs(field[0, 0]).max() < 0.05


def test_what_is_moved_comes_to_lie_where_it_is_wanted_and_far_pixels_stay():
    face = face_of(spot(120, 130))
    still = np.array([[x, y] for x in (60.0, 180) for y in (70.0, 190)])
    drawn = moved_back(face, np.array([[120.0, 130]]), np.array([[126.0, 122]]), still)
    x, y = middle_of(drawn)
    assert abs(x - 126) < 1
    assert abs(y - 122) < 1
    rows, columns = np.mgrid[0:256, 0:256]
    far = np.minimum(np.hypot(columns - 120, rows - 130), np.hypot(columns - 126, rows - 122)) > 60
    np.testing.assert_array_equal(drawn[far], face.rgb[far])


def test_what_comes_in_from_beyond_the_square_is_the_photographs():
    wide = spot(128, 300, 320)  # 32 pixels more on each side: the spot lies below the square
    face = face_of(wide, 32)
    assert not (face.rgb[..., 0] > 180).any()
    drawn = moved_back(face, np.array([[96.0, 268]]), np.array([[96.0, 246]]), np.array([[96.0, 150]]))
    x, y = middle_of(drawn)
    assert abs(x - 96) < 2
    assert abs(y - 246) < 4
