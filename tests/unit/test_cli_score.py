from __future__ import annotations

import json

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from service.cli_models import app as models
from service.cli_score import score
from service.exit_codes import ExitCode
from tests.unit.appraisal.photographs import native, part10, portrait

KEYS = ["path", "status", "score", "rating", "percentile", "regions", "reasons", "difference_map"]


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEMBLANCE_MODEL_DIR", raising=False)
    app = typer.Typer()
    app.command()(score)
    app.add_typer(models, name="models")
    return lambda *words: CliRunner().invoke(app, [str(w) for w in words])


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    Image.fromarray(portrait()).save(folder / "a.png")
    Image.fromarray(portrait()).save(folder / "deep" / "a.jpg", quality=95)
    (folder / "b.dcm").write_bytes(part10(native(portrait())))
    (folder / "c.jpg").write_bytes((folder / "deep" / "a.jpg").read_bytes()[:5000])
    (folder / "notes.txt").write_text("no photograph")
    return folder


def test_jsonl_keeps_its_contract(run, photos, tmp_path):
    result = run("score", "--output", "jsonl", "--map-dir", "maps", "--heatmap-dir", "heat", photos)
    assert result.exit_code == ExitCode.REJECTED
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert all(list(line) == KEYS for line in lines)
    by_name = {line["path"].rsplit("photos/")[1]: line for line in lines}
    assert sorted(by_name) == ["a.png", "b.dcm", "c.jpg", "deep/a.jpg"]
    rejected = by_name.pop("c.jpg")
    assert (rejected["status"], rejected["reasons"]) == ("rejected", ["undecodable"])
    assert rejected["score"] is rejected["difference_map"] is None
    for line in by_name.values():
        assert line["status"] == "appraised"
        assert 1 <= line["rating"] <= 7
        assert 0 <= line["percentile"] <= 100
        assert line["regions"]["nose"]["judged"] == 1
        assert line["regions"]["nose"]["reason"] is None
        assert line["reasons"] == []
        difference = np.load(tmp_path / line["difference_map"])
        assert difference.dtype == np.float32
        assert difference.shape == portrait().shape[:2]
        assert np.isnan(difference).any()
        assert line["score"] == pytest.approx(-np.log(np.nanmean(difference)), abs=0.1)
    assert len({line["difference_map"] for line in by_name.values()}) == 3
    assert len(list((tmp_path / "heat").glob("*.png"))) == 3
    assert by_name["a.png"]["score"] == pytest.approx(by_name["b.dcm"]["score"], abs=1e-9)


def test_a_stored_calibration_is_chosen_and_named(run, photos):
    chosen = run("score", "--method", "symmetry", "--calibration", "symmetry-1", photos / "a.png")
    assert chosen.exit_code == 0, chosen.output
    assert "calibration symmetry-1" in " ".join(chosen.stdout.split())


def test_a_table_is_printed_and_all_appraised_is_exit_0(run, photos):
    result = run("score", photos / "a.png")
    assert result.exit_code == 0
    assert "appraised" in result.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--method", "beauty", "a.png"], ExitCode.USAGE, "symmetry"),
        (["absent.png"], ExitCode.FAILED, "absent.png"),
        (["--calibration", "beauty-1", "a.png"], ExitCode.USAGE, "default-1"),
        (["--method", "symmetry+ssim", "--calibration", "symmetry-1", "a.png"], ExitCode.USAGE, "none"),
        (["--output", "xml", "a.png"], 2, "xml"),
        ([], 2, "photos"),
    ],
)
def test_wrong_usage_is_said(run, photos, words, code, said):
    words = [photos / word if word == "a.png" else word for word in words]
    result = run("score", *words)
    assert result.exit_code == code
    assert said.lower() in (result.stdout + result.stderr).lower()
    assert "Traceback" not in result.output


def test_a_setting_that_is_wrong_is_wrong_usage(run, photos, monkeypatch):
    monkeypatch.setenv("SEMBLANCE_DICOM_PORT", "many")
    for words in (["score", photos / "a.png"], ["models", "list"]):
        result = run(*words)
        assert result.exit_code == ExitCode.USAGE
        assert "dicom_port" in result.stderr


def test_models_are_listed_and_verified(run, tmp_path, monkeypatch):
    assert "squeezenet" in run("models", "list").stdout
    assert run("models", "verify").exit_code == 0
    wrong = tmp_path / "models"
    wrong.mkdir()
    (wrong / "squeezenet1_1-imagenet-fp16.safetensors").write_bytes(b"wrong")
    monkeypatch.setenv("SEMBLANCE_MODEL_DIR", str(wrong))
    result = run("models", "verify")
    assert result.exit_code == ExitCode.FAILED
    assert "corrupt" in result.stdout


def test_pulling_what_has_no_source_is_said(run, monkeypatch, tmp_path):
    monkeypatch.setenv("SEMBLANCE_MODEL_DIR", str(tmp_path / "models"))
    result = run("models", "pull", "squeezenet1_1-imagenet")
    assert result.exit_code == ExitCode.FAILED
    assert "no URL" in result.stderr
