from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image

from service.appraisal.face.finder import Face
from service.appraisal.face.pose import Pose
from service.appraisal.gates.quality import check_quality
from service.appraisal.photograph.decode import photograph_from_rgb
from service.appraisal.settings import AppraisalSettings
from service.records import RejectionReason
from tests.unit.appraisal.photographs import portrait

SETTINGS = AppraisalSettings()


def _check(finder, rgb):
    return check_quality(photograph_from_rgb(rgb), finder.find(rgb), SETTINGS)


def test_a_good_portrait_passes(finder):
    measures, reasons = _check(finder, portrait())
    assert reasons == ()
    assert measures.faces == 1
    assert 38 < measures.inter_ocular_px < 48
    assert abs(measures.yaw_deg) < 5
    assert 100 < measures.mean_luminance < 220


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (np.zeros_like, RejectionReason.NO_FACE),
        (lambda p: np.hstack([p, p, p]), RejectionReason.SEVERAL_FACES),
        (lambda p: cv2.resize(p, (200, 200), interpolation=cv2.INTER_AREA), RejectionReason.FACE_TOO_SMALL),
        (lambda p: np.ascontiguousarray(p[:145]), RejectionReason.FACE_CUT_OFF),
        (lambda p: cv2.GaussianBlur(p, (0, 0), 3.5), RejectionReason.BLURRED),
        (lambda p: (p * 0.12).astype(np.uint8), RejectionReason.UNDEREXPOSED),
        (lambda p: np.clip(p * 1.1 + 90.0, 0, 255).astype(np.uint8), RejectionReason.OVEREXPOSED),
    ],
)
def test_each_fault_has_its_reason(finder, spoil, reason):
    _, reasons = _check(finder, spoil(portrait()))
    assert reason in reasons


def _half_missing(rgb):
    """The lower part of the face as a decoder fills what it could not read."""
    out = rgb.copy()
    out[rgb.shape[0] // 2 :] = 128
    return out


def _squeezed(rgb, across, down):
    size = (round(rgb.shape[1] * across), round(rgb.shape[0] * down))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda p: np.ascontiguousarray(p[::-1, ::-1]), RejectionReason.TURNED),
        (lambda p: np.ascontiguousarray(np.rot90(p)), RejectionReason.TURNED),
        (lambda p: np.ascontiguousarray(np.rot90(p, 3)), RejectionReason.TURNED),
        (lambda p: _squeezed(p, 1.0, 0.75), RejectionReason.SQUEEZED),
        (lambda p: _squeezed(p, 0.72, 1.0), RejectionReason.SQUEEZED),
    ],
)
def test_a_picture_that_is_turned_or_squeezed_is_refused_for_that(finder, spoil, reason):
    _, reasons = _check(finder, spoil(portrait()))
    assert reason in reasons


def test_a_face_with_pieces_missing_is_refused(photograph, face):
    whole = check_quality(photograph, (face,), SETTINGS)[1]
    damaged = photograph_from_rgb(_half_missing(photograph.rgb))
    assert RejectionReason.DAMAGED not in whole
    assert RejectionReason.DAMAGED in check_quality(damaged, (face,), SETTINGS)[1]


@pytest.mark.parametrize(
    ("pose", "reasons"),
    [
        (Pose(yaw_deg=15.5, pitch_deg=0, roll_deg=0), (RejectionReason.YAW,)),
        (Pose(yaw_deg=-15.5, pitch_deg=0, roll_deg=0), (RejectionReason.YAW,)),
        (Pose(yaw_deg=0, pitch_deg=15.5, roll_deg=0), (RejectionReason.PITCH,)),
        (Pose(yaw_deg=0, pitch_deg=-15.5, roll_deg=0), (RejectionReason.PITCH,)),
        (Pose(yaw_deg=14.5, pitch_deg=-14.5, roll_deg=40), ()),
    ],
)
def test_yaw_and_pitch_over_15_degrees_are_refused(photograph, face, pose, reasons):
    assert check_quality(photograph, (Face(mesh=face.mesh, pose=pose),), SETTINGS)[1] == reasons


def test_a_small_face_in_the_background_does_not_count(photograph, face):
    far = Face(mesh=face.mesh * 0.2, pose=face.pose)
    near = Face(mesh=face.mesh * 0.3, pose=face.pose)
    assert check_quality(photograph, (face, far), SETTINGS)[0].faces == 1
    assert RejectionReason.SEVERAL_FACES in check_quality(photograph, (face, near), SETTINGS)[1]


def test_a_face_wholly_outside_is_cut_off(photograph, face):
    away = Face(mesh=face.mesh + np.array([5000, 0, 0]), pose=face.pose)
    assert RejectionReason.FACE_CUT_OFF in check_quality(photograph, (away,), SETTINGS)[1]


def test_blockiness_follows_jpeg_quality_and_noise_sigma_follows_noise(photograph, face):
    def measured(rgb):
        return check_quality(photograph_from_rgb(rgb), (face,), SETTINGS)[0]

    out = BytesIO()
    Image.fromarray(photograph.rgb).save(out, "JPEG", quality=15)
    assert measured(np.array(Image.open(out))).blockiness > 0.3 + measured(photograph.rgb).blockiness
    smooth = cv2.GaussianBlur(photograph.rgb, (0, 0), 1.5)
    noise = np.random.default_rng(0).normal(0, 8, smooth.shape[:2])[..., None]
    noisy = np.clip(smooth + noise, 0, 255).astype(np.uint8)
    assert measured(noisy).noise_sigma == pytest.approx(8, rel=0.15)


def test_sharpness_does_not_depend_on_resolution(finder):
    double = cv2.resize(portrait(), (960, 960), interpolation=cv2.INTER_LANCZOS4)
    one, other = _check(finder, portrait())[0], _check(finder, double)[0]
    assert other.sharpness == pytest.approx(one.sharpness, rel=0.35)


def test_thresholds_are_settings(finder, photograph, face):
    strict = replace(SETTINGS, min_inter_ocular_px=60.0)
    assert check_quality(photograph, (face,), strict)[1] == (RejectionReason.FACE_TOO_SMALL,)
    assert strict.sha256() != SETTINGS.sha256()


def _saved(rgb, **options):
    out = BytesIO()
    Image.fromarray(rgb).save(out, "JPEG", **options)
    return np.array(Image.open(out))


def _half_lit(rgb, face):
    """The picture's left two stops and more darker than its right."""
    middle = face.landmarks[[468, 473], 0].mean()
    gain = np.where(np.arange(rgb.shape[1]) < middle, 0.25, 1.0)
    return np.clip(np.rint(rgb * gain[None, :, None]), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda p, f: _saved(p, quality=20), RejectionReason.COMPRESSED),
        (
            lambda p, f: np.clip(p + np.random.default_rng(0).normal(0, 25, p.shape), 0, 255).astype(
                np.uint8
            ),
            RejectionReason.NOISY,
        ),
        (_half_lit, RejectionReason.UNEVEN_LIGHT),
    ],
)
def test_each_fault_of_the_picture_has_its_reason(photograph, face, spoil, reason):
    spoilt = photograph_from_rgb(spoil(photograph.rgb, face))
    assert reason in check_quality(spoilt, (face,), SETTINGS)[1]


def test_a_good_portrait_is_measured_in_physical_units(photograph, face):
    measures, reasons = check_quality(photograph, (face,), SETTINGS)
    assert reasons == ()
    assert measures.jpeg_quality > 60
    assert 0.5 < measures.blur_percent < 3.5
    assert -1.5 < measures.exposure_ev < 2
    assert abs(measures.light_asymmetry_ev) < 2


def test_a_low_quality_that_is_stated_is_measured(photograph, face):
    double = cv2.resize(photograph.rgb, None, fx=1.9, fy=1.9, interpolation=cv2.INTER_CUBIC)
    larger = Face(mesh=(face.mesh + 0.5) * 1.9 - 0.5, pose=face.pose)
    spoilt = photograph_from_rgb(_saved(double, quality=30))
    measures, reasons = check_quality(spoilt, (larger,), SETTINGS)
    assert measures.jpeg_quality == pytest.approx(30, abs=2)
    assert RejectionReason.COMPRESSED not in reasons
