from dataclasses import replace

import cv2
import numpy as np
import pytest

from service.appraisal.anomalies.anatomy import CHIN, LIPS
from service.training.faces import Split, open_pool
from service.training.localised.morphs import between, stranger
from tests.unit.training.archives import write_archive


@pytest.fixture
def pool(tmp_path):
    write_archive(tmp_path, 256, ["one"] * 12)
    return open_pool(tmp_path, Split.TRAIN)


def narrower(face):
    """The face with its lips drawn to their middle and its chin raised."""
    points = face.landmarks.copy()
    lips = list(LIPS)
    points[lips, 0] += 0.3 * (points[lips, 0].mean() - points[lips, 0])
    points[CHIN, 1] -= 6
    return replace(face, landmarks=points)


def test_a_face_takes_on_the_proportions_of_another(pool):
    face = pool.face(0, 256)
    other = narrower(face)
    made = between(face, other, 0.5, 0.0)
    goal = face.landmarks + 0.5 * (other.landmarks - face.landmarks)
    before, after = (np.hypot(*(p - goal)[list(LIPS)].T).mean() for p in (face.landmarks, made.landmarks))
    assert after < 0.6 * before
    assert not np.array_equal(made.image, face.image)
    assert made.identity == face.identity


def test_the_picture_moves_with_the_landmarks(pool):
    face = pool.face(0, 256)
    marked = face.image.copy()
    corner = face.landmarks[LIPS[0]]
    cv2.circle(marked, tuple(int(v) for v in np.rint(corner)), 3, (0, 255, 0), -1)
    made = between(replace(face, image=marked), narrower(face), 0.8, 0.0)
    green = made.image[..., 1].astype(int) - made.image[..., 0] - made.image[..., 2]
    row, column = np.unravel_index(int(green.argmax()), green.shape)
    assert np.hypot(*(made.landmarks[LIPS[0]] - (column, row))) < 3.5


def test_skin_is_blended_inside_the_face_only(pool):
    face = pool.face(0, 256)
    noise = np.random.default_rng(1).integers(0, 255, face.image.shape, np.uint8)
    made = between(face, replace(face, image=noise), 0.0, 0.4)
    assert np.array_equal(made.image[:4, :4], face.image[:4, :4])
    middle = face.landmarks.mean(0).astype(int)
    assert not np.array_equal(made.image[middle[1], middle[0]], face.image[middle[1], middle[0]])


def test_a_face_does_not_fold_however_unlike_the_other(pool):
    face = pool.face(0, 256)
    upside_down = replace(face, landmarks=(256 - face.landmarks).astype(np.float32))
    made = between(face, upside_down, 1.0, 0.0)
    went = np.hypot(*(made.landmarks - face.landmarks).T).mean()
    assert went < 0.5 * np.hypot(*(upside_down.landmarks - face.landmarks).T).mean()
    assert made.landmarks[CHIN, 1] > made.landmarks[LIPS[0], 1] + 5


def test_strangers_come_again_from_the_same_chance(pool):
    face = pool.face(0, 256)
    first, second = (stranger(face, pool, np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(first.image, second.image)
    assert any(stranger(face, pool, np.random.default_rng(s)) is face for s in range(12))
