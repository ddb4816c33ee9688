from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from service.appraisal.anomalies import NAMED, Canvas, inter_ocular_distance, render
from service.appraisal.appraiser import Appraiser
from service.appraisal.face.regions import region_masks
from service.appraisal.gates.occlusion import (
    OcclusionCalibration,
    excluded_regions,
    exclusion_notes,
    find_occlusion,
    load_occlusion_calibration,
    save_occlusion_calibration,
    without_cover,
)
from service.appraisal.gates.occlusion_gate import OcclusionGate
from service.appraisal.gates.occlusion_network import OcclusionNetwork
from service.appraisal.photograph.decode import photograph_from_rgb
from service.errors import ConfigurationError, ModelIntegrityError
from service.records import AppraisalStatus, ExclusionReason, Region, RejectionReason
from tests.unit.appraisal.photographs import portrait

CALIBRATION = OcclusionCalibration(
    version="occlusion-test",
    model="occlusion-face",
    basis="a test",
    probability=0.5,
    min_area=0.01,
    max_region=0.2,
    max_face=0.6,
)


@pytest.fixture(scope="module")
def masks(aligned):
    return region_masks(aligned.landmarks, (256, 256))


def _chance(masks, *regions):
    plane = np.zeros((256, 256), np.float32)
    for region in regions:
        plane[masks[region]] = 0.9
    return plane


def test_a_covered_region_is_left_out_and_no_other(masks):
    found = find_occlusion(_chance(masks, Region.LEFT_EYE), masks, CALIBRATION)
    assert found.regions == {Region.LEFT_EYE}
    assert found.shares[Region.LEFT_EYE] > 0.95
    assert found.shares[Region.RIGHT_EYE] == 0
    assert not found.too_much
    assert (found.left_out & ~masks[Region.LEFT_EYE]).sum() < 200


def test_a_region_covered_in_part_is_left_out_whole(masks):
    chance = _chance(masks, Region.CHIN)
    columns = np.flatnonzero(masks[Region.CHIN].any(axis=0))
    chance[:, columns[len(columns) // 2] :] = 0
    found = find_occlusion(chance, masks, CALIBRATION)
    assert 0.3 < found.shares[Region.CHIN] < 0.7
    assert found.left_out[masks[Region.CHIN]].all()
    assert not found.covered[masks[Region.CHIN]].all()


def test_what_is_small_or_improbable_counts_for_nothing(masks):
    chance = 0.4 * (_chance(masks, Region.LEFT_EYE) > 0).astype(np.float32)
    assert not find_occlusion(chance, masks, CALIBRATION).left_out.any()
    spot = np.zeros((256, 256), np.float32)
    rows, columns = np.nonzero(masks[Region.LEFT_CHEEK])
    cv2.circle(spot, (int(columns.mean()), int(rows.mean())), 7, 0.95, -1)
    assert not find_occlusion(spot, masks, CALIBRATION).left_out.any()


def test_a_composite_region_leaves_no_other_out(masks):
    found = find_occlusion(_chance(masks, Region.UPPER_LIP, Region.LOWER_LIP), masks, CALIBRATION)
    assert Region.ORONASAL in found.regions
    assert Region.NOSE not in found.regions
    assert not found.left_out[masks[Region.NOSE] & ~masks[Region.UPPER_LIP]].all()


def test_too_little_face_left_is_said(masks):
    assert find_occlusion(_chance(masks, Region.FACE), masks, CALIBRATION).too_much


def test_what_was_covered_is_replaced_and_marked_and_nothing_else(aligned, masks):
    covered = replace(aligned, rgb=aligned.rgb.copy())
    covered.rgb[masks[Region.LEFT_CHEEK]] = (0, 255, 0)
    occlusion = find_occlusion(_chance(masks, Region.LEFT_CHEEK), masks, CALIBRATION)
    bare = without_cover(covered, occlusion)
    assert not bare.inside[occlusion.left_out].any()
    away = cv2.dilate(occlusion.left_out.astype(np.uint8), np.ones((41, 41), np.uint8)) == 0
    np.testing.assert_array_equal(bare.rgb[away], aligned.rgb[away])
    error = np.abs(bare.rgb.astype(float) - aligned.rgb)[occlusion.left_out].mean()
    assert error < 0.3 * np.abs(covered.rgb.astype(float) - aligned.rgb)[occlusion.left_out].mean()
    nothing = find_occlusion(np.zeros((64, 64), np.float32), masks, CALIBRATION)
    assert without_cover(aligned, nothing) is aligned


def test_both_halves_covered_are_filled_from_around(aligned, masks):
    occlusion = find_occlusion(
        _chance(masks, Region.UPPER_LIP, Region.LOWER_LIP, Region.CHIN), masks, CALIBRATION
    )
    covered = replace(aligned, rgb=aligned.rgb.copy())
    covered.rgb[occlusion.left_out] = (0, 255, 0)
    filled = without_cover(covered, occlusion).rgb[occlusion.left_out].mean(axis=0)
    skin = aligned.rgb[masks[Region.LEFT_CHEEK]].mean(axis=0)
    assert np.abs(filled - skin).max() < 60


def test_regions_outside_the_picture_have_another_reason(masks):
    inside = ~masks[Region.FOREHEAD]
    excluded = excluded_regions(masks, inside, None)
    assert excluded[Region.FOREHEAD] is ExclusionReason.CUT_OFF
    assert Region.CHIN not in excluded
    assert "forehead left out: cut-off" in exclusion_notes(excluded)


def test_a_calibration_is_kept_and_a_bad_one_refused(tmp_path):
    path = save_occlusion_calibration(CALIBRATION, tmp_path)
    assert load_occlusion_calibration("occlusion-test", tmp_path) == CALIBRATION
    with pytest.raises(ConfigurationError, match="occlusion-none"):
        load_occlusion_calibration("occlusion-none", tmp_path)
    path.write_text(json.dumps({"version": "occlusion-test", "model": "m", "probability": "much"}))
    with pytest.raises(ConfigurationError, match="occlusion-test"):
        load_occlusion_calibration("occlusion-test", tmp_path)


def test_the_gate_runs_its_network_and_refuses_foreign_weights(aligned):
    torch.manual_seed(0)
    tensors = OcclusionNetwork().state_dict()
    gate = OcclusionGate(tensors, CALIBRATION)
    (found,) = gate.find([aligned])
    assert found.covered.shape == (256, 256)
    assert gate.find([]) == []
    one = gate.probabilities(np.stack([cv2.resize(aligned.rgb, (128, 128))] * 2))
    assert one.shape == (2, 64, 64)
    assert ((one > 0) & (one < 1)).all()
    np.testing.assert_allclose(one[0], one[1], atol=1e-5)
    with pytest.raises(ModelIntegrityError, match="occlusion"):
        OcclusionGate({"encoder.0.weight": torch.zeros(1)}, CALIBRATION)


class Green:
    """Takes pure green for something before the face: exact, and blind to all else."""

    def find(self, faces):
        found = []
        for face in faces:
            colour = face.rgb.astype(int)
            green = (colour[..., 1] > 150) & (colour[..., 0] < 90) & (colour[..., 2] < 90)
            masks = region_masks(face.landmarks, (face.size, face.size))
            found.append(find_occlusion(green.astype(np.float32), masks, CALIBRATION))
        return found


@pytest.fixture(scope="module")
def gated(finder):
    return Appraiser("symmetry", face_finder=finder, occlusion_finder=Green())


def _painted(face, *points):
    """The portrait with a green sheet over some landmarks' hull."""
    rgb = portrait()
    hull = cv2.convexHull(np.rint(face.landmarks[list(points)]).astype(np.int32))
    sheet = np.zeros(rgb.shape[:2], np.uint8)
    cv2.fillConvexPoly(sheet, hull, 1)
    folds = cv2.GaussianBlur(np.random.default_rng(0).normal(0, 60, rgb.shape[:2]), (0, 0), 1.2)
    green = np.clip(np.array([30, 200, 30]) + folds[..., None], 0, 255)
    return photograph_from_rgb(np.where(sheet[..., None] > 0, green, rgb).astype(np.uint8))


class SamePlace:
    """The portrait's face, wherever it is asked for."""

    def __init__(self, face):
        self._face = face

    def find(self, rgb):
        return (self._face,)

    def load(self):
        pass


CHEEK = (454, 346, 347, 348, 349, 343, 423, 426, 436, 291, 432, 434, 365, 397, 288, 361, 323)
LOWER_FACE = (234, 454, 197, 152, 172, 397, 132, 361, 58, 288, 149, 378)


def test_a_covered_region_is_not_judged_and_says_why(face):
    appraiser = Appraiser("symmetry", face_finder=SamePlace(face), occlusion_finder=Green())
    clean = appraiser.appraise(photograph_from_rgb(portrait())).appraisal
    result = appraiser.appraise(_painted(face, *CHEEK))
    appraisal = result.appraisal
    assert appraisal.status is AppraisalStatus.APPRAISED
    regions = {part.region: part for part in appraisal.regions}
    assert regions[Region.LEFT_CHEEK].reason is ExclusionReason.OCCLUDED
    assert regions[Region.LEFT_CHEEK].score is regions[Region.LEFT_CHEEK].z is None
    assert regions[Region.LEFT_CHEEK].occluded > 0.5
    assert regions[Region.FOREHEAD].reason is None
    assert regions[Region.FOREHEAD].score is not None
    assert 0.05 < appraisal.quality.occluded_fraction < 0.4
    assert clean.quality.occluded_fraction == 0
    assert any("left-cheek left out: occluded" in warning for warning in appraisal.warnings)
    x, y = np.rint(face.landmarks[425]).astype(int)
    assert np.isnan(result.maps.difference[y, x])
    # green is very anomalous: had it been judged, the score would have collapsed
    ungated = Appraiser("symmetry", face_finder=SamePlace(face)).appraise(_painted(face, *CHEEK)).appraisal
    assert abs(appraisal.score - clean.score) < 0.5 * abs(ungated.score - clean.score)


def test_too_little_face_is_a_rejection_with_its_reason(face):
    appraiser = Appraiser("symmetry", face_finder=SamePlace(face), occlusion_finder=Green())
    everything = appraiser.appraise(_painted(face, *range(468))).appraisal
    assert everything.status is AppraisalStatus.REJECTED
    assert everything.reasons == (RejectionReason.OCCLUDED,)
    assert everything.quality.occluded_fraction > 0.6


def test_a_covered_lower_face_leaves_the_eyes_to_be_judged(face):
    appraiser = Appraiser("symmetry", face_finder=SamePlace(face), occlusion_finder=Green())
    appraisal = appraiser.appraise(_painted(face, *LOWER_FACE)).appraisal
    assert appraisal.status is AppraisalStatus.APPRAISED
    regions = {part.region: part.reason for part in appraisal.regions}
    assert regions[Region.UPPER_LIP] is regions[Region.CHIN] is ExclusionReason.OCCLUDED
    assert regions[Region.LEFT_EYE] is regions[Region.RIGHT_EYE] is None


def test_a_face_with_nothing_before_it_is_judged_as_without_the_gate(gated, finder):
    photograph = photograph_from_rgb(portrait())
    plain = Appraiser("symmetry", face_finder=finder).appraise(photograph).appraisal
    assert gated.appraise(photograph).appraisal.score == plain.score


@pytest.fixture(scope="module")
def shipped(face):
    """The method as patients meet it, with the gate's own weights."""
    return Appraiser("default", face_finder=SamePlace(face))


def test_the_shipped_gate_leaves_a_covered_cheek_out_and_the_rest_in(shipped, face):
    appraisal = shipped.appraise(_painted(face, *CHEEK)).appraisal
    regions = {part.region: part.reason for part in appraisal.regions}
    assert regions[Region.LEFT_CHEEK] is ExclusionReason.OCCLUDED
    assert regions[Region.RIGHT_CHEEK] is regions[Region.FOREHEAD] is regions[Region.RIGHT_EYE] is None


@pytest.mark.parametrize("kind", [None, "lt-v1", "droop", "ptosis", "micrognathia", "nevus", "scar"])
def test_the_shipped_gate_takes_no_anomaly_for_a_cover(shipped, face, kind):
    rgb = portrait()
    if kind is not None:
        unit = inter_ocular_distance(face.landmarks)
        canvas = Canvas(image=rgb, landmarks=face.landmarks.astype(np.float32), unit=unit)
        change = NAMED[kind](canvas, 1.0, np.random.default_rng(3))
        rgb = render(rgb, change, np.eye(2, 3, dtype=np.float32)).image
    appraisal = shipped.appraise(photograph_from_rgb(rgb)).appraisal
    assert appraisal.status is AppraisalStatus.APPRAISED
    assert [part.region for part in appraisal.regions if part.reason is ExclusionReason.OCCLUDED] == []
