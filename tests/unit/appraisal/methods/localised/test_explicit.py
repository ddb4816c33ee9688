"""Explicit measures: redness and how far apart the pupils are."""

import numpy as np
import pytest

from service.appraisal.face.finder import LEFT_IRIS, RIGHT_IRIS
from service.appraisal.methods.localised.explicit import MOST, SHIFT, Explicit
from tests.unit.appraisal.drawn_face import drawn_mesh
from tests.unit.appraisal.methods.localised.drawn_measures import CALM, drawn_measures

MESH = drawn_mesh(256).astype(np.float64)


@pytest.fixture(scope="module")
def measures():
    return drawn_measures(MESH)


def said(measures, mesh=MESH, redness=CALM):
    return dict(zip(Explicit, measures.log_ratios(mesh, redness), strict=True))


def apart(pixels):
    mesh = MESH.copy()
    mesh[RIGHT_IRIS, 0] -= pixels
    mesh[LEFT_IRIS, 0] += pixels
    return mesh


def test_a_face_in_the_middle_of_normal_ones_speaks_against_an_anomaly(measures):
    assert list(said(measures).values()) == pytest.approx([-(SHIFT**2) / 2] * len(Explicit))


def test_redness_speaks_the_more_the_redder_and_up_to_an_end(measures):
    ratios = [said(measures, redness=value)[Explicit.REDNESS] for value in (0.3, CALM, 0.42, 0.44, 0.6, 6.0)]
    assert ratios == sorted(ratios)
    assert ratios[-1] == pytest.approx(SHIFT * MOST - SHIFT**2 / 2)
    assert said(measures, redness=0.0)[Explicit.PUPILS] == said(measures)[Explicit.PUPILS]


def test_pupils_too_far_apart_are_odd_twice_and_too_near_ones_once(measures):
    calm, wide, near = said(measures), said(measures, apart(8)), said(measures, apart(-8))
    assert wide[Explicit.PUPILS] > calm[Explicit.PUPILS] + 1
    assert near[Explicit.PUPILS] > calm[Explicit.PUPILS] + 1
    assert wide[Explicit.WIDTH] > calm[Explicit.WIDTH] + 1
    assert near[Explicit.WIDTH] < calm[Explicit.WIDTH]
    assert wide[Explicit.REDNESS] == calm[Explicit.REDNESS]


def test_size_and_place_of_a_face_say_nothing(measures):
    np.testing.assert_allclose(
        measures.log_ratios(3 * MESH + [40, -7], CALM), measures.log_ratios(MESH, CALM), atol=1e-6
    )
