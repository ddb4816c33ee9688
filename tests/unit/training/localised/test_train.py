import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from service.appraisal.anomalies import RANDOM
from service.appraisal.methods.localised.anomaly_network import AnomalyNetwork
from service.errors import ConfigurationError
from service.training.faces import Split, open_pool
from service.training.localised.examples import PER_FACE, Examples
from service.training.localised.losses import losses
from service.training.localised.steering import auroc, steering_set
from service.training.localised.train import train
from tests.unit.training.archives import write_archive
from tests.unit.training.localised.plans import plan

MAKERS = {name: RANDOM[name] for name in ("random-bumps", "random-blob")}


@pytest.fixture
def pool(tmp_path):
    write_archive(tmp_path, 256, ["one"] * 12)
    return open_pool(tmp_path, Split.TRAIN)


@pytest.fixture
def start(tmp_path):
    torch.manual_seed(1)
    path = tmp_path / "start.safetensors"
    save_file({k: v.contiguous() for k, v in AnomalyNetwork().state_dict().items()}, path)
    return path


def test_batches_are_trios_of_sham_subtle_and_plain(pool):
    stream = Examples(pool, MAKERS, faces_per_batch=2, first_step=0, curriculum_steps=10, seed=1)
    batch = stream.batch(4)
    severity = batch.severity.view(-1, PER_FACE)
    assert (severity[:, 0] == 0).all()
    assert (severity[:, 1] < severity[:, 2]).all()
    shams = batch.localisation.view(2, PER_FACE, -1)[:, 0]
    assert not shams.any()
    assert (batch.localisation.view(2, PER_FACE, -1)[:, 2].amax(1) > 0.5).all()
    assert batch.images.shape == (6, 3, 256, 256)


def test_a_step_number_decides_its_batch(pool):
    one, two = (
        Examples(pool, MAKERS, faces_per_batch=1, first_step=n, curriculum_steps=10, seed=1).batch(7)
        for n in (0, 5)
    )
    assert torch.equal(one.images, two.images)


def test_training_resumes_logs_and_shows(tmp_path, pool, start):
    seen = []
    train(plan(tmp_path, start, 2), pool, makers=MAKERS)
    train(
        plan(tmp_path, start, 4),
        pool,
        makers=MAKERS,
        held=steering_set(pool, MAKERS, faces=2, severity=1.0, seed=0),
        progress=lambda step, steps, figures: seen.append((step, steps)),
    )
    saved = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert saved["step"] == 4
    assert (tmp_path / "run" / "sheet-000004.png").stat().st_size > 1000
    rows = list(csv.reader((tmp_path / "run" / "steering.csv").read_text().splitlines()))
    assert rows[0][:2] == ["step", "random-bumps"]
    assert [row[0] for row in rows[1:]] == ["4"]
    assert seen == [(4, 4)] * 2  # of the losses, and of what it is steered by


def test_weights_move_and_the_frozen_layers_do_not(tmp_path, pool, start):
    path = train(plan(tmp_path, start, 2), pool, makers=MAKERS)
    before, after = load_file(start), load_file(path)
    assert after["heads.weight"].dtype == torch.float16
    assert not torch.equal(before["heads.weight"].half(), after["heads.weight"])
    torch.testing.assert_close(before["encoder.0.weight"].half(), after["encoder.0.weight"])


def test_a_run_ends_with_its_time(tmp_path, pool, start):
    quick = replace(plan(tmp_path, start, 50), minutes=1e-6)
    train(quick, pool, makers=MAKERS)
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 1


def test_training_needs_a_start(tmp_path, pool):
    with pytest.raises(ConfigurationError, match="encoder weights"):
        train(plan(tmp_path, None, 1), pool, makers=MAKERS)


def test_a_perfect_output_loses_less_than_a_wrong_one(pool):
    stream = Examples(pool, MAKERS, faces_per_batch=1, first_step=0, curriculum_steps=10, seed=2)
    batch = stream.batch(0)

    class Output:
        localisation = 12 * (batch.localisation - 0.5)
        flow = batch.flow
        residual = batch.residual
        evidence = 12 * ((batch.severity > 0).float() - 0.5) + 3 * batch.severity
        severity = batch.severity
        landmarks = batch.landmarks

    right = losses(Output, batch).total()
    Output.localisation = -Output.localisation
    Output.evidence = -Output.evidence
    Output.landmarks = 1 - batch.landmarks
    assert right < 0.4 * losses(Output, batch).total()


def test_steering_auroc_is_the_chance_of_a_win():
    assert auroc(np.array([0.0, 1.0]), np.array([1.0, 2.0])) == pytest.approx(0.875)
