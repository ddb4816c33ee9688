from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage import data

from service.appraisal.face.finder import LEFT_COMMISSURE, LEFT_IRIS, RIGHT_COMMISSURE, RIGHT_IRIS
from service.appraisal.face.mesh_mirror import mirrored
from service.appraisal.face.pose import estimate_pose
from tests.unit.appraisal.photographs import portrait


def test_the_face_of_a_portrait_is_found_where_it_is(face):
    # Read off the picture by eye.
    assert face.landmarks.shape == (478, 2)
    assert np.abs(face.landmarks[RIGHT_IRIS] - (145, 106)).max() < 6
    assert np.abs(face.landmarks[LEFT_IRIS] - (188, 107)).max() < 6
    assert 38 < face.inter_ocular_px < 48


def test_left_and_right_are_the_patients(face):
    assert face.landmarks[LEFT_IRIS, 0] > face.landmarks[RIGHT_IRIS, 0]
    assert face.landmarks[LEFT_COMMISSURE, 0] > face.landmarks[RIGHT_COMMISSURE, 0]


def test_the_mirror_image_of_a_photograph_has_the_mirrored_mesh(finder, face):
    picture = portrait()
    (other,) = finder.find(np.ascontiguousarray(picture[:, ::-1]))
    apart = np.linalg.norm(mirrored(other.mesh, picture.shape[1] - 1)[:, :2] - face.landmarks, axis=1)
    assert apart.mean() < 0.01 * face.inter_ocular_px  # one fit alone: 0.016
    assert other.pose.yaw_deg == pytest.approx(-face.pose.yaw_deg, abs=1.0)


def test_mirroring_a_mesh_twice_changes_nothing_and_swaps_left_and_right(face):
    once = mirrored(face.mesh, 320)
    np.testing.assert_array_equal(mirrored(once, 320)[:, 1:], face.mesh[:, 1:])
    assert once[LEFT_IRIS, 0] == 320 - face.mesh[RIGHT_IRIS, 0]
    assert once[LEFT_COMMISSURE, 1] == face.mesh[RIGHT_COMMISSURE, 1]


@pytest.mark.parametrize("picture", [data.coffee(), data.chelsea(), np.zeros((300, 300, 3), np.uint8)])
def test_no_face_is_found_where_there_is_none(finder, picture):
    assert finder.find(np.ascontiguousarray(picture)) == ()


def test_three_faces_side_by_side(finder):
    assert len(finder.find(np.hstack([portrait()] * 3))) == 3


def test_small_faces_in_a_large_photograph(finder):
    canvas = np.full((1200, 1800, 3), 140, np.uint8)
    for x, y in ((100, 200), (750, 800), (1400, 300)):
        canvas[y : y + 320, x : x + 320] = portrait()
    assert len(finder.find(canvas)) == 3


@pytest.mark.parametrize("height", [330, 700])
def test_one_clear_face_in_a_panorama_of_twenty_thousand_pixels(finder, height):
    canvas = np.full((height, 20_000, 3), 140, np.uint8)
    canvas[height - 325 : height - 5, 13_333 : 13_333 + 320] = portrait()
    (found,) = finder.find(canvas)
    assert np.abs(found.landmarks[RIGHT_IRIS] - (13_333 + 145, height - 325 + 106)).max() < 8


def test_one_face_far_away_in_a_very_large_photograph(finder):
    canvas = np.full((3000, 4000, 3), 140, np.uint8)
    canvas[1500:1820, 700:1020] = portrait()
    assert len(finder.find(canvas)) == 1


def test_a_face_that_fills_the_frame(finder):
    tight = np.ascontiguousarray(portrait()[62:185, 110:222])
    assert len(finder.find(tight)) == 1


def test_the_largest_face_comes_first(finder):
    small = cv2.resize(portrait(), (160, 160), interpolation=cv2.INTER_AREA)
    picture = np.zeros((320, 480, 3), np.uint8)
    picture[:160, :160], picture[:, 160:] = small, portrait()
    faces = finder.find(picture)
    assert len(faces) == 2
    assert faces[0].inter_ocular_px > 1.7 * faces[1].inter_ocular_px


def test_finding_is_deterministic_and_follows_scale(finder, face):
    again = finder.find(portrait())[0]
    assert np.array_equal(again.mesh, face.mesh)
    double = finder.find(cv2.resize(portrait(), (640, 640), interpolation=cv2.INTER_CUBIC))[0]
    assert np.abs((double.landmarks + 0.5) / 2 - 0.5 - face.landmarks).mean() < 1.0


def test_roll_follows_the_picture_and_mirroring_turns_yaw(finder, face):
    matrix = cv2.getRotationMatrix2D((160, 120), 12, 1.0)  # anticlockwise
    turned = finder.find(cv2.warpAffine(portrait(), matrix, (320, 320), borderMode=cv2.BORDER_REPLICATE))[0]
    assert turned.pose.roll_deg - face.pose.roll_deg == pytest.approx(12, abs=1.5)
    mirrored = finder.find(np.ascontiguousarray(portrait()[:, ::-1]))[0]
    assert mirrored.pose.yaw_deg == pytest.approx(-face.pose.yaw_deg, abs=2.0)
    assert mirrored.pose.roll_deg == pytest.approx(-face.pose.roll_deg, abs=1.0)


@pytest.mark.parametrize(
    ("yaw", "pitch", "roll"), [(20, 0, 0), (-14, 0, 0), (0, 18, 0), (0, -9, 0), (0, 0, 25)]
)
def test_a_turned_mean_face_has_the_pose_it_was_turned_to(face, yaw, pitch, roll):
    from service.appraisal.face import pose

    mesh = np.zeros((478, 3))
    for index, *point in pose._MEAN_FACE:
        mesh[int(index)] = point
    y, p, r = np.radians([-yaw, pitch, -roll])
    around_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    around_x = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    around_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    found = estimate_pose(100 * mesh @ (around_z @ around_y @ around_x).T + (50, 60, 0))
    assert (found.yaw_deg, found.pitch_deg, found.roll_deg) == pytest.approx((yaw, pitch, roll), abs=1e-6)


def test_a_face_that_stands_on_its_head_is_known_to(finder, photograph, face):
    assert not face.upside_down
    found = finder.find(np.ascontiguousarray(photograph.rgb[::-1, ::-1]))
    assert found
    assert all(one.upside_down for one in found)
