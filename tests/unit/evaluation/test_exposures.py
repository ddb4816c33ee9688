from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from service.appraisal.appraiser import Appraiser
from service.appraisal.photograph.decode import photograph_from_rgb
from service.appraisal.repeatability import (
    ALTERED,
    find_repeatability,
    load_repeatability,
    save_repeatability,
)
from service.commands.science.repeatability import repeatability
from service.errors import ConfigurationError
from service.evaluation.exposures import EXPRESSION, RETAKE, Exposure, exposures_in, measure_exposures
from service.exit_codes import ExitCode
from tests.unit.appraisal.photographs import portrait

PEOPLE = 5


def taken(person, number=0, *, dark=0.0):
    """The portrait in somebody's tint, with grain of its own, and one side darker."""
    rng = np.random.default_rng((person, number))
    tint = np.random.default_rng(person).uniform(0.85, 1.05, 3)
    ramp = np.linspace(1 + dark, 1 - dark, portrait().shape[1])[None, :, None]
    rgb = portrait() * tint * ramp + rng.normal(0, 2, portrait().shape)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def exposures(shots):
    """Shots (person, expression, picture) as exposures."""
    return [
        Exposure(person=str(person), expression=expression, read=lambda rgb=rgb: photograph_from_rgb(rgb))
        for person, expression, rgb in shots
    ]


@pytest.fixture(scope="module")
def appraiser(finder):
    return Appraiser("symmetry", face_finder=finder)


@pytest.fixture(scope="module")
def found(appraiser):
    shots = [(who, "calm", taken(who, n)) for who in range(PEOPLE) for n in range(2)]
    shots += [(who, "odd", taken(who, 2, dark=0.25)) for who in range(PEOPLE)]
    return measure_exposures(appraiser, exposures(shots))


def test_retakes_and_expressions_are_told_apart_by_region(found):
    assert "real photographs of 5 people" in found.basis
    assert "(calm, odd)" in found.basis
    face = found.regions["face"]
    assert (face.people, face.photographs) == (PEOPLE, 3 * PEOPLE)
    assert face.smallest_detectable_change == pytest.approx(1.96 * 2**0.5 * face.within_sd)
    retake, expression = (found.apart[kind] for kind in (RETAKE, EXPRESSION))
    assert set(retake) == set(expression) == set(found.regions)
    assert retake["face"].photographs == 2 * PEOPLE
    assert retake["face"].within_sd < face.within_sd < expression["face"].within_sd
    assert found.rejected == {"calm": 0, "odd": 0}
    assert found.shift["odd"] < 0 < found.shift["calm"]


def test_what_real_photographs_vary_by_comes_before_what_a_computer_altered(found, tmp_path):
    altered = replace(found, basis=ALTERED, apart={})
    save_repeatability(altered, tmp_path / "a.json")
    assert find_repeatability(found.method, tmp_path) == altered
    save_repeatability(found, tmp_path / "b-pairs.json")
    assert load_repeatability(tmp_path / "b-pairs.json") == found
    assert find_repeatability(found.method, tmp_path) == found


def test_people_who_could_not_be_judged_twice_are_too_few(appraiser):
    nobody = np.zeros((64, 64, 3), np.uint8)
    shots = [(who, "", nobody) for who in range(PEOPLE) for _ in range(2)]
    with pytest.raises(ConfigurationError, match="judged twice"):
        measure_exposures(appraiser, exposures(shots))


def test_a_folder_and_an_archive_hold_the_same_people(tmp_path):
    folder, parts, who, how = tmp_path / "people", [], [], []
    for person in range(PEOPLE):
        for name in ("calm", "smiling"):
            path = folder / f"p{person}" / name / "1.jpg"
            path.parent.mkdir(parents=True)
            Image.fromarray(taken(person)).save(path, quality=95)
            parts.append(path.read_bytes())
            who.append(f"p{person}")
            how.append(name)
    np.savez(
        tmp_path / "pairs.npz",
        jpeg=np.frombuffer(b"".join(parts), np.uint8),
        offset=np.cumsum([0, *map(len, parts)]),
        person=np.array(who),
        expression=np.array(how),
    )
    one, other = exposures_in(folder), exposures_in(tmp_path / "pairs.npz")
    assert [(e.person, e.expression) for e in one] == [(e.person, e.expression) for e in other]
    assert np.array_equal(one[3].read().rgb, other[3].read().rgb)


def command():
    app = typer.Typer()
    app.command()(repeatability)
    return app


def test_the_command_measures_a_sites_people_and_stores_it_apart(tmp_path, monkeypatch):
    for person in range(PEOPLE):
        for number in range(2):
            path = tmp_path / "people" / f"p{person}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(taken(person, number)).save(path)
    (tmp_path / "people" / "once").mkdir()
    Image.fromarray(taken(9)).save(tmp_path / "people" / "once" / "1.png")
    monkeypatch.setenv("SEMBLANCE_MODEL_DIR", str(tmp_path / "site"))
    done = CliRunner().invoke(command(), ["--pairs", str(tmp_path / "people"), "--method", "symmetry"])
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "real photographs of 5 people" in said
    assert "By retake alone" not in said, "there is nothing else"
    stored = load_repeatability(tmp_path / "site" / "repeatability" / "symmetry-1-pairs.json")
    assert stored.regions["nose"].people == PEOPLE


@pytest.mark.parametrize("fault", ["nobody", "once", "archive"])
def test_what_is_no_second_photograph_is_refused(tmp_path, fault):
    picture = io.BytesIO()
    Image.fromarray(portrait()).save(picture, "png")
    place = tmp_path / "people"
    for person in range(PEOPLE):
        (place / f"p{person}").mkdir(parents=True)
        (place / f"p{person}" / "1.png").write_bytes(picture.getvalue())
    if fault == "nobody":
        (place / "1.png").write_bytes(picture.getvalue())
    if fault == "archive":
        place = tmp_path / "pairs.npz"
        place.write_bytes(b"none")
    refused = CliRunner().invoke(command(), ["--pairs", str(place), "--method", "symmetry"])
    assert refused.exit_code == ExitCode.USAGE
    said = {"nobody": "is of nobody", "once": "0 people with two", "archive": "not an archive of exposures"}
    assert said[fault] in " ".join(refused.stderr.split())
