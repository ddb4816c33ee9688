from __future__ import annotations

import numpy as np
import pytest

from service.appraisal.face.regions import face_mask
from service.training.occlusion.occluders import HARMLESS, OCCLUDERS, compose, stage_of
from tests.unit.appraisal.drawn_face import drawn_face


@pytest.fixture(scope="module")
def stage():
    face = drawn_face(128)
    return stage_of(face.image, face.landmarks)


def _covers(stage, make, count=8):
    return [make(stage, np.random.default_rng(seed)) for seed in range(count)]


@pytest.mark.parametrize("name", OCCLUDERS)
def test_an_occluder_covers_part_of_the_face_and_changes_what_it_covers(stage, name):
    face = face_mask(stage.landmarks.astype(np.float64), (128, 128))
    shares = []
    for cover in _covers(stage, OCCLUDERS[name]):
        assert cover.covered.shape == cover.alpha.shape == (128, 128)
        assert cover.colour.shape == (128, 128, 3)
        assert 0 <= cover.covered.min() <= cover.covered.max() <= 1
        assert 0 <= cover.alpha.min() <= cover.alpha.max() <= 1
        shares.append((cover.covered > 0.5)[face].mean())
        image = compose(stage, cover)
        untouched = cover.alpha == 0
        if cover.shade is not None:
            untouched &= cover.shade == 1
        np.testing.assert_array_equal(image[untouched], stage.image[untouched])
    assert max(shares) > 0.01
    assert np.median(shares) < 0.75


@pytest.mark.parametrize("name", HARMLESS)
def test_what_covers_nothing_says_so_and_is_seen(stage, name):
    changed = []
    for cover in _covers(stage, HARMLESS[name]):
        assert not cover.covered.any()
        changed.append(np.abs(compose(stage, cover).astype(int) - stage.image).max())
    assert max(changed) > 10


@pytest.mark.parametrize("name", [*OCCLUDERS, *HARMLESS])
def test_the_same_seed_gives_the_same_picture(stage, name):
    make = {**OCCLUDERS, **HARMLESS}[name]
    first, second = (compose(stage, make(stage, np.random.default_rng(5))) for _ in range(2))
    np.testing.assert_array_equal(first, second)
