from __future__ import annotations

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from service.appraisal.appraiser import Appraiser
from service.appraisal.model_files.models import ModelStore
from service.appraisal.photograph.decode import photograph_from_rgb
from service.appraisal.registry import METHODS, identify
from service.appraisal.repeatability import (
    ALTERED,
    REPEATABILITY_DIR,
    find_repeatability,
    load_repeatability,
    repeatability_places,
    save_repeatability,
)
from service.appraisal.settings import AppraisalSettings
from service.commands.science.repeatability import repeatability
from service.errors import ConfigurationError
from service.evaluation.benchmark.subjects import people_of, photographs_in
from service.evaluation.repeatability import CONDITIONS, measure_repeatability, region_repeatability
from service.exit_codes import ExitCode
from service.records import Region
from tests.unit.appraisal.photographs import portrait


def test_known_variances_are_recovered():
    rng = np.random.default_rng(0)
    table = rng.normal(0, 2.0, (400, 1)) + rng.normal(0, 0.5, (400, 13))
    found = region_repeatability(table, np.arange(400).astype(str))
    assert found.within_sd == pytest.approx(0.5, rel=0.05)
    assert found.smallest_detectable_change == pytest.approx(1.386, rel=0.05)
    assert found.icc == pytest.approx(4 / 4.25, abs=0.02)
    assert (found.photographs, found.people) == (400, 400)
    assert region_repeatability(table[:3], np.array(["a", "b", "c"])) is None


def test_people_are_counted_and_not_photographs():
    rng = np.random.default_rng(1)
    who = np.repeat([f"person {number}" for number in range(40)], 10)
    table = rng.normal(0, 2.0, (40, 1)).repeat(10, 0) + rng.normal(0, 0.5, (400, 13))
    found = region_repeatability(table, who)
    assert (found.photographs, found.people) == (400, 40)
    assert found.within_sd == pytest.approx(0.5, rel=0.05)
    assert found.icc == region_repeatability(table[::10], who[::10]).icc
    assert region_repeatability(table[:40], who[:40]) is None


def test_folders_say_who_is_who(tmp_path):
    for name in ("anna/1.jpg", "anna/2.jpg", "ben/1.jpg", "alone.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    paths = photographs_in(tmp_path)
    assert len(set(people_of(paths, tmp_path))) == 3
    assert len(set(people_of([p for p in paths if p.parent != tmp_path]))) == 2
    assert len(set(people_of(list((tmp_path / "anna").iterdir())))) == 2
    answer = CliRunner().invoke(command(), [str(tmp_path), "--method", "symmetry"])
    assert answer.exit_code == ExitCode.USAGE
    assert "4 photographs of 3 people" in answer.stderr


def command():
    app = typer.Typer()
    app.command()(repeatability)
    return app


@pytest.mark.parametrize("name", [n for n in CONDITIONS if n != "as it is"])
def test_every_condition_changes_the_picture_a_little(name):
    again = CONDITIONS[name](portrait())
    assert again.dtype == np.uint8
    small = np.asarray(Image.fromarray(again).resize((320, 320)), float)
    difference = np.abs(small - portrait()).mean()
    assert 0.1 < difference < 40
    assert np.array_equal(again, CONDITIONS[name](portrait()))


def _people():
    rng = np.random.default_rng(0)
    for _ in range(5):
        tint = rng.uniform(0.8, 1.1, 3)
        large = np.asarray(Image.fromarray(portrait()).resize((640, 640)))
        yield np.clip(large * tint, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def found(finder):
    appraiser = Appraiser("symmetry", face_finder=finder)
    return measure_repeatability(appraiser, [photograph_from_rgb(rgb) for rgb in _people()])


def test_a_measurement_covers_regions_and_conditions(found):
    assert {"face", "nose", "upper-lip"} <= set(found.regions)
    assert list(found.shift) == list(CONDITIONS)
    assert found.shift["as it is"] == 0
    assert sum(found.rejected.values()) == 0
    assert 0 < found.regions["face"].within_sd < 0.5


def test_it_is_found_again_only_for_the_same_identity(found, tmp_path):
    save_repeatability(found, tmp_path / "symmetry.json")
    assert load_repeatability(tmp_path / "symmetry.json") == found
    assert find_repeatability(found.method, tmp_path) == found
    other = Appraiser("symmetry+ssim").identity
    assert find_repeatability(other, tmp_path) is None
    (tmp_path / "symmetry.json").write_text("{}")
    with pytest.raises(ConfigurationError):
        find_repeatability(found.method, tmp_path)


def test_photographs_without_a_face_are_too_few(finder):
    empty = photograph_from_rgb(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(ConfigurationError, match="judged"):
        measure_repeatability(Appraiser("symmetry", face_finder=finder), [empty])


def test_the_command_stores_and_explains(tmp_path):
    paths = []
    for number, rgb in enumerate(_people()):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(rgb).save(paths[-1])
    app = typer.Typer()
    app.command()(repeatability)
    out = tmp_path / "out.json"
    done = CliRunner().invoke(app, [*map(str, paths), "--method", "symmetry", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert load_repeatability(out).method.name == "symmetry"
    failed = CliRunner().invoke(app, [str(tmp_path / "none.png")])
    assert failed.exit_code == ExitCode.FAILED


@pytest.mark.parametrize(
    "words", [[], ["a.png", "--data", "."], ["--pairs", ".", "--data", "."], ["--data", "nowhere"]]
)
def test_photographs_or_archives_but_not_both_or_neither(words):
    app = typer.Typer()
    app.command()(repeatability)
    refused = CliRunner().invoke(app, [*words, "--method", "symmetry"])
    assert refused.exit_code == ExitCode.USAGE
    assert "photographs, --data or --pairs" in refused.stderr or "no faces_" in refused.stderr


def test_the_sites_own_place_comes_before_what_is_shipped(tmp_path):
    assert repeatability_places(tmp_path) == (tmp_path / "repeatability", REPEATABILITY_DIR)
    assert repeatability_places(None) == (REPEATABILITY_DIR,)


def test_what_is_shipped_holds_for_the_methods_as_they_are_and_for_every_region():
    """A change of weights, gates or mesh makes what was measured before it stale: measure anew."""
    stored = {path.stem: load_repeatability(path) for path in REPEATABILITY_DIR.glob("*.json")}
    assert {"default-3", "default-3-pairs", "symmetry-1", "symmetry-1-pairs"} == set(stored)
    for name, found in stored.items():
        method = METHODS[found.method.name]
        now = identify(method, AppraisalSettings(), ModelStore())
        assert found.holds_for(now), f"{name}: run semblance repeatability --method {method.name}"
        assert name.endswith("-pairs") == (found.basis != ALTERED)
        assert find_repeatability(now).basis != ALTERED, "real second photographs come first"
        assert set(found.regions) == {region.value for region in Region}
        assert all(part.photographs >= 20 for part in found.regions.values())
        assert all(0 < part.within_sd < part.smallest_detectable_change for part in found.regions.values())
