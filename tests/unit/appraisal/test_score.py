from __future__ import annotations

import numpy as np
import pytest

from service.appraisal.score import MIN_JUDGED, region_scores, score
from service.records import ExclusionReason, Region


def test_equation_3_by_hand():
    difference = np.array([[0.1, 0.3], [np.nan, 0.8]], np.float32)
    everywhere = np.ones((2, 2), bool)
    assert score(difference, everywhere) == pytest.approx(-np.log(0.4))
    top = np.array([[True, True], [False, False]])
    assert score(difference, top) == pytest.approx(-np.log(0.2))


def test_a_larger_difference_scores_lower():
    where = np.ones((4, 4), bool)
    small, large = np.full((4, 4), 0.1, np.float32), np.full((4, 4), 0.2, np.float32)
    assert score(large, where) < score(small, where) < score(np.zeros((4, 4), np.float32), where) < np.inf


def test_nothing_judged_has_no_score():
    assert score(np.full((3, 3), np.nan, np.float32), np.ones((3, 3), bool)) is None
    assert score(np.ones((3, 3), np.float32), np.zeros((3, 3), bool)) is None


def test_the_whole_face_may_have_a_score_of_its_own():
    difference, everywhere = np.full((4, 4), 0.5, np.float32), np.ones((4, 4), bool)
    masks = {Region.FACE: everywhere, Region.NOSE: everywhere}
    face, nose = region_scores(difference, masks, None, whole=-3.0)
    assert face.score == -3.0
    assert nose.score == pytest.approx(-np.log(0.5))
    covered = {Region.FACE: ExclusionReason.OCCLUDED}
    (left_out, _) = region_scores(difference, masks, None, whole=-3.0, excluded=covered)
    assert left_out.score is None
    nothing, _ = region_scores(np.full((4, 4), np.nan, np.float32), masks, None, whole=-3.0)
    assert nothing.score is None


def test_a_region_hardly_judged_has_no_score():
    difference = np.ones((10, 10), np.float32)
    difference[: 10 - int(10 * MIN_JUDGED) + 1] = np.nan
    masks = {Region.NOSE: np.ones((10, 10), bool), Region.CHIN: np.eye(10, dtype=bool)[::-1] & False}
    nose, chin = region_scores(difference, masks, None)
    assert nose.score is None
    assert nose.judged == pytest.approx(0.1)
    assert (chin.score, chin.z, chin.judged) == (None, None, 0.0)
