from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image
from pydicom.uid import JPEGBaseline8Bit

from service.appraisal.appraiser import Appraiser, appraisal_id
from service.appraisal.face.alignment import transform
from service.appraisal.model_files.models import ModelStore
from service.appraisal.photograph.decode import photograph_from_bytes, photograph_from_rgb
from service.appraisal.pictures.layout import Label
from service.appraisal.repeatability import find_repeatability
from service.errors import ModelNotFoundError, UnknownMethodError
from service.records import AppraisalStatus, Region, RejectionReason
from tests.unit.appraisal.photographs import encoded, native, part10, portrait


@pytest.fixture(scope="module")
def appraiser(finder):
    return Appraiser("symmetry", face_finder=finder)


@pytest.fixture(scope="module")
def clean(appraiser, photograph):
    return appraiser.appraise(photograph)


def _spotted(face, side=1):
    """The portrait with a dark spot on one cheek, and where it is."""
    x, y = np.rint(face.landmarks[280 if side > 0 else 50]).astype(int)
    rgb = portrait()
    cv2.circle(rgb, (int(x), int(y)), 6, (70, 40, 35), -1, cv2.LINE_AA)
    return photograph_from_rgb(rgb), (x, y)


def test_an_appraisal_is_complete(clean, photograph):
    appraisal, maps = clean.appraisal, clean.maps
    assert appraisal.status is AppraisalStatus.APPRAISED
    assert appraisal.reasons == ()
    assert appraisal.pixel_sha256 == photograph.pixel_sha256
    assert appraisal.method.name == "symmetry"
    assert 1 <= appraisal.rating <= 7
    assert 0 <= appraisal.percentile <= 100
    assert {r.region for r in appraisal.regions} == set(Region)
    assert all(r.score is not None and r.z is not None and r.judged > 0.8 for r in appraisal.regions)
    assert maps.difference.shape == photograph.rgb.shape[:2]
    assert maps.difference.dtype == np.float32
    assert 0.05 < np.isfinite(maps.difference).mean() < 0.4
    assert maps.heatmap().shape[0] == photograph.height
    assert max(maps.triptych(512).shape) <= 512
    assert maps.native.difference is maps.difference_aligned
    assert maps.label == Label(method="symmetry", version="version 1, symmetry-1")


def test_the_score_is_equation_3_of_the_map(clean):
    values = clean.maps.difference_aligned
    assert clean.appraisal.score == pytest.approx(-np.log(np.nanmean(values)), rel=1e-5)


@pytest.mark.parametrize("side", [1, -1])
def test_a_spot_lowers_the_score_and_stands_out_where_it_is(appraiser, clean, face, side):
    photograph, (x, y) = _spotted(face, side)
    result = appraiser.appraise(photograph)
    assert result.appraisal.score < clean.appraisal.score
    assert result.appraisal.rating <= clean.appraisal.rating
    excess = result.maps.difference - clean.maps.difference
    assert excess[y, x] > 0.2
    assert excess[y, x] > 5 * np.nanmean(np.abs(excess))
    region = Region.LEFT_CHEEK if side > 0 else Region.RIGHT_CHEEK
    before, after = (
        next(r.score for r in one.appraisal.regions if r.region is region) for one in (clean, result)
    )
    assert after < before


def test_the_map_follows_a_moved_and_scaled_face(appraiser, face):
    photograph, spot = _spotted(face)
    matrix = np.array([[1.6 * 0.99, -1.6 * 0.12, 150.0], [1.6 * 0.12, 1.6 * 0.99, 60.0]])
    moved = cv2.warpAffine(photograph.rgb, matrix, (800, 700), flags=cv2.INTER_CUBIC)
    result = appraiser.appraise(photograph_from_rgb(moved))
    x, y = np.rint(transform(np.array([spot], float), matrix)[0]).astype(int)
    assert result.maps.difference[y - 3 : y + 4, x - 3 : x + 4].mean() > 4 * np.nanmean(
        result.maps.difference
    )


def test_mirroring_keeps_the_score(appraiser, clean):
    mirrored = appraiser.appraise(photograph_from_rgb(portrait()[:, ::-1]))
    assert mirrored.appraisal.score == pytest.approx(clean.appraisal.score, abs=0.1)


def test_appraising_is_deterministic_down_to_the_id(appraiser, clean, photograph, finder):
    again = Appraiser("symmetry", face_finder=finder).appraise(photograph)
    assert again.appraisal == clean.appraisal
    assert np.array_equal(again.maps.difference, clean.maps.difference, equal_nan=True)
    assert np.array_equal(again.maps.heatmap(), clean.maps.heatmap())


def test_ids_depend_on_source_pixels_and_method(appraiser, clean, photograph, finder):
    other_source = appraiser.appraise(photograph, sop_instance_uid="1.2.3").appraisal
    other_method = Appraiser("symmetry+ssim", face_finder=finder).appraise(photograph).appraisal
    other_pixels = appraiser.appraise(photograph_from_rgb(portrait() // 2 + 60)).appraisal
    ids = {a.appraisal_id for a in (clean.appraisal, other_source, other_method, other_pixels)}
    assert len(ids) == 4
    assert clean.appraisal.appraisal_id == appraisal_id("", photograph.pixel_sha256, appraiser.identity)


def test_a_pair_has_a_score_but_no_rating(photograph, finder):
    appraisal = Appraiser("symmetry+pse", face_finder=finder).appraise(photograph).appraisal
    assert appraisal.score is not None
    assert (appraisal.rating, appraisal.percentile) == (None, None)
    assert all(r.z is None for r in appraisal.regions)


def test_a_batch_keeps_its_order_and_equals_one_by_one(appraiser, clean, photograph):
    empty = photograph_from_rgb(np.zeros((200, 200, 3), np.uint8))
    results = appraiser.appraise_batch([empty, photograph, empty])
    assert [r.appraisal.status.value for r in results] == ["rejected", "appraised", "rejected"]
    assert results[1].appraisal == clean.appraisal


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"nothing at all", RejectionReason.UNDECODABLE),
        (encoded(portrait(), JPEGBaseline8Bit)[:9000], RejectionReason.UNDECODABLE),
        (part10(native(portrait(), Rows=50_000, Columns=50_000)), RejectionReason.UNSUPPORTED),
        (part10(native(np.zeros((64, 64, 3), np.uint8))), RejectionReason.NO_FACE),
        (part10(native(np.hstack([portrait()] * 3))), RejectionReason.SEVERAL_FACES),
    ],
)
def test_what_cannot_be_judged_is_a_result_with_a_reason(appraiser, data, reason):
    result = appraiser.appraise_bytes(data, sop_instance_uid="1.2.3")
    assert result.appraisal.status is AppraisalStatus.REJECTED
    assert reason in result.appraisal.reasons
    assert result.appraisal.score is None
    assert result.appraisal.sop_instance_uid == "1.2.3"
    assert result.maps is None
    assert result.appraisal == appraiser.appraise_bytes(data, sop_instance_uid="1.2.3").appraisal


def test_dicom_brings_its_uid_along(appraiser):
    result = appraiser.appraise_bytes(part10(native(portrait())))
    assert result.appraisal.sop_instance_uid == "2.25.1234567890"


def test_an_unknown_method_and_a_missing_model_are_said_at_once(finder, tmp_path):
    with pytest.raises(UnknownMethodError):
        Appraiser("beauty", face_finder=finder)
    from service.appraisal.registry import COMPARATORS

    needing = [n for n, row in COMPARATORS.items() if row.models and n.startswith("deep")]
    for name in needing:
        with pytest.raises(ModelNotFoundError):
            Appraiser(f"symmetry+{name}", store=ModelStore(shipped_dir=tmp_path), face_finder=finder)


def _jpeg(rgb, times, quality=92):
    """A JPEG file of a picture enlarged so many times."""
    stream = io.BytesIO()
    large = cv2.resize(rgb, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC)
    Image.fromarray(large).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def test_a_large_face_is_decoded_at_half_its_size_and_scores_alike(finder):
    """Within the stored repeatability: a tenth of the smallest detectable change of the default method."""
    appraiser = Appraiser("default", face_finder=finder)
    data = _jpeg(cv2.resize(portrait(), (1000, 1000), interpolation=cv2.INTER_CUBIC), 4.0)
    whole = appraiser.appraise(photograph_from_bytes(data))
    reduced = appraiser.appraise_bytes(data)
    photograph = reduced.maps.face.photograph
    assert (photograph.reduction, photograph.height, photograph.sent_height) == (2, 2000, 4000)
    detectable = find_repeatability(appraiser.identity).regions["face"].smallest_detectable_change
    assert abs(reduced.appraisal.score - whole.appraisal.score) < detectable / 2
    assert reduced.appraisal.quality.inter_ocular_px == pytest.approx(
        whole.appraisal.quality.inter_ocular_px, rel=0.01
    )
    assert reduced.maps.difference.shape == (4000, 4000)
    x, y = whole.maps.face.face.landmarks[[4]].mean(0).round().astype(int)  # the tip of the nose
    near = reduced.maps.difference[y - 9 : y + 10, x - 9 : x + 10]
    assert np.isfinite(near).all()
    moved = reduced.maps.native.to_photograph @ (128, 128, 1) - whole.maps.native.to_photograph @ (
        128,
        128,
        1,
    )
    assert np.abs(moved).max() < 4  # of 4,000 pixels


def test_a_small_face_in_a_large_photograph_is_decoded_whole(finder):
    scene = np.full((3000, 4000, 3), 128, np.uint8)
    small = cv2.resize(portrait(), (700, 700), interpolation=cv2.INTER_AREA)
    scene[1000:1700, 1500:2200] = small
    result = Appraiser("symmetry", face_finder=finder).appraise_bytes(_jpeg(scene, 1.0))
    assert result.maps.face.photograph.reduction == 1
    assert result.maps.face.photograph.height == 3000


@pytest.mark.parametrize("quality", [15, 60, 90])
def test_a_reduced_picture_tells_the_same_of_its_compression(finder, quality):
    appraiser = Appraiser("symmetry", face_finder=finder)
    rgb = cv2.resize(portrait(), (1000, 1000), interpolation=cv2.INTER_CUBIC)
    noisy = np.clip(rgb + np.random.default_rng(0).normal(0, 4, rgb.shape), 0, 255).astype(np.uint8)
    data = _jpeg(noisy, 4.0, quality)
    reduced = appraiser.appraise_bytes(data).appraisal.quality.jpeg_quality
    assert reduced == pytest.approx(quality, abs=6)
