from __future__ import annotations

from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image

from service.appraisal.gates.compression import estimate_jpeg_quality, grid_phase, quantisation_steps
from tests.unit.appraisal.photographs import portrait


def _luminance(rgb):
    return rgb.astype(np.float64) @ np.array([0.299, 0.587, 0.114])


def _enlarged():
    """Without the portrait's own compression: enlarged, so that its grid is gone."""
    return cv2.resize(portrait(), None, fx=1.37, fy=1.37, interpolation=cv2.INTER_CUBIC)


def _compressed(quality):
    out = BytesIO()
    Image.fromarray(_enlarged()).save(out, "JPEG", quality=quality)
    return np.array(Image.open(out))


@pytest.mark.parametrize("quality", [10, 25, 50, 75, 90])
def test_the_quality_of_a_jpeg_is_found(quality):
    assert estimate_jpeg_quality(_luminance(_compressed(quality))) == pytest.approx(quality, abs=2)


@pytest.mark.parametrize(("rows", "columns"), [(3, 5), (7, 1), (0, 4)])
def test_wherever_the_grid_starts(rows, columns):
    part = _luminance(_compressed(40))[rows:, columns:]
    assert grid_phase(part) == (-rows % 8, -columns % 8)
    assert estimate_jpeg_quality(part) == pytest.approx(40, abs=2)


def test_a_picture_that_was_never_compressed_has_no_low_quality():
    assert estimate_jpeg_quality(_luminance(_enlarged())) > 85


def test_too_little_to_tell_is_none():
    assert estimate_jpeg_quality(np.full((20, 20), 90.0)) is None
    assert estimate_jpeg_quality(np.zeros((64, 0))) is None


def test_steps_are_those_libjpeg_writes():
    image = Image.fromarray(portrait()[:64, :64])
    for quality in (7, 30, 50, 82, 100):
        out = BytesIO()
        image.save(out, "JPEG", quality=quality)
        written = Image.open(BytesIO(out.getvalue())).quantization[0]
        assert sorted(written) == sorted(quantisation_steps(quality).ravel())
