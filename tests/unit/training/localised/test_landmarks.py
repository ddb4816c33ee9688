from dataclasses import replace

import numpy as np
import pytest
import torch

from service.appraisal.methods.localised.anomaly_network import AnomalyNetwork
from service.appraisal.methods.localised.views import CLOSE_UP, LANDMARKS
from service.training.faces import Split, open_pool
from service.training.localised.landmarks import DisplacedFaces, LandmarkPlan, train_landmarks
from service.training.localised.losses import landmark_loss
from tests.unit.training.archives import write_archive


@pytest.fixture
def pool(tmp_path):
    write_archive(tmp_path, 256, ["one"] * 12)
    return open_pool(tmp_path, Split.TRAIN)


def plan(tmp_path, steps):
    return LandmarkPlan(
        out=tmp_path / "points", steps=steps, faces_per_batch=2, threads=1, workers=0, save_every=2
    )


def test_a_batch_tells_where_displaced_points_are(pool):
    batch = DisplacedFaces(pool, faces_per_batch=12, first_step=0, seed=1).batch(3)
    assert batch.images.shape == (12, 3, 256, 256)
    assert batch.landmarks.shape == (12, len(LANDMARKS), 2)
    assert float(batch.moved.amax(1).max()) > 0.05
    assert torch.equal(
        batch.images, DisplacedFaces(pool, faces_per_batch=12, first_step=9, seed=1).batch(3).images
    )


def test_of_a_close_up_most_faces_are_displaced_where_it_looks(pool):
    batch = DisplacedFaces(pool, faces_per_batch=12, first_step=0, seed=1, view=CLOSE_UP).batch(3)
    assert batch.images.shape == (12, 3, CLOSE_UP.size, CLOSE_UP.size)
    assert batch.landmarks.shape == (12, len(CLOSE_UP.chosen), 2)
    assert float((batch.moved.amax(1) > 0.02).float().mean()) > 0.5
    middle = batch.landmarks[..., 0].mean()  # lips and nose lie in the middle of it
    assert middle == pytest.approx(0.5, abs=0.05)


def test_the_landmarks_of_a_close_up_are_trained_likewise(tmp_path, pool):
    network = AnomalyNetwork(CLOSE_UP)
    before = network.points.maps.weight.clone()
    train_landmarks(network, replace(plan(tmp_path, 1), view=CLOSE_UP), pool)
    assert not torch.equal(network.points.maps.weight, before)


def test_only_the_branch_learns_and_a_run_goes_on_from_its_checkpoint(tmp_path, pool):
    torch.manual_seed(2)
    network = AnomalyNetwork()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    told = []
    train_landmarks(network, plan(tmp_path, 2), pool)
    train_landmarks(network, plan(tmp_path, 3), pool, progress=lambda *row: told.append(row))
    assert [row[0] for row in told] == [3]
    assert not network.training
    changed = {k.split(".")[0] for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"points"}
    assert (tmp_path / "points" / "landmarks.csv").read_text().startswith("step,landmarks")


def test_a_run_ends_with_its_time(tmp_path, pool):
    train_landmarks(AnomalyNetwork(), replace(plan(tmp_path, 50), minutes=1e-6), pool)
    assert torch.load(tmp_path / "points" / "landmarks.pt", weights_only=True)["step"] == 1


def test_a_landmark_that_moved_weighs_more():
    true = torch.zeros(1, 2, 2)
    found = torch.tensor([[[0.01, 0.0], [0.0, 0.0]]])
    moved, still = torch.tensor([[0.2, 0.0]]), torch.zeros(1, 2)
    assert landmark_loss(found, true, still) == pytest.approx(0.5)
    assert landmark_loss(found, true, moved) > 0.8
    assert landmark_loss(true, true, moved) == 0


def test_landmarks_may_lie_below_the_square():
    network = AnomalyNetwork().eval()
    with torch.no_grad():
        network.points.maps.weight.zero_()
        network.points.maps.bias.zero_()
    middle = network(torch.rand(1, 3, 256, 256)).landmarks
    assert middle[0, 0].tolist() == pytest.approx([0.5, 0.5 + 5 / 64], abs=1e-3)
    assert network.points.rows.max() > 1.1
    assert np.isclose(float(network.points.columns.max()), 1 - 0.5 / 64)
