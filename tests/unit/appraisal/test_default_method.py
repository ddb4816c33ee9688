"""The shipped weights, end to end on a public-domain portrait."""

import subprocess
import sys

import numpy as np
import pytest

from service.appraisal.anomalies import NAMED, Canvas, inter_ocular_distance, render
from service.appraisal.appraiser import Appraiser
from service.appraisal.calibration import load_calibration
from service.appraisal.face.regions import region_masks
from service.appraisal.model_files.models import ModelState, ModelStore
from service.appraisal.photograph.decode import photograph_from_rgb
from service.appraisal.score import score
from service.records import AppraisalStatus, Region

MOST_BYTES = 40_000_000


@pytest.fixture(scope="module")
def appraiser(finder):
    return Appraiser("default", face_finder=finder, device="cpu")


@pytest.fixture(scope="module")
def canvas(photograph, face):
    landmarks = face.landmarks.astype(np.float32)
    return Canvas(image=photograph.rgb, landmarks=landmarks, unit=inter_ocular_distance(landmarks))


def appraised(appraiser, image):
    return appraiser.appraise(photograph_from_rgb(np.ascontiguousarray(image)))


def test_the_shipped_files_are_what_the_manifest_says_and_small():
    store = ModelStore()
    shipped = [
        s for s in store.status() if s.entry.id in {"default-face", "default-fusion", "default-counterpart"}
    ]
    assert [s.state for s in shipped] == [ModelState.PRESENT] * 3
    assert sum(s.path.stat().st_size for s in shipped) < MOST_BYTES
    assert {s.entry.line for s in shipped} == {"research"}


@pytest.mark.parametrize("kind", ["droop", "nevus"])
def test_an_anomaly_lowers_the_score_and_is_where_the_map_is_high(appraiser, canvas, kind):
    sham = appraised(appraiser, render(canvas.image, None).image)
    rendered = render(canvas.image, NAMED[kind](canvas, 1.0, np.random.default_rng(1)))
    changed = appraised(appraiser, rendered.image)
    assert changed.appraisal.score < sham.appraisal.score
    difference = changed.maps.difference
    judged = np.isfinite(difference)
    inside = difference[judged & rendered.mask].mean()
    assert inside > 1.5 * difference[judged & ~rendered.mask].mean()


def test_the_map_explains_the_regions_and_all_evidence_the_face(appraiser, photograph):
    result = appraised(appraiser, photograph.rgb)
    assert result.appraisal.status is AppraisalStatus.APPRAISED
    masks = region_masks(result.maps.face.landmarks, (256, 256))
    for part in result.appraisal.regions:
        by_map = score(result.maps.difference_aligned, masks[part.region])
        whole = part.region is Region.FACE
        assert part.score == pytest.approx(result.appraisal.score if whole else by_map)
    assert 1 <= result.appraisal.rating <= 7
    assert result.appraisal.percentile is not None
    assert all(region.z is not None for region in result.appraisal.regions if region.score is not None)


@pytest.mark.parametrize("kind", ["droop", "nevus", "ptosis"])
def test_an_anomaly_is_named_where_it_is_and_not_elsewhere(appraiser, canvas, kind):
    sham = appraised(appraiser, render(canvas.image, None).image).appraisal
    rendered = render(canvas.image, NAMED[kind](canvas, 1.0, np.random.default_rng(1)))
    changed = appraised(appraiser, rendered.image).appraisal
    masks = region_masks(canvas.landmarks.astype(np.float64), canvas.image.shape[:2])
    shares = {region: rendered.mask[mask].mean() for region, mask in masks.items()}
    before = {part.region: part.z for part in sham.regions}
    rise = {part.region: part.z - before[part.region] for part in changed.regions}
    parts = [region for region in rise if region is not Region.FACE]
    most = max(parts, key=shares.__getitem__)
    untouched = [rise[region] for region in parts if shares[region] == 0]
    assert rise[most] > 3
    assert max(untouched) < 0.6 * rise[most], "what spills over from next to it"
    assert np.median(untouched) < 0.2 * rise[most]


def test_mirroring_a_photograph_moves_its_score_less_than_normal_faces_differ(appraiser, photograph):
    """The reading does not change under mirroring; the generic mesh, and with it the alignment, does."""
    one = appraised(appraiser, photograph.rgb).appraisal.score
    two = appraised(appraiser, photograph.rgb[:, ::-1]).appraisal.score
    quantiles = load_calibration("default-3").normal_quantiles
    assert abs(one - two) < 0.5 * (quantiles[95] - quantiles[5])


def test_the_same_photograph_twice_is_the_same_appraisal(appraiser, photograph):
    one, two = (appraised(appraiser, photograph.rgb) for _ in range(2))
    assert one.appraisal == two.appraisal
    np.testing.assert_array_equal(one.maps.difference, two.maps.difference)


def test_naming_the_methods_does_not_import_torch():
    code = "import service.appraisal.registry, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
