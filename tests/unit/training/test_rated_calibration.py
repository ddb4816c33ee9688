from __future__ import annotations

import re
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from service.appraisal.appraiser import Appraiser
from service.appraisal.calibration import isotonic_knots, load_calibration
from service.appraisal.face.finder import MediapipeFaceFinder, RememberingFaceFinder
from service.appraisal.model_files.models import ModelStore, read_manifest
from service.appraisal.photograph.decode import read_photograph
from service.appraisal.registry import find_method
from service.appraisal.site import at_site, with_calibration
from service.commands.science.validate import validate_command
from service.errors import ConfigurationError, ModelIntegrityError
from service.evaluation.statistics import RaterAgreement
from service.evaluation.validation import MethodScores, Ratings, Validation
from service.exit_codes import ExitCode
from service.records import Region
from service.training.cross_validation import held_out_agreement, people_of_names
from service.training.model_card import entry_of, put_rows
from service.training.rated_calibration import (
    Fit,
    calibrate_on_ratings,
    carry_site,
    held_out,
    install_calibration,
    stale_calibrations,
    straight_knots,
)
from tests.unit.appraisal.photographs import grained, portrait

STAINS = 8


@pytest.fixture(scope="module")
def finder():
    return RememberingFaceFinder(MediapipeFaceFinder())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A portrait with ever more of one cheek stained, and two raters who see it."""
    made = tmp_path_factory.mktemp("hospital")
    lines = ["photo,rater,rating"]
    for stain in range(STAINS):
        rgb = portrait()
        if stain:
            cv2.circle(rgb, (205, 140), 3 * stain, (80, 40, 40), -1)
            rgb = grained(rgb)  # flat, a gate takes the stain for missing data
        Image.fromarray(rgb).save(made / f"p{stain}.png")
        lines += [
            f"p{stain}.png,{rater},{7 - stain * (0.8 if stain < 3 else 0.35) - 0.2 * i}"
            for i, rater in enumerate("ab")
        ]
    (made / "ratings.csv").write_text("\n".join(lines) + "\n")
    return made


def _validation(scores, means, method="symmetry"):
    table = np.array([[mean, mean] for mean in means])
    return Validation(
        ratings=Ratings(photos=tuple(f"p{i}.png" for i in range(len(means))), raters=("a", "b"), table=table),
        raters=RaterAgreement(model="ICC(2)", single=1.0, mean=1.0),
        scores=(MethodScores(method=method, scores={Region.FACE: tuple(scores)}),),
        results=(),
        rejected=(),
    )


SCORES, MEANS = [0.1, 0.2, 0.3, 1.0, 1.1, 1.2, 1.3, None], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 5.0]


def test_the_papers_anchors_are_the_means_of_three(tmp_path):
    made = calibrate_on_ratings(_validation(SCORES, MEANS), "symmetry", Fit.ANCHORS, tmp_path, ModelStore())
    assert np.array(made.rating_knots) == pytest.approx(np.array([(0.2, 2.0), (1.2, 6.0)]))
    assert made.rating(0.7) == pytest.approx(4.0)


def test_a_straight_line_is_least_squares_and_has_to_rise():
    scores, ratings = [1.0, 2.0, 3.0, 4.0], [2.0, 3.1, 3.9, 5.0]
    slope, offset = np.polyfit(scores, ratings, 1)
    (low, least), (high, most) = straight_knots(scores, ratings)
    assert (least, most) == (1, 7)
    assert [slope * low + offset, slope * high + offset] == pytest.approx([1, 7])
    with pytest.raises(ConfigurationError, match="rise"):
        straight_knots(scores, ratings[::-1])


def test_isotonic_ratings_never_fall(tmp_path):
    means = [1.0, 3.0, 2.0, 4.0, 6.0, 5.0, 7.0, 5.0]
    made = calibrate_on_ratings(_validation(SCORES, means), "symmetry", Fit.ISOTONIC, tmp_path, ModelStore())
    ratings = [made.rating(score) for score in np.linspace(0, 2, 50)]
    assert ratings == sorted(ratings)
    assert made.rating(0.25) == pytest.approx(2.5)


def test_the_version_follows_from_what_it_was_made_of(tmp_path):
    one, again = (
        calibrate_on_ratings(_validation(SCORES, MEANS), "symmetry", Fit.LINEAR, tmp_path, ModelStore())
        for _ in range(2)
    )
    other = calibrate_on_ratings(
        _validation(SCORES, [*MEANS[:-2], 6.5, 5.0]), "symmetry", Fit.LINEAR, tmp_path, ModelStore()
    )
    assert one == again
    assert one.version != other.version
    assert one.normal_quantiles == other.normal_quantiles


@pytest.mark.parametrize(
    ("scores", "method", "said"),
    [(SCORES, "symmetry+pse", "not among"), ([-s if s else s for s in SCORES], "symmetry", "not above")],
)
def test_what_cannot_be_calibrated_is_explained(scores, method, said, tmp_path):
    with pytest.raises(ConfigurationError, match=said):
        calibrate_on_ratings(_validation(scores, MEANS), method, Fit.ANCHORS, tmp_path, ModelStore())


def test_a_method_without_a_cohort_needs_normal_photographs(tmp_path):
    validation = _validation(SCORES, MEANS, "symmetry+pse")
    with pytest.raises(ConfigurationError, match="2 photographs are rated 6"):
        calibrate_on_ratings(validation, "symmetry+pse", Fit.ANCHORS, tmp_path, ModelStore())


def test_photographs_that_could_not_be_judged_are_no_part_of_the_cohort(folder, finder, tmp_path):
    for path in folder.glob("*.png"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "p0.png").write_bytes(b"no picture")
    scores = [None, *(3.0 + 0.1 * i for i in range(1, STAINS))]
    validation = _validation(scores, [6.0 + 0.1 * i for i in range(STAINS)], "symmetry+pse")
    made = calibrate_on_ratings(
        validation, "symmetry+pse", Fit.ANCHORS, tmp_path, ModelStore(), finder=finder
    )
    assert f"the {STAINS - 1} photographs rated 6 or more" in made.basis


def test_the_appraiser_rates_as_the_raters_do_from_the_model_directory(folder, finder, tmp_path):
    app = typer.Typer()
    app.command()(validate_command)
    site, photo = tmp_path / "site", folder / "p6.png"
    words = [str(folder / "ratings.csv"), "--photos", str(folder), "--method", "symmetry", "--draws", "50"]
    words += ["--out", str(tmp_path / "report"), "--calibrate", "symmetry", "--fit", "isotonic"]
    done = CliRunner().invoke(app, [*words, "--calibration", str(site)])
    assert done.exit_code == 0, done.output
    before = Appraiser("symmetry", face_finder=finder).appraise(read_photograph(photo)).appraisal
    after = Appraiser("symmetry", store=ModelStore(site), face_finder=finder)
    found = after.appraise(read_photograph(photo)).appraisal
    assert found.score == pytest.approx(before.score)
    assert found.rating == pytest.approx(7 - 6 * 0.35 - 0.1, abs=0.3)
    assert found.percentile == pytest.approx(before.percentile)
    assert found.method.calibration.startswith("symmetry-ratings-isotonic-")
    assert found.method.rating_basis == "calibrated on the site's human ratings"
    assert before.method.rating_basis == "calibrated on computed scores, not on human ratings"
    assert found.appraisal_id != before.appraisal_id
    assert found.method.calibration in done.stderr


def test_a_pair_gets_cohort_and_scale_and_a_changed_file_is_refused(folder, finder, tmp_path):
    scores = [3.0 + 0.1 * i for i in range(STAINS)]
    validation = _validation(scores, [6.0 + 0.1 * i for i in range(STAINS)], "symmetry+pse")
    made = calibrate_on_ratings(validation, "symmetry+pse", Fit.ANCHORS, folder, ModelStore(), finder=finder)
    assert len(made.normal_quantiles) == 101
    path = install_calibration(made, tmp_path)
    install_calibration(replace(made, version="symmetry+pse-ratings-2"), tmp_path)
    install_calibration(made, tmp_path)
    assert set(read_manifest(tmp_path / "models_manifest.toml")) == {
        "symmetry+pse-calibration",
        f"calibration-{made.version}",
        "calibration-symmetry+pse-ratings-2",
    }
    store = ModelStore(tmp_path)
    for version in (made.version, "symmetry+pse-ratings-2"):
        chosen = Appraiser("symmetry+pse", store=store, face_finder=finder, calibration=version)
        assert chosen.identity.calibration == version
    with pytest.raises(ConfigurationError, match=re.escape(made.version)):
        Appraiser("symmetry+pse", store=store, face_finder=finder, calibration="symmetry-1")
    assert not Appraiser("symmetry+pse", face_finder=finder).identity.rating_basis
    result = Appraiser("symmetry+pse", store=ModelStore(tmp_path), face_finder=finder).appraise(
        read_photograph(folder / "p0.png")
    )
    assert result.appraisal.rating is not None
    assert result.appraisal.percentile is not None
    path.write_text(path.read_text().replace("101", "102") + " ")
    with pytest.raises(ModelIntegrityError):
        Appraiser("symmetry+pse", store=ModelStore(tmp_path), face_finder=finder)


def test_calibrating_needs_a_place_for_the_calibration(folder):
    app = typer.Typer()
    app.command()(validate_command)
    words = [str(folder / "ratings.csv"), "--photos", str(folder), "--calibrate", "symmetry"]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == ExitCode.USAGE
    assert "belong together" in refused.stderr


def test_agreement_is_told_of_ratings_it_was_not_fitted_to():
    rng = np.random.default_rng(0)
    means = rng.uniform(1, 7, 60)
    scores = list(means / 3 + rng.normal(0, 0.3, 60))
    found = held_out(_validation(scores, list(means)), "symmetry", Fit.ISOTONIC)
    assert (found.people, found.folds, found.agreement.photographs) == (60, 10, 60)
    knots = isotonic_knots(scores, list(means))
    fitted = np.abs(np.interp(scores, *zip(*knots, strict=True)) - means).mean()
    assert found.agreement.mae.value > fitted  # who is judged on what he learnt from looks better
    with pytest.raises(ConfigurationError, match="do not rise"):
        held_out(_validation([-score for score in scores], list(means)), "symmetry", Fit.LINEAR)


def test_nobody_is_rated_by_a_fit_to_his_own_photographs():
    seen = []

    def fit(scores, ratings):
        seen.append(set(ratings))
        return straight_knots(scores, ratings)

    people = people_of_names([f"{name}/{number}.jpg" for name in "abcd" for number in range(5)])
    ratings = [float(1 + "abcd".index(name) + number / 10) for name in people for number in (0,)]
    found = held_out_agreement(fit, [rating / 2 for rating in ratings], ratings, people)
    assert (found.people, found.folds) == (4, 4)
    assert sorted(len(each) for each in seen) == [3, 3, 3, 3]
    assert people_of_names(["a.jpg", "b.jpg", "c/d.jpg"]) == ("a.jpg", "b.jpg", "c")


def test_a_calibration_takes_the_sites_weights_along_and_none_is_lost(tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    site.mkdir()
    shutil.copy(ModelStore().path("default-face"), site / "face.safetensors")
    row = entry_of("default-face", site / "face.safetensors", line="site", licence="x", intended_use="y")
    put_rows([row], site)
    store = ModelStore(site)
    weights = store.sha256(("default-face", "default-counterpart", "default-fusion"))
    made = replace(load_calibration("default-3"), version="default-ratings-linear-1", weights_sha256=weights)
    install_calibration(replace(made, version="default-site-1"), site)
    store = ModelStore(site)
    carry_site("default", store, elsewhere)
    install_calibration(made, elsewhere)
    there = ModelStore(elsewhere)
    assert there.sha256(("default-face", "default-counterpart", "default-fusion")) == weights
    assert at_site(find_method("default"), there).calibration == made.version
    _, older = with_calibration(find_method("default"), "default-site-1", there)
    assert older.weights_sha256 == weights
    assert stale_calibrations(elsewhere, "default") == ()
    put_rows([replace(row, file="other.safetensors", sha256="0" * 64)], elsewhere)
    assert stale_calibrations(elsewhere, "default") == (made.version,)
