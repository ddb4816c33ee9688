"""`semblance train` as a hospital runs it: from photographs to weights that `semblance score` uses."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from service.appraisal.face.finder import MediapipeFaceFinder
from service.appraisal.methods.localised.anomaly_network import of_close_up
from service.appraisal.model_files.models import SHIPPED_WEIGHTS_DIR
from service.appraisal.registry import METHODS
from service.evaluation.retake import gamma, light, noise, perspective
from service.training.archive import archive_photographs
from service.training.faces import Split, open_pool
from tests.unit.appraisal.photographs import portrait
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(600)
PEOPLE = 32
NETWORK = SHIPPED_WEIGHTS_DIR / "default-face.safetensors"
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("SEMBLANCE_")}


def command(*words: object) -> list[str]:
    return [
        sys.executable,
        "-c",
        "from service.commands.main import main; main()",
        *(str(word) for word in words),
    ]


def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), env=ENVIRONMENT | environment, capture_output=True, text=True, check=False
    )


def people(folder: Path, count: int) -> Path:
    """Photographs of one face that pass for those of many people: light, pose and grain differ."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        sideways, up = rng.uniform(-0.01, 0.01, 2)
        pose = perspective(float(sideways), float(up), float(rng.uniform(-4, 4)))
        shown = pose(
            light(1.0, float(rng.uniform(-0.1, 0.1)))(gamma(float(rng.uniform(0.8, 1.25)))(portrait()))
        )
        shown = noise(2.0, seed=number)(shown)
        cv2.imwrite(str(folder / f"{number:02d}.png"), shown[..., ::-1])
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return people(tmp_path_factory.mktemp("site") / "photos", PEOPLE)


@pytest.fixture(scope="module")
def archive(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    archive_photographs(photos, folder, MediapipeFaceFinder())
    return folder


def test_a_site_adapts_calibrates_and_scores_with_its_own_weights(photos, tmp_path):
    out = tmp_path / "site"
    made = run("train", "site", "--photos", photos, "--out", out, "--steps", 1, "--faces", 10, "--workers", 0)
    assert made.returncode == 0, made.stderr
    assert f"{PEOPLE} usable faces" in made.stderr
    model = out / "model"
    assert not list(model.glob("*.npz"))  # no face leaves with the weights
    photo = photos / "00.png"
    scored = run("score", "--method", "default", photo, SEMBLANCE_MODEL_DIR=str(model), COLUMNS="400")
    assert scored.returncode == 0, scored.stderr
    said = " ".join(scored.stdout.split())
    assert f"Appraisal by default {METHODS['default'].version}-site/" in said
    assert "calibration default-site-" in said
    listed = run("models", "list", SEMBLANCE_MODEL_DIR=str(model), COLUMNS="400")
    assert any("default-calibration" in line and "site" in line for line in listed.stdout.splitlines())

    network = model / "default-face.safetensors"
    network.write_bytes(network.read_bytes()[:-1] + b"x")
    broken = run("score", "--method", "default", photo, SEMBLANCE_MODEL_DIR=str(model))
    assert broken.returncode == 1
    assert "SHA-256" in broken.stderr


@pytest.mark.timeout(1200)  # four trainings and a calibration; minutes on a busy machine
def test_a_training_that_was_killed_goes_on_and_is_calibrated(archive, tmp_path):
    out = tmp_path / "run"
    words = (
        "train",
        "default",
        "--data",
        archive,
        "--out",
        out,
        "--start",
        NETWORK,
        "--faces",
        1,
        "--until",
        "network",
    )
    quick = ("--workers", 0, "--threads", 1, "--save-every", 1)
    checkpoint = out / "checkpoint.pt"
    killed = subprocess.Popen(
        command(*words, *quick, "--steps", 10_000),
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(
            lambda: checkpoint.exists() or killed.poll() is not None, timeout_s=300, what="a checkpoint"
        )
        assert killed.poll() is None
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    reached = torch.load(checkpoint, weights_only=True)["step"]
    assert reached >= 1

    again = run(*words, *quick, "--steps", reached + 2)
    assert again.returncode == 0, again.stderr
    assert torch.load(checkpoint, weights_only=True)["step"] == reached + 2
    steered = list(csv.DictReader((out / "steering.csv").read_text().splitlines()))
    assert steered[-1]["step"] == str(reached + 2)
    assert list(out.glob("sheet-*.png"))

    whole = run(*words[:-2], *quick, "--steps", reached + 2)  # the stages that are left
    assert whole.returncode == 0, whole.stderr
    assert torch.load(checkpoint, weights_only=True)["step"] == reached + 2
    for made in ("landmarks/landmarks.pt", "close-up/checkpoint.pt", "close-up/landmarks/landmarks.pt"):
        assert torch.load(out / made, weights_only=True)["step"] >= 1
    model = out / "model"
    assert (model / "manifest-rows.toml").exists()
    assert json.loads((model / "default-3.json").read_text())["method"] == "default"
    own = load_file(out / "close-up" / "landmarks" / "network.safetensors")
    kept = of_close_up(load_file(model / "default-face.safetensors"))
    assert torch.equal(kept["heads.weight"], own["heads.weight"])


def test_photographs_without_faces_are_refused_with_their_reasons(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        cv2.imwrite(str(photos / f"{number}.png"), np.full((200, 200, 3), 100 + number, np.uint8))
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    result = run("train", "site", "--photos", photos, "--out", tmp_path / "out")
    assert result.returncode == 2
    said = " ".join(result.stderr.split())
    assert "0 usable faces; at least 20 are needed; no-face: 3; undecodable: 1" in said
    assert not (tmp_path / "out" / "model").exists()


def test_a_sites_faces_train_or_calibrate_and_none_is_kept_for_testing(archive):
    sizes = {split: len(open_pool(archive, split)) for split in Split}
    assert sizes[Split.TEST] == 0
    assert sizes[Split.CALIBRATION] >= 10
    assert sum(sizes.values()) == len(open_pool(archive, None)) == PEOPLE
