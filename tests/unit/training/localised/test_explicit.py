"""Fitting the explicit measures, on meshes whose pupils' distance is known from the rest of the face."""

from __future__ import annotations

import numpy as np
import pytest

from service.appraisal.face.finder import LEFT_IRIS, RIGHT_IRIS
from service.appraisal.methods.localised.explicit import Explicit
from service.appraisal.methods.localised.fusion import FaceReading
from service.training.localised.explicit import fit_explicit, usual
from tests.unit.appraisal.drawn_face import drawn_mesh

EYES = (33, 133, 263, 362, *range(468, 478))


class Meshes:
    """A pool of meshes that stretch to the sides, and whose eyes stretch along."""

    def __init__(self, count, seed):
        rng = np.random.default_rng(seed)
        mean = drawn_mesh(256).astype(np.float64)
        directions = rng.normal(0, 1.0, (5, *mean.shape))
        directions[:, list(EYES)] = 0
        self.made = []
        for _ in range(count):
            wide = rng.normal(0, 0.03)
            mesh = mean + np.tensordot(rng.normal(size=5), directions, 1) + rng.normal(0, 0.2, mean.shape)
            mesh[:, 0] = 127.5 + (mesh[:, 0] - 127.5) * (1 + wide)
            self.made.append(mesh)

    def __len__(self):
        return len(self.made)

    def landmarks(self, number):
        return self.made[number].astype(np.float32)


def seen(mesh, redness=0.4):
    return FaceReading(reading=None, landmarks=mesh, face=np.ones((2, 2), bool), redness=redness)


@pytest.fixture(scope="module")
def measures():
    rng = np.random.default_rng(9)
    shams = [seen(mesh, float(np.exp(rng.normal(-1, 0.2)))) for mesh in Meshes(200, 2).made]
    return usual(fit_explicit(Meshes(300, 1)), shams)


def test_few_normal_faces_are_odd_and_half_lie_on_either_side(measures):
    z = np.stack([(measures.values(m, 0.4) - measures.middle) / measures.scale for m in Meshes(200, 2).made])
    assert np.median(z[:, list(Explicit).index(Explicit.WIDTH)]) == pytest.approx(0, abs=1e-9)
    assert np.mean(np.abs(z[:, list(Explicit).index(Explicit.PUPILS)]) > 2.33) <= 0.025


def test_pupils_that_are_where_the_rest_of_the_face_does_not_let_one_expect_them_stand_out(measures):
    mesh = Meshes(5, 7).made[0]
    turned = mesh.copy()
    turned[LEFT_IRIS, 0] += 8
    turned[RIGHT_IRIS, 0] -= 8
    at = list(Explicit).index(Explicit.PUPILS)
    before, after = (measures.log_ratios(each, 0.4)[at] for each in (mesh, turned))
    assert after > before + 3


def test_points_about_the_pupils_say_nothing_of_what_to_expect(measures):
    counted = measures.weights.reshape(-1, 2).any(axis=1)
    assert not counted[[RIGHT_IRIS, LEFT_IRIS, 33, 133, 263, 362]].any()
    assert counted[[10, 152, 234, 454]].all()
