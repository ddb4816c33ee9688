"""Phase 1 of paper 002: z-scores of what the student cannot give, and the mask made of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from service.appraisal.methods.two_phase.discrepancy import (
    CELLS,
    DiscrepancyReader,
    MaskSettings,
    fit_usual,
    mask_of,
    stored,
)
from service.appraisal.methods.two_phase.discrepancy_network import SIDES, Student
from service.errors import ModelIntegrityError
from tests.unit.appraisal.photographs import portrait

pytestmark = pytest.mark.usefixtures("one_thread")
SIZE = 256
ROWS, COLUMNS = np.mgrid[0:SIZE, 0:SIZE]
FACE = ((COLUMNS - 128) / 92) ** 2 + ((ROWS - 138) / 112) ** 2 < 1


def normal_logs(count=200, seed=0):
    """Log distances of normal faces: the middle columns are harder to give, the middle row varies more."""
    rng = np.random.default_rng(seed)
    made = []
    for side in SIDES:
        values = rng.normal(-2, 0.2, (count, side, side))
        values[:, side // 2] += rng.normal(0, 1.0, (count, side))
        values[:, :, side // 4 : -side // 4] += 0.5
        made.append(values.astype(np.float32))
    return tuple(made)


@pytest.fixture(scope="module")
def tensors():
    torch.manual_seed(0)
    return stored(Student().eval().state_dict(), fit_usual(normal_logs()))


@pytest.fixture(scope="module")
def reader(tensors):
    torch.manual_seed(1)
    return DiscrepancyReader(None, tensors)


def test_normal_faces_spread_by_one_standard_deviation_everywhere():
    usual = fit_usual(normal_logs())
    z = usual.z(normal_logs(seed=1))
    assert z.shape == (200, CELLS, CELLS)
    assert float(np.abs(z.mean(0)).mean()) < 0.15
    assert float(z.std(0).mean()) == pytest.approx(1, abs=0.2)
    for plane in (*usual.mean, *usual.deviation, usual.centre, usual.spread):
        np.testing.assert_allclose(plane, plane[:, ::-1], rtol=1e-4, atol=1e-5)


def test_the_same_excess_counts_less_where_normal_faces_vary_more():
    usual = fit_usual(normal_logs())
    odd = tuple(values[:1].copy() for values in usual_like(usual))
    for values in odd:
        side = values.shape[-1]
        values[:, side // 4] += 1.0
        values[:, side // 2] += 1.0
    z = usual.z(odd)[0]
    assert z[CELLS // 4].mean() > 2 * z[CELLS // 2].mean() > 0


def usual_like(usual):
    return [mean[None] for mean in usual.mean]


def test_a_mirrored_face_has_the_mirrored_discrepancy(reader):
    picture = np.ascontiguousarray(portrait()[:SIZE, :SIZE])
    one, other = reader.z([picture, np.ascontiguousarray(picture[:, ::-1])])
    np.testing.assert_allclose(one, other[:, ::-1], atol=1e-3)
    assert reader.z([]).shape == (0, CELLS, CELLS)


def test_what_is_hidden_does_not_show_in_what_is_painted(reader):
    picture = np.ascontiguousarray(portrait()[:SIZE, :SIZE])
    mask = np.zeros((SIZE, SIZE), bool)
    mask[100:140, 90:150] = True
    changed = picture.copy()
    changed[mask] = (255, 0, 0)
    seen, unseen = reader.painted([picture, changed], [mask, mask])
    assert seen.shape == (SIZE, SIZE, 3)
    np.testing.assert_array_equal(seen, unseen)
    changed[10, 10] = (0, 255, 0)
    (other,) = reader.painted([changed], [mask])
    assert np.abs(other - unseen).max() > 0


def test_weights_that_are_not_the_students_or_not_calibrated_are_refused(tensors):
    uncalibrated = {k: v for k, v in tensors.items() if k.startswith("student.")}
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    with pytest.raises(ModelIntegrityError, match="not calibrated"):
        DiscrepancyReader(None, uncalibrated).z([picture])
    with pytest.raises(ModelIntegrityError, match="student"):
        DiscrepancyReader(None, {k: v for k, v in tensors.items() if "paint" not in k})
    with pytest.raises(ModelIntegrityError, match="spread"):
        DiscrepancyReader(None, {k: v for k, v in tensors.items() if k != "usual.spread"})
    with pytest.raises(ModelIntegrityError, match="mean16"):
        DiscrepancyReader(None, {**tensors, "usual.mean16": torch.zeros(8, 8)})


def test_the_mask_is_what_is_surely_odd_as_far_as_it_is_likely_and_inside_the_face():
    z = np.zeros((CELLS, CELLS), np.float32)
    z[30:40, 30:42] = 2.2  # likely
    z[32:36, 32:36] = 8.0  # and surely
    z[46:52, 20:28] = 2.2  # likely alone
    z[0:12, 0:12] = 9.0  # outside the face
    mask = mask_of(z, FACE)
    assert mask[34 * 4, 34 * 4]
    assert mask[38 * 4, 40 * 4]
    assert not mask[49 * 4, 24 * 4]
    assert not (mask & ~FACE).any()
    assert not mask_of(np.zeros((CELLS, CELLS), np.float32), FACE).any()
    assert not mask_of(z, np.zeros_like(FACE)).any()


def test_of_a_face_that_is_odd_all_over_only_the_most_odd_is_masked():
    rows, _ = np.mgrid[0:CELLS, 0:CELLS]
    z = (5 + rows / 16).astype(np.float32)
    settings = MaskSettings(most=0.2, grown=0.0, closed=0.0)
    mask = mask_of(z, FACE, settings)
    assert 0.1 < mask.sum() / FACE.sum() < 0.3
    assert ROWS[mask].mean() > ROWS[FACE].mean() + 50
