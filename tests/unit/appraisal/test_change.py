from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from service.appraisal.appraiser import Appraiser
from service.appraisal.change import Verdict, compare_appraisals
from service.appraisal.repeatability import RegionRepeatability, Repeatability, save_repeatability
from service.commands.science.change import change
from service.errors import ConfigurationError
from service.exit_codes import ExitCode
from service.records import Region
from tests.unit.appraisal.photographs import grained, portrait


def _repeatability(method, smallest):
    figures = {
        region.value: RegionRepeatability(
            within_sd=smallest / 2.77, smallest_detectable_change=smallest, icc=0.9, photographs=9
        )
        for region in (Region.FACE, Region.NOSE)
    }
    return Repeatability(method=method, regions=figures, shift={}, rejected={})


@pytest.fixture(scope="module")
def appraisal(finder, photograph):
    return Appraiser("symmetry", face_finder=finder).appraise(photograph).appraisal


def _moved(appraisal, by):
    return replace(appraisal, regions=tuple(replace(p, score=p.score + by) for p in appraisal.regions))


@pytest.mark.parametrize(
    ("by", "verdict"),
    [
        (0.35, Verdict.BETTER),  # of two regions: p .022, under .025
        (-0.35, Verdict.WORSE),
        (0.31, Verdict.WITHIN_ERROR),  # beyond it for one region, not for one of two
        (0.29, Verdict.WITHIN_ERROR),
        (-0.29, Verdict.WITHIN_ERROR),
        (0.0, Verdict.WITHIN_ERROR),
    ],
)
def test_a_change_is_real_beyond_the_smallest_detectable_one(appraisal, by, verdict):
    found = compare_appraisals(appraisal, _moved(appraisal, by), _repeatability(appraisal.method, 0.3))
    by_region = {row.region: row for row in found}
    assert by_region[Region.FACE].verdict is by_region[Region.NOSE].verdict is verdict
    assert by_region[Region.FACE].difference == pytest.approx(by)
    assert by_region[Region.UPPER_LIP].verdict is Verdict.UNKNOWN


def test_the_primary_region_is_judged_alone_and_the_others_after_it(appraisal):
    known = _repeatability(appraisal.method, 0.3)
    small = compare_appraisals(appraisal, _moved(appraisal, 0.31), known, primary=Region.FACE)
    by_region = {row.region: row.verdict for row in small}
    assert (by_region[Region.FACE], by_region[Region.NOSE]) == (Verdict.BETTER, Verdict.BETTER)
    unmoved = replace(
        appraisal,
        regions=tuple(
            replace(p, score=p.score + (2 if p.region is Region.NOSE else 0)) for p in appraisal.regions
        ),
    )
    closed = compare_appraisals(appraisal, unmoved, known, primary=Region.FACE)
    assert {row.verdict for row in closed if row.region in (Region.FACE, Region.NOSE)} == {
        Verdict.WITHIN_ERROR
    }
    together = {row.region: row.verdict for row in compare_appraisals(appraisal, unmoved, known)}
    assert (together[Region.FACE], together[Region.NOSE]) == (Verdict.WITHIN_ERROR, Verdict.BETTER)


def test_another_calibration_of_the_same_scores_is_no_other_method(appraisal):
    rated = replace(appraisal, method=replace(appraisal.method, calibration="symmetry-ratings-2"))
    assert compare_appraisals(appraisal, rated, None)
    with pytest.raises(ConfigurationError, match="compare only"):
        compare_appraisals(
            appraisal, replace(appraisal, method=replace(appraisal.method, config_sha256="0" * 64)), None
        )


def test_what_is_not_known_is_not_called_a_change(appraisal):
    assert {r.verdict for r in compare_appraisals(appraisal, _moved(appraisal, 9), None)} == {Verdict.UNKNOWN}
    blind = replace(appraisal, regions=tuple(replace(p, score=None) for p in appraisal.regions))
    for row in compare_appraisals(blind, appraisal, _repeatability(appraisal.method, 0.3)):
        assert row.verdict is Verdict.UNKNOWN
        assert row.difference is None


def test_other_methods_and_weights_do_not_compare_but_other_calibrations_do(appraisal):
    other = replace(appraisal, method=replace(appraisal.method, weights_sha256="f" * 64))
    with pytest.raises(ConfigurationError, match="compare only"):
        compare_appraisals(appraisal, other, None)
    with pytest.raises(ConfigurationError, match="another method"):
        compare_appraisals(appraisal, appraisal, _repeatability(other.method, 0.3))
    rated = replace(appraisal.method, calibration="symmetry-ratings-linear-12345678")
    assert compare_appraisals(appraisal, appraisal, _repeatability(rated, 0.3))


def _invoke(*words):
    app = typer.Typer()
    app.command()(change)
    return CliRunner().invoke(app, [*map(str, words), "--method", "symmetry"])


@pytest.fixture
def photos(tmp_path):
    stained = portrait()
    cv2.circle(stained, (205, 140), 24, (80, 40, 40), -1)
    stained = grained(stained)  # flat, a gate takes the stain for missing data
    for name, rgb in (("before", stained), ("after", portrait()), ("empty", portrait() * 0)):
        Image.fromarray(rgb).save(tmp_path / f"{name}.png")
    return tmp_path


def test_the_command_uses_the_sites_repeatability(photos, appraisal, monkeypatch):
    site = photos / "site"
    save_repeatability(_repeatability(appraisal.method, 1e-3), site / "repeatability" / "symmetry.json")
    monkeypatch.setenv("SEMBLANCE_MODEL_DIR", str(site))
    better = _invoke(photos / "before.png", photos / "after.png")
    assert better.exit_code == 0, better.output
    assert "better" in better.output
    same = _invoke(photos / "after.png", photos / "after.png")
    assert "within error" in same.output
    assert "better" not in same.output


def test_the_command_says_what_it_cannot_compare(photos, appraisal):
    rejected = _invoke(photos / "empty.png", photos / "after.png")
    assert rejected.exit_code == ExitCode.REJECTED
    assert "empty.png" in rejected.stderr.replace("\n", "")
    missing = _invoke(Path("none.png"), photos / "after.png")
    assert missing.exit_code == ExitCode.FAILED
