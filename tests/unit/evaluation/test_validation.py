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

from service.appraisal.model_files.models import ModelStore
from service.commands.science.validate import validate_command
from service.errors import ConfigurationError
from service.evaluation.validation import read_ratings, usable_methods, validate
from service.evaluation.validation_report import best_method, write_report
from service.exit_codes import ExitCode
from tests.unit.appraisal.photographs import grained, portrait

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
        if stain:
            cv2.circle(rgb, (int(x), int(y)), 2 * stain, (80, 40, 40), -1)
            rgb = grained(rgb)  # flat, a gate takes the stain for missing data
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


def test_methods_of_one_normaliser_share_its_counterparts_and_batches_change_nothing(
    hospital, finder, found, monkeypatch
):
    from service.appraisal.methods.symmetry.normaliser import SymmetryNormaliser

    sizes, told = [], []
    original = SymmetryNormaliser.normalise
    monkeypatch.setattr(
        SymmetryNormaliser, "normalise", lambda self, faces: sizes.append(len(faces)) or original(self, faces)
    )
    again = validate(
        read_ratings(hospital / "ratings.csv"),
        hospital,
        ("symmetry", "symmetry+pse"),
        ModelStore(),
        draws=100,
        batch=7,
        finder=finder,
        progress=lambda done, total: told.append((done, total)),
    )
    assert sizes == [7, 2]
    assert told == [(0, 18), (7, 18), (14, 18), (16, 18), (18, 18)]
    assert again.results == found.results


def test_a_photograph_with_one_rating_is_refused_before_anything_is_appraised(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text(GOOD + "p9.png,a,3\n")
    for number in (0, 1, 2, 3, 4, 5, 9):
        (tmp_path / f"p{number}.png").touch()

    class Unused:
        def find(self, rgb):
            raise AssertionError

        def load(self):
            raise AssertionError

    with pytest.raises(ConfigurationError, match="two ratings"):
        validate(read_ratings(path), tmp_path, ("symmetry",), ModelStore(), finder=Unused())


def test_the_report_holds_tables_chart_and_cases(found, hospital, tmp_path):
    path = write_report(found, hospital, tmp_path / "out")
    page = html.unescape(path.read_text())
    assert page.count("data:image/png") == 2  # a chart for the face and one for the oral/nasal region
    assert page.count("data:image/jpeg") == 2 * 8
    for part in (
        "Methods, entire face (Table III)",
        "Methods, oral/nasal region (Table III)",
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
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "rejected.csv").read_text())))
    assert [row["photo"] for row in rows] == ["p0.png", "p1.png"]
    assert rows[1]["reasons"] == "no-face"


GOOD = "photo,rater,rating\n" + "".join(f"p{i}.png,{r},{1 + i}\n" for i in range(6) for r in "ab")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("rating\n", "rating,mood\n", 1), "columns"),
        (GOOD.replace("photo,", "picture,", 1), "columns"),
        ("", "columns"),
        (GOOD.replace("p3.png,a,4", "p3.png,a,8"), "line 8"),
        (GOOD.replace("p3.png,a,4", "p3.png,a,0.5"), "line 8"),
        (GOOD.replace("p3.png,a,4", "p3.png,a,nan"), "line 8"),
        (GOOD.replace("p3.png,a,4", "p3.png,a,good"), "line 8"),
        (GOOD.replace("p3.png,a,4", "p3.png,a,"), "line 8"),
        (GOOD.replace("p3.png,a,4", "p3.png,a,4,5"), "line 8"),
        (GOOD + "p0.png,a,3\n", "twice"),
        ("photo,rater,rating\n", "0 photographs"),
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


@pytest.mark.parametrize("separator", [";", "\t"])
def test_ratings_of_a_spreadsheet_that_writes_commas_in_numbers_are_read(tmp_path, separator):
    path = tmp_path / "ratings.csv"
    path.write_text(GOOD)
    expected = read_ratings(path)
    path.write_text(GOOD.replace(",", separator).replace("1\n", "1,0\n"))
    found = read_ratings(path)
    assert (found.photos, found.raters) == (expected.photos, expected.raters)
    assert np.array_equal(found.table, expected.table)


def test_ratings_in_another_encoding_are_explained(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_bytes(GOOD.replace("p3", "pé").encode("latin-1"))
    with pytest.raises(ConfigurationError, match="utf-8"):
        read_ratings(path)
    path.write_bytes(GOOD.encode("utf-8-sig"))  # as Excel saves it
    assert len(read_ratings(path).photos) == 6


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        (("rating\n", "mood\n"), [], "columns"),
        (("p3.png,a,4", "p3.png,a,8"), [], "line 8"),
        (("p3.png", "away.png"), [], "away.png"),
        (("", ""), ["--method", "beauty"], "beauty"),
        (("", ""), ["--normaliser", "beauty"], "beauty"),
    ],
)
def test_wrong_usage_ends_the_command_with_its_reason(tmp_path, change, words, said):
    (tmp_path / "ratings.csv").write_text(GOOD.replace(*change, 1) if change[0] else GOOD)
    for number in range(6):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / f"p{number}.png")
    app = typer.Typer()
    app.command()(validate_command)
    files = [str(tmp_path / "ratings.csv"), "--photos", str(tmp_path), "--out", str(tmp_path / "r")]
    refused = CliRunner().invoke(app, [*files, *(words or ["--method", "symmetry"])])
    assert refused.exit_code == ExitCode.USAGE
    assert said in " ".join(refused.stderr.split())
    assert "Traceback" not in refused.output


def test_photographs_without_faces_are_too_few_to_compare(tmp_path, finder):
    (tmp_path / "ratings.csv").write_text(GOOD)
    for number in range(6):
        Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / f"p{number}.png")
    with pytest.raises(ConfigurationError, match=r"0 photographs could be judged.*p0.png \(no-face\)"):
        validate(read_ratings(tmp_path / "ratings.csv"), tmp_path, ("symmetry",), ModelStore(), finder=finder)


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


def test_the_command_names_photographs_that_could_not_be_judged(hospital, tmp_path):
    for path in hospital.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    Image.fromarray(np.zeros((100, 100, 3), np.uint8)).save(tmp_path / "p1.png")
    app = typer.Typer()
    app.command()(validate_command)
    words = [str(tmp_path / "ratings.csv"), "--photos", str(tmp_path), "--out", str(tmp_path / "r")]
    done = CliRunner().invoke(app, [*words, "--method", "symmetry+pse", "--draws", "50", "--batch", "3"])
    assert done.exit_code == 0, done.output
    assert "p1.png: rejected: no-face" in done.stderr
    assert "p1.png (no-face)" in (tmp_path / "r" / "report.html").read_text()
