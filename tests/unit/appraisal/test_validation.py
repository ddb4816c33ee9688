from __future__ import annotations

import csv
import html
import io

import cv2
import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from service.appraisal.models import ModelStore
from service.appraisal.validation import read_ratings, usable_methods, validate
from service.appraisal.validation_report import best_method, write_report
from service.cli_validate import validate_command
from service.errors import ConfigurationError
from service.exit_codes import ExitCode
from tests.unit.appraisal.photographs import portrait

STAINS = 9


@pytest.fixture(scope="module")
def hospital(tmp_path_factory, face):
    """Portraits with ever more of one cheek stained, rated by three people accordingly."""
    folder = tmp_path_factory.mktemp("hospital")
    rng = np.random.default_rng(0)
    lines = ["photo,rater,rating"]
    x, y = np.rint(face.landmarks[280]).astype(int)
    for stain in range(STAINS):
        rgb = portrait()
        cv2.circle(rgb, (int(x), int(y)), 2 * stain, (80, 40, 40), -1) if stain else None
        Image.fromarray(rgb).save(folder / f"p{stain}.png")
        for rater in "abc":
            rating = float(np.clip(7 - 0.7 * stain + rng.normal(0, 0.3), 1, 7))
            lines.append(f"p{stain}.png,{rater},{rating:.2f}")
    (folder / "ratings.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def found(hospital, finder):
    ratings = read_ratings(hospital / "ratings.csv")
    return validate(ratings, hospital, ("symmetry", "symmetry+pse"), ModelStore(), draws=100, finder=finder)


def test_a_method_that_sees_the_stain_agrees_with_people(found):
    face = {r.method: r.agreement for r in found.results if r.region.value == "face"}
    assert face["symmetry"].photographs == STAINS
    assert face["symmetry"].spearman.value > 0.9
    assert found.raters.model == "ICC(2)"
    assert found.raters.single > 0.9
    assert found.rejected == ()


def test_the_report_holds_tables_chart_and_cases(found, hospital, tmp_path):
    path = write_report(found, hospital, tmp_path / "out")
    page = html.unescape(path.read_text())
    for part in (
        "Table III",
        "symmetry+pse",
        "data:image/png",
        "data:image/jpeg",
        "ICC(2)",
        best_method(found),
    ):
        assert part in page
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "agreement.csv").read_text())))
    assert {(row["method"], row["region"]) for row in rows} == {
        (m, r) for m in ("symmetry", "symmetry+pse") for r in ("face", "oronasal")
    }
    scores = list(csv.DictReader(io.StringIO((tmp_path / "out" / "scores.csv").read_text())))
    assert len(scores) == STAINS * 4


def test_layers_get_a_table_of_their_own(found, hospital, tmp_path):
    from dataclasses import replace

    renamed = [replace(r, method=f"symmetry+deep-x-l{1 + (r.method != 'symmetry')}") for r in found.results]
    scores = [replace(s, method=f"symmetry+deep-x-l{1 + (s.method != 'symmetry')}") for s in found.scores]
    page = write_report(
        replace(found, results=tuple(renamed), scores=tuple(scores)), hospital, tmp_path
    ).read_text()
    assert page.count("Table II)") == 2
    assert "l = 2" in page


def test_a_photograph_that_cannot_be_judged_is_named(hospital, finder, tmp_path):
    for path in hospital.glob("*.png"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "p0.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((100, 100, 3), np.uint8)).save(tmp_path / "p1.png")
    ratings = read_ratings(hospital / "ratings.csv")
    found = validate(ratings, tmp_path, ("symmetry+pse",), ModelStore(), draws=50, finder=finder)
    assert set(dict(found.rejected)) == {"p0.png", "p1.png"}
    assert found.results[0].agreement.photographs == STAINS - 2
    write_report(found, tmp_path, tmp_path / "out")


GOOD = "photo,rater,rating\n" + "".join(f"p{i}.png,{r},{1 + i}\n" for i in range(6) for r in "ab")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("rating\n", "rating,mood\n", 1), "columns"),
        (GOOD.replace("photo,", "picture,", 1), "columns"),
        ("", "columns"),
        (GOOD.replace("p3.png,a,4", "p3.png,a,8"), "line 8"),
        (GOOD.replace("p3.png,a,4", "p3.png,a,good"), "line 8"),
        (GOOD.replace("p3.png,a,4", "p3.png,a,"), "line 8"),
        (GOOD.replace("p3.png,a,4", "p3.png,a,4,5"), "line 8"),
        (GOOD + "p0.png,a,3\n", "twice"),
        ("\n".join(GOOD.split("\n")[:9]), "photographs"),
        (
            GOOD.split("\n")[0] + "\n" + "".join(f"p{i}.png,{r},4\n" for i in range(6) for r in "ab"),
            "constant",
        ),
    ],
)
def test_ratings_that_cannot_be_used_are_explained(tmp_path, text, said):
    path = tmp_path / "ratings.csv"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        read_ratings(path)


def test_a_missing_photograph_is_named(hospital, tmp_path, finder):
    ratings = read_ratings(hospital / "ratings.csv")
    with pytest.raises(ConfigurationError, match=r"p0\.png"):
        validate(ratings, tmp_path, ("symmetry",), ModelStore(), finder=finder)


def test_pairs_without_model_files_are_left_out(tmp_path):
    assert usable_methods("symmetry", ModelStore(shipped_dir=tmp_path)) == ("symmetry+pse", "symmetry+ssim")


def test_the_command_writes_a_report_and_explains_failure(hospital, tmp_path):
    app = typer.Typer()
    app.command()(validate_command)
    words = [str(hospital / "ratings.csv"), "--photos", str(hospital), "--out", str(tmp_path / "r")]
    done = CliRunner().invoke(app, [*words, "--method", "symmetry+pse", "--draws", "50"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "r" / "report.html").is_file()
    failed = CliRunner().invoke(app, [str(hospital / "none.csv"), "--photos", str(hospital)])
    assert failed.exit_code == ExitCode.USAGE
    assert "none.csv" in failed.stderr
