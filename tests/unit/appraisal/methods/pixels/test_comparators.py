from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from service.appraisal.methods.pixels.comparators import dissimilarity, multiscale, pixel_error


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    one = rng.uniform(0, 255, (64, 80, 3)).astype(np.float32)
    return one, np.clip(one + rng.normal(0, 30, one.shape), 0, 255).astype(np.float32)


def test_pixel_error_by_hand():
    one, other = np.zeros((2, 2, 3), np.float32), np.zeros((2, 2, 3), np.float32)
    other[0, 1] = (255, 0, 51)
    assert pixel_error(one, other) == pytest.approx(np.array([[0, (1 + 0.04) / 3], [0, 0]]), abs=1e-6)


def test_ssim_agrees_with_scikit_image(pictures):
    one, other = pictures
    _, reference = structural_similarity(
        one, other, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, full=True,
    )  # fmt: skip
    inner = (slice(6, -6), slice(6, -6))
    assert dissimilarity(one, other)[inner] == pytest.approx((1 - reference.mean(2)[inner]) / 2, abs=2e-3)


@pytest.mark.parametrize("difference", [pixel_error, dissimilarity, multiscale])
def test_a_local_change_shows_where_it_is(pictures, difference):
    one = pictures[0]
    other = one.copy()
    other[20:30, 40:50] = 255 - other[20:30, 40:50]
    result = difference(one, other)
    assert result.dtype == np.float32
    assert result.shape == one.shape[:2]
    assert result[21:29, 41:49].mean() > 10 * result[50:, :20].mean() + 1e-3
