from __future__ import annotations

import numpy as np
import pytest

from service.appraisal.face.regions import region_masks
from service.records import Region

PAIRS = ((Region.LEFT_EYE, Region.RIGHT_EYE), (Region.LEFT_CHEEK, Region.RIGHT_CHEEK))


@pytest.fixture(scope="module")
def masks(aligned):
    return region_masks(aligned.landmarks, (256, 256))


def test_every_region_has_a_mask_inside_the_face(masks):
    assert set(masks) == set(Region)
    for region, mask in masks.items():
        assert mask.any(), region
        assert not (mask & ~masks[Region.FACE]).any()


def test_left_is_the_patients_left(masks):
    for left, right in PAIRS:
        assert np.nonzero(masks[left])[1].mean() > 128 > np.nonzero(masks[right])[1].mean()


def test_regions_are_where_they_belong(masks, aligned):
    order = [Region.FOREHEAD, Region.LEFT_EYE, Region.NOSE, Region.UPPER_LIP, Region.LOWER_LIP, Region.CHIN]
    heights = [np.nonzero(masks[region])[0].mean() for region in order]
    assert heights == sorted(heights)
    for region, point in (
        (Region.LEFT_EYE, 473),
        (Region.RIGHT_EYE, 468),
        (Region.NOSE, 4),
        (Region.UPPER_LIP, 0),
    ):
        x, y = np.rint(aligned.landmarks[point]).astype(int)
        assert masks[region][y, x], region


def test_eyes_cheeks_nose_and_chin_do_not_overlap(masks):
    apart = [r for r in Region if r not in (Region.FACE, Region.ORONASAL)]
    for index, one in enumerate(apart):
        for other in apart[index + 1 :]:
            shared = (masks[one] & masks[other]).sum()
            assert shared <= 0.06 * min(masks[one].sum(), masks[other].sum()), (one, other)


def test_the_oronasal_region_holds_lips_and_lower_nose(masks):
    for region in (Region.UPPER_LIP, Region.LOWER_LIP):
        assert (masks[region] & masks[Region.ORONASAL]).sum() > 0.95 * masks[region].sum()
    assert (masks[Region.NOSE] & masks[Region.ORONASAL]).sum() > 0.5 * masks[Region.NOSE].sum()
