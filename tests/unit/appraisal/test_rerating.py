"""A score by another calibration: rated as if the photograph were appraised anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from service.appraisal.appraiser import Appraiser
from service.appraisal.calibration import load_calibration
from service.appraisal.model_files.models import ModelStore
from service.appraisal.photograph.decode import photograph_from_rgb
from service.appraisal.rerating import rated, rater_of
from service.errors import ConfigurationError
from service.records import Region
from service.training.rated_calibration import install_calibration
from tests.unit.appraisal.photographs import portrait


@pytest.fixture
def site(tmp_path: Path) -> ModelStore:
    """A directory with a calibration of the hospital's own raters, stricter than the product's."""
    shipped = load_calibration("symmetry-1")
    own = replace(
        shipped,
        version="symmetry-ratings-linear-1",
        rating_knots=((-0.5, 1.0), (3.0, 7.0)),
        normal_quantiles=tuple(value + 0.3 for value in shipped.normal_quantiles),
        regions={name: (mean + 0.2, 2 * deviation) for name, (mean, deviation) in shipped.regions.items()},
    )
    install_calibration(own, tmp_path)
    return ModelStore(tmp_path)


def test_it_is_what_an_appraisal_by_that_calibration_says(site: ModelStore) -> None:
    before = Appraiser("symmetry").appraise(photograph_from_rgb(portrait())).appraisal
    afresh = Appraiser("symmetry", store=site).appraise(photograph_from_rgb(portrait())).appraisal
    now = rated(before, rater_of("symmetry", site))
    assert now == replace(afresh, appraisal_id=before.appraisal_id)
    assert now.score == before.score
    assert now.rating != before.rating
    assert now.percentile != before.percentile
    assert [each.score for each in now.regions] == [each.score for each in before.regions]
    nose = {Region.NOSE: None} | {each.region: each.z for each in now.regions}
    assert nose[Region.NOSE] not in {None, *(each.z for each in before.regions)}


def test_the_way_back_leads_to_the_same(site: ModelStore) -> None:
    before = Appraiser("symmetry").appraise(photograph_from_rgb(portrait())).appraisal
    there = rated(before, rater_of("symmetry", site))
    assert rated(there, rater_of("symmetry", ModelStore())) == before


def test_another_method_version_weights_or_settings_are_not_comparable(site: ModelStore) -> None:
    before = Appraiser("symmetry").appraise(photograph_from_rgb(portrait())).appraisal
    rater = rater_of("symmetry", site)
    for name in ("name", "version", "normaliser", "comparator", "weights_sha256", "config_sha256"):
        other = replace(before, method=replace(before.method, **{name: "other"}))
        with pytest.raises(ConfigurationError, match="not comparable"):
            rated(other, rater)


def test_a_method_without_a_calibration_rates_nothing() -> None:
    before = Appraiser("symmetry").appraise(photograph_from_rgb(portrait())).appraisal
    with pytest.raises(ConfigurationError, match="calibration none"):
        rated(before, rater_of("symmetry+multiscale", ModelStore()))
