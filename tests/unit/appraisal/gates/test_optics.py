from __future__ import annotations

import cv2
import numpy as np
import pytest

from service.appraisal.gates.optics import blur_sigma, exposure_ev, light_asymmetry_ev, linear_luminance


def _natural(side=256, seed=0):
    """A picture whose spectrum falls as 1/f**2, (side, side) float64, 0..255."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    frequency[0, 0] = 1
    plane = np.fft.ifft2(np.fft.fft2(rng.standard_normal((side, side))) / frequency).real
    return 128 + 30 * plane / plane.std()


def _grey(value, shape=(64, 64)):
    return np.full((*shape, 3), value, np.uint8)


EVERYWHERE = np.ones((256, 256), bool)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0])
def test_blur_is_found_whatever_the_contrast(sigma):
    blurred = cv2.GaussianBlur(_natural(), (0, 0), sigma)
    found = blur_sigma(blurred, EVERYWHERE)
    assert found == pytest.approx(sigma, rel=0.25)
    assert blur_sigma(128 + 0.3 * (blurred - 128), EVERYWHERE) == pytest.approx(found, rel=1e-6)


def test_noise_that_is_known_does_not_pass_for_sharpness():
    blurred = cv2.GaussianBlur(_natural(), (0, 0), 2.5)
    noisy = blurred + np.random.default_rng(1).normal(0, 2, blurred.shape)
    assert blur_sigma(noisy, EVERYWHERE) < 2
    assert blur_sigma(noisy, EVERYWHERE, noise_sigma=2) == pytest.approx(2.5, rel=0.3)


def test_no_detail_or_no_face_has_no_blur():
    assert blur_sigma(np.full((256, 256), 7.0), EVERYWHERE) is None
    assert blur_sigma(_natural(), ~EVERYWHERE) is None


def test_exposure_is_in_stops_over_middle_grey():
    middle = _grey(118)  # 18 % of linear light is 117.6 in sRGB
    where = np.ones((64, 64), bool)
    assert exposure_ev(middle, where) == pytest.approx(0, abs=0.02)
    half = np.rint(255 * (1.055 * (0.09) ** (1 / 2.4) - 0.055))
    assert exposure_ev(_grey(int(half)), where) == pytest.approx(-1, abs=0.03)
    assert linear_luminance(_grey(255)).max() == pytest.approx(1)


def test_light_from_the_patients_left_is_positive():
    picture = _grey(118)
    picture[:, 32:] = 161  # the picture's right; one stop more
    where = np.ones((64, 64), bool)
    assert light_asymmetry_ev(picture, where) == pytest.approx(1, abs=0.05)
    assert light_asymmetry_ev(picture[:, ::-1], where) == pytest.approx(-1, abs=0.05)
    assert light_asymmetry_ev(picture, where & (np.arange(64) < 30)) is None
