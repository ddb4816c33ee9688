"""What a GPU does differently, done on a CPU: the results are the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from service.appraisal.acceleration import (
    COMPARING_ON_GPU,
    OPTIMISING_ON_GPU,
    PLAIN,
    Acceleration,
    for_comparing,
    for_optimising,
)
from service.appraisal.methods.features.backbones import BACKBONES, build_network
from service.appraisal.methods.features.deep import DeepComparator, DeepSettings
from service.appraisal.methods.stylegan2.projection import (
    AdaptationSettings,
    PerceptualLoss,
    ProjectionSettings,
    adapt,
    project,
)
from tests.unit.appraisal.methods.stylegan2.generators import small_generator

pytestmark = pytest.mark.usefixtures("one_thread")
SETTINGS = ProjectionSettings(steps=6, mean_draws=50, latent_noise=0.0, learning_rate=0.01)
BFLOAT16 = OPTIMISING_ON_GPU


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(1)
    generator = small_generator(size=32)
    loss = PerceptualLoss(build_network(BACKBONES["squeezenet"], None, 3), None)
    w = generator.map(torch.randn(2, 8, generator=torch.Generator().manual_seed(3)))
    noise = generator.draw_noise(2, torch.Generator().manual_seed(4), "cpu")
    return generator, loss, generator.synthesise(w, noise).clamp(-1, 1)


@pytest.mark.parametrize(("fast", "tolerance"), [(Acceleration(channels_last=True), 1e-3), (BFLOAT16, 0.1)])
def test_projection_and_adaptation_end_alike(parts, fast, tolerance):
    generator, loss, pictures = parts
    plain = project(generator, loss, pictures, SETTINGS, acceleration=PLAIN)
    found = project(generator, loss, pictures, SETTINGS, acceleration=fast)
    assert found.losses == pytest.approx(plain.losses, rel=tolerance)
    assert float((found.pictures - plain.pictures).abs().mean()) < tolerance
    one = replace(plain, w=plain.w[:1], noise=tuple(n[:1] for n in plain.noise))
    settings = AdaptationSettings(steps=4)
    theirs, _ = adapt(generator, loss, pictures[:1], one, settings, acceleration=PLAIN)
    ours, losses = adapt(generator, loss, pictures[:1], one, settings, acceleration=fast)
    assert float((ours - theirs).abs().mean()) < tolerance
    assert losses[-1] < losses[0]
    assert ours.dtype is torch.float32


def test_a_comparator_in_half_precision_gives_the_same_map():
    network = build_network(BACKBONES["squeezenet"], None, 7)
    one, other = (torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    maps = [
        DeepComparator(network, DeepSettings(), acceleration=fast).difference(one, other).numpy()
        for fast in (PLAIN, replace(COMPARING_ON_GPU, dtype=torch.bfloat16))
    ]
    assert np.corrcoef(maps[0].ravel(), maps[1].ravel())[0, 1] > 0.98
    assert maps[1].mean() == pytest.approx(maps[0].mean(), rel=0.1)


def test_the_device_decides():
    assert for_optimising("cpu") is for_comparing("cpu") is PLAIN
    assert for_optimising("cuda") is OPTIMISING_ON_GPU
    assert for_comparing("cuda").dtype is torch.float16
