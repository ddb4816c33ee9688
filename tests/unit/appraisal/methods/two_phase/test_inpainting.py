"""A mask is filled without a seam, and nothing outside it changes."""

from __future__ import annotations

import numpy as np
import pytest

from service.appraisal.methods.two_phase.inpainting import blended, composed
from tests.unit.appraisal.photographs import portrait

SIZE = 128


@pytest.fixture
def rgb():
    return np.ascontiguousarray(portrait()[60 : 60 + SIZE, 60 : 60 + SIZE])


@pytest.fixture
def mask():
    plane = np.zeros((SIZE, SIZE), bool)
    plane[40:80, 30:90] = True
    return plane


def test_a_filling_of_another_brightness_meets_the_face_at_the_edge(rgb, mask):
    darker = np.clip(rgb.astype(np.float32), 60, 200)
    face = darker.astype(np.uint8)
    made = blended(face, darker - 50, mask)
    assert np.abs(made.astype(int) - face).max() <= 1
    assert np.array_equal(made[~mask], face[~mask])


def test_the_fillings_own_structure_stays(rgb, mask):
    flat = np.full_like(rgb, 120)
    filling = flat.astype(np.float32)
    filling[55:65, 55:65] -= 60
    made = blended(flat, filling, mask)
    assert made[60, 60].max() == pytest.approx(60, abs=1)
    assert made[45, 35].min() == pytest.approx(120, abs=1)


def test_no_mask_changes_nothing_and_a_whole_one_everything(rgb):
    filling = np.full(rgb.shape, 77.4, np.float32)
    assert np.array_equal(blended(rgb, filling, np.zeros((SIZE, SIZE), bool)), rgb)
    assert (blended(rgb, filling, np.ones((SIZE, SIZE), bool)) == 77).all()


def test_a_mask_at_the_border_meets_what_pixels_there_are(rgb):
    mask = np.zeros((SIZE, SIZE), bool)
    mask[:30, :40] = True
    face = np.full_like(rgb, 100)
    made = blended(face, np.full(rgb.shape, 20.0, np.float32), mask)
    assert (made == 100).all()


def test_the_other_side_is_taken_where_it_is_known(rgb):
    known = np.zeros((SIZE, SIZE), bool)
    known[:, :64] = True
    painted = np.full(rgb.shape, 10.0, np.float32)
    made = composed(rgb, known, painted)
    np.testing.assert_allclose(made[:, :50], rgb[:, :50], atol=1e-3)
    assert (made[:, 64:] == 10).all()
