from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.models import squeezenet1_1

from service.appraisal.anomalies import NAMED
from service.appraisal.gates.occlusion import OcclusionCalibration, load_occlusion_calibration
from service.appraisal.gates.occlusion_network import OcclusionNetwork
from service.errors import ConfigurationError
from service.records import Region
from service.training.faces import Split, open_pool
from service.training.occlusion.occlusion_examples import (
    Batch,
    SceneMaker,
    collate,
    small_face,
    with_occluders,
)
from service.training.occlusion.occlusion_release import CALIBRATION, release
from service.training.occlusion.occlusion_trials import PLAIN, Seen, by_kind, choose, figures, trials
from service.training.occlusion.train import OcclusionPlan, OcclusionTrainer, loss, train
from tests.unit.training.archives import write_archive

GIVEN = OcclusionCalibration(
    version="v", model="m", basis="", probability=0.5, min_area=0.005, max_region=0.2, max_face=0.9
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    write_archive(folder, 128, ["one"] * 260 + ["webmorph-3dsk"] * 20)
    shapes = folder / "lips"
    shapes.mkdir()
    turn = np.linspace(0, np.pi, 20)
    points = np.zeros((68, 2))
    points[48:] = np.stack([50 + 30 * np.cos(turn[::-1]), 60 - 10 * np.sin(turn)], -1)
    np.save(shapes / "a.npy", points)
    torch.manual_seed(0)
    save_file(squeezenet1_1(weights=None).state_dict(), folder / "encoder.safetensors")
    return folder


def _perfect(trial):
    return Seen(trial=trial, chance=trial.covered)


def test_scenes_are_labelled_only_where_something_lies_before_the_face(data):
    maker = SceneMaker(pool=open_pool(data, Split.TRAIN), anomalies=NAMED)
    rng = np.random.default_rng(0)
    scenes = [maker.draw(rng) for _ in range(40)]
    kinds = {scene.kind for scene in scenes}
    assert PLAIN in kinds
    assert kinds & set(NAMED)
    for scene in scenes:
        if scene.kind == PLAIN or scene.kind in NAMED:
            assert not scene.covered.any()
    assert any(scene.covered.max() > 0.9 for scene in scenes)
    batch = collate(scenes[:4])
    assert batch.images.shape == (4, 3, 128, 128)
    assert batch.covered.shape == batch.weight.shape == (4, 1, 64, 64)


def test_what_an_earlier_round_saw_is_a_label_and_its_doubts_hardly_count(data):
    pool = open_pool(data, Split.TRAIN)

    def look(image):
        seen = np.zeros((64, 64), np.float32)
        seen[20:30, 20:34], seen[45:60, 20:40] = 0.95, 0.5
        return seen

    rng = np.random.default_rng(0)
    maker = SceneMaker(pool=pool, anomalies=NAMED)
    scenes = [
        (replace(maker, look=look), maker)[k].draw(np.random.default_rng(s))
        for s in range(12)
        for k in (0, 1)
    ]
    for taught, bare in zip(scenes[::2], scenes[1::2], strict=True):
        assert taught.covered.sum() > bare.covered.sum() + 100 or bare.covered.sum() > 1000
        assert taught.weight.sum() <= bare.weight.sum() + 1e-3
    assert rng is not None


def test_the_loss_prefers_the_truth():
    covered = torch.zeros(2, 1, 64, 64)
    covered[0, :, 10:30, 10:30] = 1
    batch = Batch(
        images=torch.zeros(2, 3, 128, 128, dtype=torch.uint8),
        covered=covered,
        weight=torch.ones_like(covered),
    )
    right = 8 * (2 * covered - 1)
    values = [
        float(loss(logits, batch, lenient=False)) for logits in (right, torch.zeros_like(right), -right)
    ]
    assert values[0] < 0.1 < values[1] < values[2]
    assert float(loss(-right, batch, lenient=True)) < values[2]


def test_training_runs_resumes_and_releases(data, tmp_path):
    plan = OcclusionPlan(
        out=tmp_path,
        encoder=data / "encoder.safetensors",
        minutes=(0.03, 0.02),
        scenes=4,
        again=2,
        save_every=1,
    )
    weights = train(plan, data, data / "lips")
    OcclusionNetwork().load_state_dict({k: v.float() for k, v in load_file(weights).items()})
    steps = OcclusionTrainer(plan).step
    assert steps >= 2
    assert OcclusionTrainer(plan).round == 2
    assert train(plan, data, data / "lips") == weights
    assert OcclusionTrainer(plan).step == steps
    rows = release(weights, data, data / "lips", tmp_path / "release", faces=14)
    assert {PLAIN, "glasses", "nevus", "lt-v2", "lipstick"} <= {row.kind for row in rows}
    calibration = load_occlusion_calibration(CALIBRATION, tmp_path / "release")
    assert calibration.model == "occlusion-face"
    assert "14 normal faces" in calibration.basis
    assert (tmp_path / "release" / "occlusion-face.safetensors").stat().st_size < 1.5e6
    assert "sha256" in (tmp_path / "release" / "occlusion-manifest-row.toml").read_text()
    assert json.loads((tmp_path / "release" / "occlusion-1.json").read_text())["version"] == CALIBRATION


def test_too_few_faces_are_refused(data, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    write_archive(few, 128, ["one"] * 10)
    save_file(OcclusionNetwork().state_dict(), tmp_path / "network.safetensors")
    with pytest.raises(ConfigurationError, match="too few"):
        release(tmp_path / "network.safetensors", few, data / "lips", tmp_path, faces=5)


def test_a_perfect_network_finds_everything_and_harms_nothing(data):
    made = trials(open_pool(data, Split.TEST), NAMED, faces=20, seed=1)
    seen = [_perfect(trial) for trial in made]
    for kind, pairs in by_kind(seen).items():
        row = figures(kind, pairs, replace(GIVEN, min_area=0.0))  # a spot is cover too
        assert row.false_faces == 0
        assert row.iou is None or row.iou > 0.75
        assert row.auroc is None or row.auroc > 0.99
        assert row.found is None or row.found > 0.9
    chosen = choose(seen, version="v", model="m", basis="", most_false=0.0)
    assert chosen.max_region <= 0.3


def test_a_network_that_takes_a_naevus_for_cover_is_counted(data):
    made = trials(open_pool(data, Split.TEST), {"nevus": NAMED["nevus"]}, faces=6, seed=1)
    eye = [trial.masks[Region.LEFT_EYE].astype(np.float32) for trial in made]
    seen = [
        Seen(trial=trial, chance=plane if trial.kind == "nevus" else np.zeros_like(plane))
        for trial, plane in zip(made, eye, strict=True)
    ]
    row = figures("nevus", by_kind(seen)["nevus"], GIVEN)
    assert row.false_faces == 1
    assert row.auroc is row.iou is row.found is None


def test_glasses_are_drawn_over_both_eyes(data):
    face = small_face(open_pool(data, Split.TRAIN), 0)
    scene = with_occluders(face, ["glasses"], np.random.default_rng(0))
    for x in (0.32, 0.68):
        assert scene.covered[int(0.39 * 128), int(x * 128)] > 0.9
