from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from service.appraisal.methods.features.backbones import BACKBONES, build_network
from service.appraisal.methods.stylegan2.projection import (
    AdaptationSettings,
    PerceptualLoss,
    Projection,
    ProjectionSettings,
    _Found,
    adapt,
    learning_rate,
    noise_regularisation,
    project,
)
from service.appraisal.methods.stylegan2.recovery import jacobian_of, recovery
from tests.unit.appraisal.methods.stylegan2.generators import small_generator

SETTINGS = ProjectionSettings(steps=150, mean_draws=500, window=60, learning_rate=0.05)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def generator():
    return small_generator(plain=True, size=32, style_dim=16, most_channels=12)


@pytest.fixture(scope="module")
def loss():
    torch.manual_seed(1)
    return PerceptualLoss(build_network(BACKBONES["squeezenet"], None, 3), None)


@pytest.fixture(scope="module")
def known(generator):
    w = generator.map(torch.randn(2, 16, generator=torch.Generator().manual_seed(3)))
    noise = generator.draw_noise(2, torch.Generator().manual_seed(4), "cpu")
    return w, generator.synthesise(w, noise).clamp(-1, 1)


def test_a_known_latent_is_recovered_and_the_loss_falls(generator, loss, known):
    w, pictures = known
    found = project(generator, loss, pictures, SETTINGS)
    mean, _ = generator.mean_latent(500)
    before = (mean - w).norm(dim=1)
    after = (found.w - w).norm(dim=1)
    assert found.losses[-1] < 0.25 * found.losses[0]
    assert (after < 0.6 * before).all()
    assert (found.pictures - pictures).square().mean() < 0.3 * (
        generator.synthesise(mean[None].repeat(2, 1), found.noise) - pictures
    ).square().mean()


def test_what_the_picture_shows_of_a_known_latent_comes_back(generator, loss, known):
    w, pictures = known
    noise = generator.draw_noise(2, torch.Generator().manual_seed(4), "cpu")
    mean, _ = generator.mean_latent(500)
    found = recovery(generator, project(generator, loss, pictures, SETTINGS).w, w, noise, mean=mean)
    assert (found.seen < 0.35).all()
    assert (found.picture < 0.35).all()
    assert (found.plainest < 0.35).all()
    assert (found.seen < found.w).all()  # what is left of w hardly shows


def test_recovery_is_measured_from_the_mean_to_the_true_latent(generator, known):
    w, _ = known
    noise = generator.draw_noise(2, torch.Generator().manual_seed(4), "cpu")
    mean, _ = generator.mean_latent(500)
    nothing = recovery(generator, mean.expand_as(w), w, noise, mean=mean)
    all_of_it = recovery(generator, w, w, noise, mean=mean)
    half = recovery(generator, (mean + w) / 2, w, noise, mean=mean)
    for name in ("w", "seen", "plainest", "picture"):
        assert getattr(nothing, name).numpy() == pytest.approx(1)
        assert getattr(all_of_it, name).numpy() == pytest.approx(0, abs=1e-6)
    for name in ("w", "seen", "plainest"):
        assert getattr(half, name).numpy() == pytest.approx(0.5, rel=1e-3)


def test_directions_that_do_not_show_do_not_count_as_seen(generator, known):
    w, _ = known
    noise = generator.draw_noise(2, torch.Generator().manual_seed(4), "cpu")
    mean, _ = generator.mean_latent(500)

    jacobian = jacobian_of(generator, w[0], [plane[:1] for plane in noise])
    nearby = w[:1] + 1e-3 * torch.eye(16)[:1]
    step = generator.synthesise(nearby, [plane[:1] for plane in noise]) - generator.synthesise(
        w[:1], [plane[:1] for plane in noise]
    )
    assert step.flatten().detach().numpy() == pytest.approx(1e-3 * jacobian[:, 0].numpy(), abs=1e-4)
    flattest = torch.linalg.eigh(jacobian.T @ jacobian).eigenvectors[:, 0]
    away = w[:1] + 0.5 * (mean - w[0]).norm() * flattest
    found = recovery(generator, away, w[:1], [plane[:1] for plane in noise], mean=mean, directions=4)
    assert float(found.w) == pytest.approx(0.5, rel=1e-3)
    assert float(found.seen) < 0.4 * float(found.w)
    assert float(found.plainest) < 1e-3


def test_the_closest_of_some_draws_is_a_better_start_than_the_mean(generator, loss, known):
    one = replace(SETTINGS, steps=1, latent_noise=0.0)
    begun = project(generator, loss, known[1], one)
    closer = project(generator, loss, known[1], replace(one, starts=64))
    assert closer.w.shape == begun.w.shape
    assert closer.losses[0] < begun.losses[0]
    wide = project(generator, loss, known[1], replace(one, starts=8, w_plus=True))
    assert wide.w.shape == (2, generator.shape.styles, 16)


def test_w_plus_has_a_style_for_each_layer_and_comes_close(generator, loss, known):
    short = replace(SETTINGS, steps=80)

    plus = project(generator, loss, known[1], replace(short, w_plus=True))
    assert plus.w.shape == (2, generator.shape.styles, 16)
    assert plus.losses[-1] < 0.25 * plus.losses[0]


def test_the_settings_are_the_papers():
    """N = 10^4 draws and alpha = 10^5 of Algorithm 1; steps, rate and noise of Karras et al., appendix D."""
    settings = ProjectionSettings()
    assert (settings.mean_draws, settings.noise_weight) == (10_000, 1e5)
    assert (settings.steps, settings.learning_rate, settings.starts) == (1000, 0.1, 0)
    assert (settings.ramp_up, settings.ramp_down) == (0.05, 0.25)
    assert (settings.latent_noise, settings.latent_noise_end) == (0.05, 0.75)


@pytest.mark.parametrize("w_plus", [False, True])
def test_a_batch_finds_what_one_by_one_finds(generator, loss, known, w_plus):
    few = replace(SETTINGS, steps=12, w_plus=w_plus)
    together = project(generator, loss, known[1], few)
    for index in range(2):
        alone = project(generator, loss, known[1][index : index + 1], few)
        assert torch.allclose(together.w[index], alone.w[0], atol=0.01)
        assert torch.allclose(together.pictures[index], alone.pictures[0], atol=0.01)
    assert not torch.allclose(together.w[0], together.w[1], atol=0.05)


def test_a_projection_repeats_itself(generator, loss, known):
    few = replace(SETTINGS, steps=5)
    one, again = (project(generator, loss, known[1], few) for _ in range(2))
    assert torch.equal(one.pictures, again.pictures)
    assert one.w.shape == (2, 16)


def test_the_search_stops_when_the_loss_no_longer_falls(generator, loss, known):
    stuck = replace(SETTINGS, learning_rate=0.0, window=10, latent_noise=0.0)
    told = []
    found = project(generator, loss, known[1], stuck, progress=lambda done, total: told.append((done, total)))
    assert len(found.losses) == 20
    assert found.steps == (20, 20)
    assert told == [(step, 150) for step in range(1, 21)]


def test_each_picture_of_a_batch_stops_by_itself(generator):
    """The first picture's loss stands still; the second's falls on: the first is kept as it was."""
    settings = replace(SETTINGS, window=5)
    w = torch.zeros(2, 1, 16)
    noise = generator.draw_noise(2, torch.Generator().manual_seed(0), "cpu")
    found = _Found(w=w, noise=noise, settings=settings)
    for step in range(30):
        w += 1
        found.take(torch.tensor([1.0, 0.9**step]))
        assert not found.all_converged
    made = found.projection(generator)
    assert made.steps == (10, 30)
    assert made.w[:, 0].tolist() == [10, 30]
    assert len(made.losses) == 30
    assert made.losses[-1] == pytest.approx((1 + 0.9**29) / 2)


class Watched:
    """A generator that notes the latents it makes pictures of."""

    def __init__(self, generator):
        self.generator = generator
        self.seen = []

    def __getattr__(self, name):
        return getattr(self.generator, name)

    def synthesise(self, w, noise):
        self.seen.append(w)
        return self.generator.synthesise(w, noise)


def test_the_noise_on_w_is_of_the_size_of_its_spread_and_decays(generator, loss, known):
    """N(0, .05 sigma_w t^2) on each component, sigma_w^2 the mean squared distance from the mean latent."""
    watched = Watched(generator)
    settings = replace(SETTINGS, learning_rate=0.0, steps=40, window=40)
    project(watched, loss, known[1], settings)
    mean, spread = generator.mean_latent(settings.mean_draws, settings.seed)
    moved = torch.stack([w.detach() for w in watched.seen[:40]]) - mean
    assert torch.equal(moved[:, 0], moved[:, 1])  # none of a batch depends on the others
    assert float(moved[:10].square().mean().sqrt()) == pytest.approx(
        0.05 * spread * float(np.sqrt(np.mean([(1 - t / 30) ** 4 for t in range(10)]))), rel=0.2
    )
    assert (moved[30:] == 0).all()


def test_large_pictures_are_reduced_before_they_are_compared(loss):
    large = torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(0)) * 2 - 1
    small = torch.nn.functional.avg_pool2d(large, 2)
    for ours, theirs in zip(loss.features(large), loss.features(small), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_adaptation_comes_closer_and_leaves_the_generator_alone(generator, loss, known):
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    rng = torch.Generator().manual_seed(7)
    picture = (known[1][:1] + 0.3 * torch.randn(1, 3, 1, 1, generator=rng)).clamp(-1, 1)
    projected = project(generator, loss, picture, replace(SETTINGS, steps=60))
    adapted, losses = adapt(generator, loss, picture, projected, AdaptationSettings(steps=60))
    assert losses[-1] < losses[0]
    assert (adapted - picture).square().mean() < (projected.pictures - picture).square().mean()
    assert all(torch.equal(v, before[k]) for k, v in generator.state_dict().items())
    assert not any(p.requires_grad for p in generator.parameters())
    assert isinstance(projected, Projection)


@pytest.fixture
def projected(generator, loss, known):
    return project(generator, loss, known[1][:1], replace(SETTINGS, steps=2))


def test_adaptation_lowers_lpips_plus_l2_with_w_frozen(generator, loss, known, projected):
    picture, w = known[1][:1], projected.w.clone()
    with torch.no_grad():
        made = generator.synthesise(projected.w, projected.noise)
        lpips = loss.distance(loss.features(made), loss.features(picture))
        first = float(lpips.sum() + (made - picture).square().mean())
    told = []
    _, losses = adapt(
        generator,
        loss,
        picture,
        projected,
        AdaptationSettings(steps=6),
        progress=lambda done, total: told.append((done, total)),
    )
    assert losses[0] == pytest.approx(first, rel=1e-4)
    assert torch.equal(projected.w, w)
    assert told == [(step, 6) for step in range(1, 7)]


def test_adaptation_stops_when_the_loss_no_longer_falls(generator, loss, known, projected):
    stuck = AdaptationSettings(learning_rate=0.0, window=4, steps=50)
    _, losses = adapt(generator, loss, known[1][:1], projected, stuck)
    assert len(losses) == 8


def test_the_generator_is_as_it_was_when_adaptation_breaks_off(generator, loss, known, projected):
    before = {k: v.clone() for k, v in generator.state_dict().items()}

    def interrupt(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adapt(generator, loss, known[1][:1], projected, AdaptationSettings(steps=6), progress=interrupt)
    assert all(torch.equal(v, before[k]) for k, v in generator.state_dict().items())
    assert not any(p.requires_grad for p in generator.parameters())


def test_noise_regularisation_by_hand_in_numpy():
    rng = np.random.default_rng(0)
    planes = [rng.normal(size=(2, 1, side, side)) for side in (4, 16)]
    expected = np.zeros(2)
    for plane in planes:
        level = plane
        while True:
            for axis in (2, 3):
                expected += (level * np.roll(level, 1, axis)).mean((1, 2, 3)) ** 2
            if level.shape[2] <= 8:
                break
            b, c, h, w = level.shape
            level = level.reshape(b, c, h // 2, 2, w // 2, 2).mean((3, 5)) * 2
    ours = noise_regularisation([torch.from_numpy(plane) for plane in planes])
    assert ours.numpy() == pytest.approx(expected)


def test_correlated_noise_costs_more_than_white():
    rng = torch.Generator().manual_seed(0)
    white = torch.randn(1, 1, 32, 32, generator=rng)
    smooth = torch.nn.functional.avg_pool2d(white, 3, 1, 1) * 3
    assert float(noise_regularisation([smooth])) > 10 * float(noise_regularisation([white]))


def test_the_learning_rate_ramps_up_and_down():
    settings = ProjectionSettings(steps=100)
    rates = [learning_rate(step, settings) for step in range(1, 101)]
    assert rates[0] < rates[4] == pytest.approx(0.1)
    assert rates[50] == pytest.approx(0.1)
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    assert rates[75:] == sorted(rates[75:], reverse=True)


def test_the_loss_is_lpips_when_weighted():
    import warnings

    import lpips

    from service.appraisal.model_files.models import ModelStore

    network = build_network(BACKBONES["squeezenet"], None, 7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = lpips.LPIPS(net="squeeze", pnet_rand=True, verbose=False)
    for index, layer in enumerate(network):
        for ours, theirs in zip(layer, getattr(reference.net, f"slice{index + 1}"), strict=True):
            theirs.load_state_dict(ours.state_dict())
    learned = ModelStore().tensors("lpips-0.1-squeeze")
    loss = PerceptualLoss(network, [learned[f"layer{i}"] for i in range(7)])
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.rand(2, 3, 64, 64, generator=generator) * 2 - 1 for _ in range(2))
    with torch.no_grad():
        ours = loss.distance(loss.features(one), loss.features(other))
        theirs = reference(one, other).flatten()
    assert ours.numpy() == pytest.approx(theirs.numpy(), rel=0.02)
