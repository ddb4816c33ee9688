from dataclasses import replace

import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save_file

from service.appraisal.anomalies import RANDOM
from service.appraisal.methods.localised.anomaly_network import FLOW_UNIT, AnomalyNetwork
from service.appraisal.methods.localised.views import CLOSE_UP, WHOLE
from service.training.faces import Split, open_pool
from service.training.localised.close_up import seen_from
from service.training.localised.examples import PER_FACE, Examples
from service.training.localised.train import train
from tests.unit.training.archives import write_archive
from tests.unit.training.localised.plans import plan


def stream(tmp_path, view, makers=("random-bumps", "random-line")):
    write_archive(tmp_path, 256, ["one"] * 12)
    pool = open_pool(tmp_path, Split.TRAIN)
    kinds = {name: RANDOM[name] for name in makers}
    return pool, Examples(pool, kinds, faces_per_batch=2, first_step=0, curriculum_steps=1, seed=3, view=view)


def test_a_change_is_where_the_close_up_sees_it(tmp_path):
    _, examples = stream(tmp_path, CLOSE_UP)
    for number in range(4):
        batch = examples.batch(number)
        assert batch.images.shape == (2 * PER_FACE, 3, CLOSE_UP.size, CLOSE_UP.size)
        assert batch.flow.shape[2:] == (CLOSE_UP.cells, CLOSE_UP.cells)
        plain = batch.localisation.view(2, PER_FACE, -1)[:, 2]
        assert (plain.amax(1) > 0.5).all()


def test_both_views_tell_the_same_displacement_in_inter_ocular_distances(tmp_path):
    """The largest displacement of a bump near the mouth, seen from afar and from close by."""
    _, near = stream(tmp_path, CLOSE_UP, ("random-bumps",))
    batch = near.batch(0)
    for severity, flow, moved in zip(batch.severity, batch.flow, batch.moved, strict=True):
        seen = float(flow.norm(dim=0).max()) * FLOW_UNIT
        assert seen <= 0.20 * float(severity) * 1.1
        assert seen >= 0.5 * float(moved.max())


def test_the_close_up_begins_with_what_the_whole_face_knows_there():
    torch.manual_seed(0)
    whole = AnomalyNetwork()
    with torch.no_grad():
        rows = torch.linspace(0, 1, WHOLE.cells).view(1, 1, -1, 1)
        columns = torch.linspace(-1, 1, WHOLE.cells).view(1, 1, 1, -1)
        whole.lateral4.position.copy_((rows + 10 * columns).expand_as(whole.lateral4.position))
    made = seen_from(CLOSE_UP, whole.state_dict())
    close = AnomalyNetwork(CLOSE_UP)
    close.load_state_dict(made)
    assert close.lateral4.position.shape[2:] == (CLOSE_UP.cells, CLOSE_UP.cells)
    middle = close.lateral4.position[0, 0].mean().item()
    assert abs(middle - (CLOSE_UP.top + CLOSE_UP.extent / 2)) < 0.02
    assert torch.equal(close.points.maps.weight, whole.points.maps.weight[list(CLOSE_UP.chosen)])
    assert torch.equal(close.encoder[0].weight, whole.encoder[0].weight)


def test_a_close_up_trains(tmp_path):
    pool, _ = stream(tmp_path, CLOSE_UP)
    torch.manual_seed(0)
    start = tmp_path / "start.safetensors"
    save_file(seen_from(CLOSE_UP, AnomalyNetwork().state_dict()), start)
    close = replace(plan(tmp_path, start, 2), view=CLOSE_UP, save_every=1)
    weights = train(close, pool, makers={"random-bumps": RANDOM["random-bumps"]})
    AnomalyNetwork(CLOSE_UP).load_state_dict({k: v.float() for k, v in load_file(weights).items()})
    sheet = cv2.imread(str(next((tmp_path / "run").glob("sheet-*.png"))))
    assert sheet is not None
    assert np.ptp(sheet) > 0
