import json

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from service.appraisal.face.finder import MediapipeFaceFinder
from service.commands.main import app
from service.training.archive import archive_photographs
from tests.unit.appraisal.photographs import portrait


@pytest.fixture
def faces(tmp_path):
    folder = tmp_path / "faces"
    folder.mkdir()
    image = portrait()
    for name, shown in (("a.png", image), ("b.png", np.ascontiguousarray(image[:, ::-1]))):
        cv2.imwrite(str(folder / name), shown[..., ::-1])
    cv2.imwrite(str(folder / "wall.png"), np.full((300, 300, 3), 128, np.uint8))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


def test_a_benchmark_shows_oracle_and_symmetry_and_ends_with_json(faces, tmp_path):
    report = tmp_path / "report.html"
    arguments = ["benchmark", str(faces), "--method", "symmetry", "--types", "droop", "--repeats", "0"]
    result = CliRunner().invoke(app, [*arguments, "--html", str(report), "--json"])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout.strip().splitlines()[-1])
    assert set(figures) == {"oracle", "symmetry"}
    assert figures["oracle"]["subjects"] == 2
    assert figures["oracle"]["types"]["droop"]["auroc_strong"]["value"] == 1.0
    assert figures["symmetry"]["rejections"]["images"] == {"clean": 2, "droop": 8}
    assert figures["symmetry"]["rejections"]["rejected"]["clean"] == 0
    assert "2 photographs of 2 people; 2 without exactly one face left out" in result.stderr
    assert report.read_text().count("data:image/png;base64,") == 2


def test_every_study_of_the_default_method_on_an_archive(faces, tmp_path):
    archive_photographs(faces, tmp_path, MediapipeFaceFinder(), source="webmorph-3dsk", fewest=2)
    studies = ["--robustness", "--landmarks", "--ablations", "--markdown", str(tmp_path / "tables.md")]
    words = ["benchmark", str(tmp_path), "--types", "droop", "--repeats", "2", *studies, "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout.strip().splitlines()[-1])
    assert "### Why images were rejected" in (tmp_path / "tables.md").read_text()
    made = {"types", "robustness", "landmarks", "landmark_distance", "ablations", "evidence_by_type"}
    assert made < set(figures["default"])
    assert not made & set(figures["oracle"]) - {"types"}
    assert figures["default"]["robustness"]["mirrored"]["faces"] == 2
    assert figures["default"]["landmarks"]["droop"]["network"]["value"] > 0.3
    assert "### What each evidence contributes" in (tmp_path / "tables.md").read_text()
    assert "2 faces of the test split" in result.stderr


def test_studies_without_their_images_are_refused():
    result = CliRunner().invoke(app, ["benchmark", "--robustness"])
    assert result.exit_code != 0
    assert "name a folder" in result.output + str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["--types", "beauty"], "no anomaly type"), (["--lip-shapes", "/nowhere"], "no lip shapes")],
)
def test_what_cannot_be_benchmarked_is_said(faces, arguments, word):
    result = CliRunner().invoke(app, ["benchmark", str(faces), *arguments])
    assert result.exit_code != 0
    assert word in result.output + str(result.exception)


def test_a_folder_without_faces_is_refused(tmp_path):
    result = CliRunner().invoke(app, ["benchmark", str(tmp_path)])
    assert result.exit_code != 0
    assert "no photographs" in result.output + str(result.exception)


def test_why_clean_faces_were_rejected_is_said(faces, tmp_path):
    for path in faces.glob("[ab].png"):
        dark = (cv2.imread(str(path)) * 0.06).astype(np.uint8)
        cv2.imwrite(str(path), dark)
    report = tmp_path / "report.html"
    words = ["benchmark", str(faces), "--method", "symmetry", "--types", "nevus", "--repeats", "0"]
    result = CliRunner().invoke(app, [*words, "--html", str(report), "--json"])
    assert result.exit_code == 0, result.output
    rejections = json.loads(result.stdout.strip().splitlines()[-1])["symmetry"]["rejections"]
    assert rejections["rejected"]["clean"] == 2
    assert rejections["underexposed"]["clean"] == 2
    assert "underexposed" in report.read_text()
