"""The student of paper 002 learns from normal faces, resumes, and ends as a file the product loads."""

from __future__ import annotations

import csv
import json
import tomllib
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import squeezenet1_1
from typer.testing import CliRunner

from service.appraisal.methods.two_phase.discrepancy import DiscrepancyReader
from service.appraisal.methods.two_phase.discrepancy_network import SIDES
from service.appraisal.model_files.models import ModelStore, read_manifest
from service.commands.main import app
from service.errors import ConfigurationError, ModelNotFoundError
from service.training.faces import Split, open_pool
from service.training.model_card import entry_of, put_rows
from service.training.two_phase.discrepancy_release import release_discrepancy
from service.training.two_phase.train import DiscrepancyPlan, as_seen, hide, train_discrepancy
from tests.unit.appraisal.photographs import portrait
from tests.unit.training.archives import write_archive

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    write_archive(folder, 128, ["one"] * 160)
    torch.manual_seed(0)
    save_file(squeezenet1_1(weights=None).half().state_dict(), folder / "teacher.safetensors")
    return folder


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    plan = DiscrepancyPlan(
        out=out, teacher=data / "teacher.safetensors", steps=60, faces_per_batch=2, save_every=30
    )
    train_discrepancy(plan, open_pool(data, Split.TRAIN), open_pool(data, Split.CALIBRATION))
    return plan


def _rows(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


def test_the_distance_to_the_teacher_falls_and_all_is_written(trained):
    rows = _rows(trained.out / "log.csv")
    assert [int(row["step"]) for row in rows] == [50, 60]
    assert float(rows[1]["distance64"]) < 0.8 * float(rows[0]["distance64"])
    assert float(rows[1]["picture"]) < float(rows[0]["picture"])
    assert (trained.out / "sheet-000060.png").stat().st_size > 1000
    weights = load_file(trained.out / "student.safetensors")
    assert all(value.dtype == torch.float16 for value in weights.values() if value.is_floating_point())
    assert (trained.out / "student.safetensors").stat().st_size < 3_000_000


def test_an_interrupted_training_goes_on_where_it_was(data, trained, tmp_path):
    pools = open_pool(data, Split.TRAIN), open_pool(data, Split.CALIBRATION)
    plan = replace(trained, out=tmp_path, steps=4, save_every=2, faces_per_batch=2)
    train_discrepancy(replace(plan, steps=2), *pools)
    half = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    train_discrepancy(plan, *pools)
    whole = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert (half["step"], whole["step"]) == (2, 4)
    assert whole["optimiser"]["state"][0]["step"] == 4
    assert [int(row["step"]) for row in _rows(tmp_path / "log.csv")] == [2, 4]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    train_discrepancy(plan, *pools)  # nothing is left to do
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_time_limit_ends_it_with_a_checkpoint(data, trained, tmp_path):
    plan = replace(trained, out=tmp_path, steps=10_000, minutes=1e-9, faces_per_batch=2)
    train_discrepancy(plan, open_pool(data, Split.TRAIN), open_pool(data, Split.CALIBRATION))
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 1


def test_what_is_hidden_is_a_part_of_the_face():
    shares = [hide(np.random.default_rng(seed)).mean() for seed in range(50)]
    assert all(0 < share < 0.7 for share in shares)
    assert hide(np.random.default_rng(1)).shape == (SIDES[0], SIDES[0])


def test_faces_lie_as_the_product_aligns_them(data):
    face = open_pool(data, Split.TRAIN).face(0, 256)
    plain = as_seen(face, np.random.default_rng(0), plain=True)
    again = as_seen(face, np.random.default_rng(1), plain=True)
    seen = as_seen(face, np.random.default_rng(0))
    assert plain.shape == seen.shape == (256, 256, 3)
    assert np.array_equal(plain, again)
    assert not np.array_equal(plain, seen)


def test_a_release_is_calibrated_and_its_map_changes_where_the_face_does(data, trained, tmp_path):
    weights, card, row = release_discrepancy(
        trained.out / "student.safetensors", trained.teacher, data, tmp_path, faces=12
    )
    assert weights.stat().st_size < 3_000_000
    (entry,) = tomllib.loads(row.read_text())["model"]
    assert entry["id"] == "discrepancy-face"
    assert entry["line"] == "research"
    assert "12 faces of the calibration split" in card.read_text()
    teacher = {name: value.float() for name, value in load_file(trained.teacher).items()}
    reader = DiscrepancyReader(teacher, {k: v.float() for k, v in load_file(weights).items()})
    face = as_seen(open_pool(data, Split.TEST).face(0, 256), np.random.default_rng(0), plain=True)
    spotted = face.copy()
    spotted[150:176, 160:186] = (30, 160, 60)
    plain, odd = reader.z([face, spotted])
    changed = np.abs(odd - plain)
    assert changed[38:44, 40:46].mean() > 1
    assert changed[38:44, 40:46].mean() > 5 * changed[4:10, 4:10].mean()
    assert np.abs(plain).mean() < 3  # a normal face, in standard deviations


def test_too_few_faces_to_calibrate_on_are_refused(trained, tmp_path):
    write_archive(tmp_path, 128, ["one"] * 12)
    with pytest.raises(ConfigurationError, match="to calibrate on"):
        release_discrepancy(trained.out / "student.safetensors", trained.teacher, tmp_path, tmp_path / "out")


@pytest.fixture
def models(data, trained, tmp_path):
    """A directory of models with a teacher of its own and the student made with it."""
    folder = tmp_path / "models"
    release_discrepancy(trained.out / "student.safetensors", trained.teacher, data, folder, faces=12)
    teacher = folder / "own-squeezenet.safetensors"
    teacher.write_bytes(trained.teacher.read_bytes())
    files = {"discrepancy-face": folder / "discrepancy-face.safetensors", "squeezenet1_1-imagenet": teacher}
    put_rows(
        [entry_of(name, path, line="site", licence="x", intended_use="x") for name, path in files.items()],
        folder,
    )
    assert set(read_manifest(folder / "models_manifest.toml")) == set(files)
    return folder


def test_the_command_trains_and_score_appraises_by_the_method(data, models, tmp_path, monkeypatch):
    monkeypatch.setenv("SEMBLANCE_MODEL_DIR", str(models))
    out = tmp_path / "run"
    words = ["train", "discrepancy", "--data", str(data), "--out", str(out), "--steps", "2", "--faces", "2"]
    done = CliRunner().invoke(app, [*words, "--calibration-faces", "10"])
    assert done.exit_code == 0, done.output
    assert {"discrepancy-face.safetensors", "discrepancy-face.md", "log.csv"} <= {
        path.name for path in out.iterdir()
    }
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), portrait()[..., ::-1])
    for method in ("two-phase", "symmetry+discrepancy"):
        scored = CliRunner().invoke(app, ["score", "--method", method, "--output", "jsonl", str(photo)])
        assert scored.exit_code == 0, scored.output
        line = json.loads(scored.stdout)
        assert line["status"] == "appraised"
        assert np.isfinite(line["score"])
        assert line["rating"] is None


def test_without_a_teacher_or_faces_the_command_says_so(data, tmp_path):
    words = ["train", "discrepancy", "--out", str(tmp_path / "run"), "--steps", "1"]
    nowhere = CliRunner().invoke(app, [*words, "--data", str(data), "--model-dir", str(tmp_path)])
    assert isinstance(nowhere.exception, ModelNotFoundError)
    with pytest.raises(ModelNotFoundError):
        ModelStore(tmp_path).path("squeezenet1_1-imagenet")
    empty = tmp_path / "empty"
    empty.mkdir()
    none = CliRunner().invoke(app, [*words, "--data", str(empty), "--model-dir", str(data)])
    assert none.exit_code != 0
