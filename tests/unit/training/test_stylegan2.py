from __future__ import annotations

import numpy as np
import pytest
import torch

from service.appraisal.methods.stylegan2.generator import load_generator
from service.training.stylegan2 import Trainer, TrainingSettings, train

SETTINGS = TrainingSettings(size=16, channels=16, style_dim=8, mapping_layers=2, batch=8, minutes=0.0)


pytestmark = pytest.mark.usefixtures("one_thread")


def _reals(count=8):
    """Pictures of one colour each, around a warm mean."""
    rng = torch.Generator().manual_seed(0)
    colours = torch.tensor([0.6, 0.1, -0.5]) + 0.05 * torch.randn(count, 3, generator=rng)
    return colours[:, :, None, None].expand(-1, -1, 16, 16).contiguous()


def test_generated_pictures_move_towards_the_real_ones():
    trainer = Trainer(SETTINGS, "cpu")

    def error():
        with torch.no_grad():
            made = trainer.sample(trainer.average, 32, torch.Generator().manual_seed(5))
        return float((made.mean((0, 2, 3)) - torch.tensor([0.6, 0.1, -0.5])).abs().mean())

    before = error()
    for _ in range(150):
        trainer.step(_reals())
    assert error() < 0.6 * before


def test_a_checkpoint_goes_on_exactly_where_it_was(tmp_path):
    one = Trainer(SETTINGS, "cpu")
    for _ in range(3):
        one.step(_reals())
    one.save(tmp_path / "checkpoint.pt")
    other = Trainer(SETTINGS, "cpu")
    other.resume(tmp_path / "checkpoint.pt")
    assert other.steps == 3
    assert one.step(_reals()) == other.step(_reals())
    states = zip(one.average.state_dict().values(), other.average.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in states)


def test_the_weights_written_are_a_generator(tmp_path):
    faces = np.full((4, 16, 16, 3), 128, np.uint8)
    train(SETTINGS, faces, tmp_path, "cpu")
    assert load_generator(tmp_path / "generator.safetensors").shape.size == 16
