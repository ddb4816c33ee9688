"""From `semblance train patchcore` to `semblance score`."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import squeezenet1_1
from typer.testing import CliRunner

from service.appraisal.model_files.models import read_manifest
from service.commands.main import app
from service.errors import ConfigurationError, ModelNotFoundError
from service.exit_codes import ExitCode
from service.training.model_card import entry_of, put_rows
from tests.unit.appraisal.photographs import portrait
from tests.unit.training.archives import write_archive

pytestmark = pytest.mark.usefixtures("one_thread")
METHOD = ["score", "--method", "symmetry+patchcore", "--output", "jsonl"]


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "faces"
    folder.mkdir()
    write_archive(folder, 128, ["one"] * 20)
    return folder


@pytest.fixture
def backbone(tmp_path):
    """A directory of models that holds a backbone of its own."""
    folder = tmp_path / "models"
    folder.mkdir()
    torch.manual_seed(0)
    path = folder / "own-squeezenet.safetensors"
    save_file(squeezenet1_1(weights=None).half().state_dict(), path)
    put_rows([entry_of("squeezenet1_1-imagenet", path, line="site", licence="x", intended_use="x")], folder)
    return folder


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), portrait()[..., ::-1])
    return str(path)


def test_a_bank_is_fitted_installed_and_scores(data, backbone, photo, monkeypatch):
    monkeypatch.setenv("SEMBLANCE_MODEL_DIR", str(backbone))
    words = ["train", "patchcore", "--data", str(data), "--out", str(backbone)]
    done = CliRunner().invoke(app, [*words, "--faces", "6", "--count", "50"])
    assert done.exit_code == 0, done.output
    manifest = read_manifest(backbone / "models_manifest.toml")
    assert set(manifest) == {"squeezenet1_1-imagenet", "patchcore-squeezenet"}
    bank = load_file(backbone / manifest["patchcore-squeezenet"].file)["bank"]
    assert bank.shape == (50, 128 + 384)
    scored = CliRunner().invoke(app, [*METHOD, photo])
    assert scored.exit_code == 0, scored.output
    line = json.loads(scored.stdout)
    assert line["status"] == "appraised"
    assert np.isfinite(line["score"])


def test_without_a_bank_the_message_names_the_command(backbone, photo, monkeypatch):
    monkeypatch.setenv("SEMBLANCE_MODEL_DIR", str(backbone))
    refused = CliRunner().invoke(app, [*METHOD, photo])
    assert refused.exit_code == ExitCode.FAILED
    assert "semblance train patchcore" in " ".join(refused.stderr.split())
    assert "Traceback" not in refused.output


def test_without_backbone_or_faces_nothing_is_fitted(data, backbone, tmp_path):
    words = ["train", "patchcore", "--out", str(tmp_path / "out")]
    empty = tmp_path / "empty"
    empty.mkdir()
    nowhere = CliRunner().invoke(app, [*words, "--data", str(data), "--model-dir", str(empty)])
    assert isinstance(nowhere.exception, ModelNotFoundError)
    none = CliRunner().invoke(app, [*words, "--data", str(empty), "--model-dir", str(backbone)])
    assert isinstance(none.exception, ConfigurationError)
    assert not (tmp_path / "out").exists()
