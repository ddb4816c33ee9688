from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import squeezenet1_1
from typer.testing import CliRunner

from service.appraisal.pictures.placing import photograph_map
from service.commands.science.models import app as models
from service.commands.science.score import score
from service.exit_codes import ExitCode
from service.pictures.native_map import read_map
from service.training.model_card import entry_of, put_rows
from tests.unit.appraisal.photographs import native, part10, portrait

KEYS = [
    *("path", "status", "score", "rating", "rating_basis", "percentile"),
    *("regions", "reasons", "notes", "difference_map"),
]
COMPUTED = "calibrated on computed scores, not on human ratings"


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
    kept = (
        "--map-dir",
        "maps",
        "--heatmap-dir",
        "heat",
        "--native-map-dir",
        "kept",
        "--triptych-dir",
        "three",
    )
    result = run("score", "--output", "jsonl", *kept, photos)
    assert result.exit_code == ExitCode.REJECTED
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert all(list(line) == KEYS for line in lines)
    by_name = {line["path"].rsplit("photos/")[1]: line for line in lines}
    assert sorted(by_name) == ["a.png", "b.dcm", "c.jpg", "deep/a.jpg"]
    rejected = by_name.pop("c.jpg")
    assert (rejected["status"], rejected["reasons"]) == ("rejected", ["undecodable"])
    assert rejected["score"] is rejected["rating_basis"] is rejected["difference_map"] is None
    for line in by_name.values():
        assert line["status"] == "appraised"
        assert 1 <= line["rating"] <= 7
        assert line["rating_basis"] == COMPUTED
        assert 0 <= line["percentile"] <= 100
        assert line["regions"]["nose"]["judged"] == 1
        assert line["regions"]["nose"]["reason"] is None
        assert line["reasons"] == []
        difference = np.load(tmp_path / line["difference_map"])
        assert difference.dtype == np.float32
        assert difference.shape == portrait().shape[:2]
        assert np.isnan(difference).any()
        assert line["regions"]["face"]["score"] == line["score"]
    assert len({line["difference_map"] for line in by_name.values()}) == 3
    assert len(list((tmp_path / "heat").glob("*.png"))) == 3
    assert len(list((tmp_path / "three").glob("*.png"))) == 3
    for line in by_name.values():
        path = tmp_path / line["difference_map"]
        native = read_map((tmp_path / "kept" / path.name).with_suffix(".npz").read_bytes())
        assert np.array_equal(photograph_map(native), np.load(path), equal_nan=True)
    assert by_name["a.png"]["score"] == pytest.approx(by_name["b.dcm"]["score"], abs=1e-9)


def test_a_folder_passes_nothing_over_in_silence(run, photos):
    (photos / "IM0001").write_bytes((photos / "b.dcm").read_bytes())
    result = run("score", "--method", "symmetry", "--output", "jsonl", photos)
    paths = [json.loads(line)["path"] for line in result.stdout.splitlines()]
    assert str(photos / "IM0001") in paths
    said = " ".join(result.stderr.split())
    assert "notes.txt: passed over" in said
    assert "IM0001: passed over" not in said


def test_a_stored_calibration_is_chosen_and_named(run, photos):
    chosen = run("score", "--method", "symmetry", "--calibration", "symmetry-1", photos / "a.png")
    assert chosen.exit_code == 0, chosen.output
    assert "calibration symmetry-1" in " ".join(chosen.stdout.split())
    assert "symmetry: near chance on real clefts and palsies (AUROC .57)" in chosen.stderr
    assert "near chance" not in run("score", "--method", "symmetry+pse", photos / "a.png").stderr


@pytest.fixture
def backbone(run, tmp_path, monkeypatch):
    """A model directory with a SqueezeNet of random numbers; `run` clears the setting first."""
    folder = tmp_path / "models"
    folder.mkdir()
    torch.manual_seed(0)
    save_file(squeezenet1_1(weights=None).state_dict(), folder / "own.safetensors")
    entry = entry_of(
        "squeezenet1_1-imagenet", folder / "own.safetensors", line="site", licence="x", intended_use="x"
    )
    put_rows([entry], folder)
    monkeypatch.setenv("SEMBLANCE_MODEL_DIR", str(folder))


@pytest.mark.usefixtures("backbone")
def test_differences_are_shown_layer_by_layer(run, photos, tmp_path):
    method = ("--method", "symmetry+deep-squeezenet")
    done = run("score", *method, "--layer-dir", "layers", "--map-dir", "maps", photos / "a.png")
    assert done.exit_code == 0, done.output
    layers = np.load(tmp_path / "layers" / "a.npy")
    assert layers.shape == (7, 256, 256)
    assert layers.dtype == np.float32
    assert np.isnan(layers[0]).any()
    assert (layers[np.isfinite(layers)] >= 0).all()
    assert (np.isnan(layers) == np.isnan(layers[0])).all()
    sheet = np.asarray(Image.open(tmp_path / "layers" / "a.png"))
    assert sheet.shape == (2 * 276, 5 * 256, 3)  # photograph, counterpart and seven layers, five in a row
    assert sheet[20:276, :256].std() > 10
    assert not np.array_equal(sheet[20:276, 512:768], sheet[20:276, 768:1024])
    (one,) = np.load(tmp_path / "maps" / "a.npy").reshape(1, *portrait().shape[:2])
    filters = np.array([64, 128, 256, 384, 384, 512, 512])
    whole = np.tensordot(filters / filters.sum(), layers, 1)
    assert np.nanmean(whole) == pytest.approx(np.nanmean(one), rel=0.05)


def test_a_method_without_layers_is_told_so_before_anything_is_done(run, photos):
    refused = run("score", "--method", "symmetry", "--layer-dir", "layers", photos / "a.png")
    assert refused.exit_code == ExitCode.USAGE
    assert "no maps by layer" in " ".join(refused.stderr.split())
    assert not refused.stdout


def test_a_table_is_printed_and_all_appraised_is_exit_0(run, photos):
    result = run("score", photos / "a.png")
    assert result.exit_code == 0
    assert COMPUTED in " ".join(result.stdout.split())
    assert "appraised" in result.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--method", "beauty", "a.png"], ExitCode.USAGE, "symmetry"),
        (["absent.png"], ExitCode.FAILED, "absent.png"),
        (["--calibration", "beauty-1", "a.png"], ExitCode.USAGE, "default-3"),
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
