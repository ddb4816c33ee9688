from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from service.appraisal.calibration import (
    CALIBRATIONS_DIR,
    Calibration,
    isotonic_knots,
    linear_knots,
    load_calibration,
    map_range,
    named_by_content,
    normal_cohort,
    read_calibration,
    region_statistics,
    save_calibration,
)
from service.appraisal.gates.occlusion import load_occlusion_calibration
from service.appraisal.registry import METHODS
from service.errors import ConfigurationError
from service.records import Region


@pytest.fixture
def calibration() -> Calibration:
    return Calibration(
        version="test-1",
        method="symmetry",
        method_version="1",
        basis="made up",
        rating_knots=((1.0, 1.0), (3.0, 7.0)),
        normal_quantiles=tuple(round(v, 6) for v in normal_cohort(np.linspace(2, 4, 1001))),
        regions={"nose": (2.0, 0.5)},
        map_range=(0.1, 2.0),
    )


def test_rating_percentile_and_z(calibration):
    assert [calibration.rating(s) for s in (0, 1, 2, 3, 9)] == [1, 1, 4, 7, 7]
    assert [calibration.percentile(s) for s in (0, 2.5, 9)] == pytest.approx([0, 25, 100])
    assert calibration.z(Region.NOSE, 1.0) == pytest.approx(2.0)
    assert calibration.z(Region.CHIN, 1.0) is None


def test_a_calibration_comes_back_from_disk(calibration, tmp_path):
    save_calibration(calibration, tmp_path)
    assert load_calibration("test-1", tmp_path) == calibration


@pytest.mark.parametrize(
    "change", [{"rating_knots": None}, {"regions": {"nose": [1]}}, {"map_range": ["a", 2]}]
)
def test_a_malformed_calibration_is_refused(calibration, tmp_path, change):
    path = save_calibration(calibration, tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigurationError):
        load_calibration("test-1", tmp_path)
    with pytest.raises(ConfigurationError):
        load_calibration("absent", tmp_path)


def test_every_method_has_the_calibration_it_names():
    for method in METHODS.values():
        if method.calibration:
            stored = load_calibration(method.calibration)
            assert (stored.method, stored.method_version) == (method.name, method.version)
            assert list(stored.normal_quantiles) == sorted(stored.normal_quantiles)
            assert stored.map_range[0] < stored.map_range[1]
        if method.occlusion:
            assert load_occlusion_calibration(method.occlusion).version == method.occlusion
    named = {version for m in METHODS.values() for version in (m.calibration, m.occlusion)}
    assert {p.stem for p in CALIBRATIONS_DIR.glob("*.json")} == named - {""}


def test_the_papers_anchors():
    scores, ratings = [5, 1, 2, 3, 4, 6, 10, 11, 12], [4, 1, 1, 2, 3, 5, 6, 7, 7]
    low, high = linear_knots(scores, ratings)
    assert low == pytest.approx((2.0, 4 / 3))
    assert high == pytest.approx((11.0, 20 / 3))


@pytest.mark.parametrize(
    ("scores", "ratings"),
    [([1, 2, 3], [1, 2, 3]), ([6, 5, 4, 3, 2, 1], [1, 2, 3, 4, 5, 6]), ([1] * 6, [1] * 6)],
)
def test_anchors_that_cannot_be_made(scores, ratings):
    with pytest.raises(ConfigurationError):
        linear_knots(scores, ratings)


def test_isotonic_fit_is_monotone_and_within_the_scale():
    rng = np.random.default_rng(0)
    truth = np.linspace(1, 7, 60)
    knots = isotonic_knots(list(truth + rng.normal(0, 0.8, 60)), list(truth))
    assert [y for _, y in knots] == sorted(y for _, y in knots)
    assert all(1 <= y <= 7 for _, y in knots)
    with pytest.raises(ConfigurationError):
        isotonic_knots([1.0, 1.0], [2.0, 3.0])
    with pytest.raises(ConfigurationError, match="rise"):
        isotonic_knots([1.0, 2.0, 3.0, 4.0], [6.0, 4.0, 5.0, 2.0])


def test_statistics_of_a_cohort():
    stats = region_statistics({Region.NOSE: [1.0, 3.0], Region.CHIN: [1.0]})
    assert stats == {"nose": pytest.approx((2.0, np.sqrt(2)))}
    low, high = map_range([np.array([[1, 2], [3, np.nan]], np.float32)])
    assert low == pytest.approx(2.0)
    assert high == pytest.approx(1.5 * 2.98)


def test_calibrations_that_differ_in_anything_bear_different_names(tmp_path):
    """Results name what they were rated by: of two calibrations of one name nobody would know which."""
    made = replace(load_calibration("default-3"), version="whatever")
    named = named_by_content(made, "default-site")
    assert re.fullmatch(r"default-site-[0-9a-f]{8}", named.version)
    assert named_by_content(replace(made, version="another"), "default-site") == named
    assert read_calibration(save_calibration(named, tmp_path)) == read_calibration(
        save_calibration(named_by_content(named, "default-site"), tmp_path)
    )
    knots = ((made.rating_knots[0][0] + 1e-5, 1.0), *made.rating_knots[1:])
    quantiles = (made.normal_quantiles[0] - 1e-5, *made.normal_quantiles[1:])
    region, (mean, sd) = next(iter(made.regions.items()))
    assert made.colour_scale is not None
    others = (
        replace(made, rating_knots=knots),
        replace(made, normal_quantiles=quantiles),
        replace(made, regions={**made.regions, region: (mean + 1e-5, sd)}),
        replace(made, map_range=(made.map_range[0], made.map_range[1] * 1.001)),
        replace(made, basis="other people"),
        replace(made, weights_sha256="0" * 64),
        replace(made, method_version="0"),
        replace(made, colour_scale=None),
    )
    assert len({named_by_content(each, "default-site").version for each in (made, *others)}) == 1 + len(
        others
    )
