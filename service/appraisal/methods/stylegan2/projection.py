"""Algorithms 1 and 2 of paper 000: project faces into the latent space, then adapt the generator.

Algorithm 1 looks for w and noise maps whose picture is closest by LPIPS, with the noise kept
uncorrelated at every scale (Karras et al. 2020, appendix D, whose learning rate ramp and decay of
the noise on w are used). Algorithm 2 freezes w and adapts the generator's weights with LPIPS + L2.
Algorithm 1 works on batches, in which every picture finds what it would find by itself; both stop
when the loss no longer falls.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from service.appraisal.acceleration import Acceleration, for_optimising
from service.appraisal.methods.stylegan2.generator import Generator
from service.appraisal.model_files.imagenet import IMAGENET_MEAN, IMAGENET_SD
from service.appraisal.tables import Progress, unwatched

_EPSILON = 1e-10
_LEAST_NOISE_SIDE = 8  # the pyramid of the regularisation ends there
_LOSS_SIDE = 256  # larger pictures are reduced to it before their features are taken (appendix D)


@dataclass(frozen=True, kw_only=True)
class ProjectionSettings:
    """Of Algorithm 1; the defaults are the paper's where it names them."""

    steps: int = 1000
    mean_draws: int = 10_000  # N
    starts: int = 0  # latents drawn, of which the closest picture's is begun with; 0 begins with the mean
    noise_weight: float = 1e5  # alpha
    learning_rate: float = 0.1
    ramp_up: float = 0.05  # part of the steps
    ramp_down: float = 0.25
    latent_noise: float = 0.05  # SD of what is added to each component of w, in units of w's spread, decaying
    latent_noise_end: float = 0.75  # part of the steps after which none is added
    w_plus: bool = False  # one w for each layer
    window: int = 100  # steps without a fall by `tolerance` that end it
    tolerance: float = 1e-3
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class AdaptationSettings:
    """Of Algorithm 2."""

    steps: int = 200
    learning_rate: float = 2e-3
    window: int = 40
    tolerance: float = 1e-3


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """What Algorithm 1 found."""

    w: Tensor  # (B, style_dim), or (B, styles, style_dim) for W+
    noise: tuple[Tensor, ...]  # one (B, 1, side, side) a layer
    pictures: Tensor  # (B, 3, S, S), -1..1
    losses: tuple[float, ...]  # image loss at each step, mean over the batch
    steps: tuple[int, ...]  # of each picture, until it converged


class PerceptualLoss:
    """LPIPS, differentiable (Zhang et al. 2018)."""

    def __init__(
        self, network: Sequence[torch.nn.Module], weights: Sequence[Tensor] | None, device: str = "cpu"
    ) -> None:
        """Take over a frozen network.

        Args:
            network: One module a layer.
            weights: Learned weights of each layer's filters; None for equal ones.
            device: "cpu" or "cuda".
        """
        self._layers = [layer.to(device) for layer in network]
        self._weights = None if weights is None else [w.to(device).view(1, -1, 1, 1) for w in weights]
        self._mean = torch.tensor(IMAGENET_MEAN, device=device).view(1, 3, 1, 1)
        self._sd = torch.tensor(IMAGENET_SD, device=device).view(1, 3, 1, 1)

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Unit-length features of (B, 3, S, S) pictures, -1..1, reduced to 256 px where they are larger."""
        values = pictures.float()
        if values.shape[-1] > _LOSS_SIDE:
            values = functional.interpolate(values, size=(_LOSS_SIDE, _LOSS_SIDE), mode="area")
        values = ((values + 1) / 2 - self._mean) / self._sd
        found = []
        for layer in self._layers:
            values = layer(values)
            wide = values.float()
            found.append(wide / (wide.square().sum(1, keepdim=True) + _EPSILON).sqrt())
        return found

    def distance(self, ones: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
        """Distance of each pair, (B,)."""
        total = ones[0].new_zeros(len(ones[0]))
        for index, (a, b) in enumerate(zip(ones, others, strict=True)):
            squared = (a - b).square()
            part = squared.mean(1) if self._weights is None else (squared * self._weights[index]).sum(1)
            total = total + part.mean((1, 2))
        return total


def noise_regularisation(noise: Sequence[Tensor]) -> Tensor:
    """Correlation of each noise map with itself one pixel on, at every scale: Algorithm 1's L_jk.

    Args:
        noise: (B, 1, side, side) each.

    Returns:
        (B,).
    """
    total = noise[0].new_zeros(len(noise[0]))
    for plane in noise:
        level = plane
        while True:
            across = (level * torch.roll(level, 1, 3)).mean((1, 2, 3))
            down = (level * torch.roll(level, 1, 2)).mean((1, 2, 3))
            total = total + across.square() + down.square()
            if level.shape[2] <= _LEAST_NOISE_SIDE:
                break
            level = functional.avg_pool2d(level, 2) * 2  # halving keeps the variance
    return total


def learning_rate(step: int, settings: ProjectionSettings) -> float:
    """Ramp up linearly, down with a cosine."""
    time = step / settings.steps
    down = min(1.0, (1.0 - time) / settings.ramp_down)
    ramp = 0.5 - 0.5 * math.cos(math.pi * down)
    return settings.learning_rate * ramp * min(1.0, time / settings.ramp_up)


def project(
    generator: Generator,
    loss: PerceptualLoss,
    pictures: Tensor,
    settings: ProjectionSettings,
    *,
    progress: Progress = unwatched,
    acceleration: Acceleration | None = None,
) -> Projection:
    """Algorithm 1: find the latents and noise maps closest to the pictures.

    Args:
        generator: Frozen.
        loss: The image loss.
        pictures: (B, 3, S, S) float32, -1..1, of the generator's size.
        settings: Of the search.
        progress: Called with steps done and in all.
        acceleration: Precision and compilation; None takes what suits the device.
    """
    device, count = pictures.device, len(pictures)
    fast = acceleration or for_optimising(device.type)
    make = fast.compiled(partial(_pictures_and_features, generator, loss, fast))
    mean, spread = generator.mean_latent(settings.mean_draws, settings.seed)
    draws = torch.Generator().manual_seed(settings.seed)
    # What is drawn is the same for every picture, so that none depends on those beside it.
    noise = [n.repeat(count, 1, 1, 1).requires_grad_(True) for n in generator.draw_noise(1, draws, device)]
    target = _target(loss, pictures, fast)
    start = _closest(generator, loss, target, mean, settings, fast) if settings.starts else mean[None]
    w = start[:, None].repeat(count // len(start), generator.shape.styles if settings.w_plus else 1, 1)
    w.requires_grad_(True)
    optimiser = torch.optim.Adam([w, *noise], lr=settings.learning_rate, betas=(0.9, 0.999))
    found = _Found(w=w, noise=noise, settings=settings)
    for step in range(settings.steps):
        optimiser.param_groups[0]["lr"] = learning_rate(step + 1, settings)
        left = max(0.0, 1.0 - step / settings.steps / settings.latent_noise_end)
        jitter = settings.latent_noise * spread * left**2
        moved = w + jitter * torch.randn(w[:1].shape, generator=draws).to(device)
        image = loss.distance(make(_styles(moved), noise)[1], target)
        total = image + settings.noise_weight * noise_regularisation(noise)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(total.sum())
        optimiser.step()
        with torch.no_grad():
            for plane in noise:
                plane.sub_(plane.mean((2, 3), keepdim=True))
                plane.mul_(plane.square().mean((2, 3), keepdim=True).clamp_min(_EPSILON).rsqrt())
        found.take(image.detach())
        progress(step + 1, settings.steps)
        if found.all_converged:
            break
    return found.projection(generator)


def adapt(
    generator: Generator,
    loss: PerceptualLoss,
    picture: Tensor,
    projection: Projection,
    settings: AdaptationSettings,
    *,
    progress: Progress = unwatched,
    acceleration: Acceleration | None = None,
) -> tuple[Tensor, tuple[float, ...]]:
    """Algorithm 2: adapt a copy of the generator to one face, w and noise frozen.

    The generator itself is never touched, so it is as it was however this ends.

    Args:
        generator: Frozen.
        loss: The perceptual part of the loss.
        picture: (1, 3, S, S) float32, -1..1.
        projection: Of that picture alone.
        settings: Of the search.
        progress: Called with steps done and in all.
        acceleration: Precision and compilation; None takes what suits the device.

    Returns:
        The adapted picture, (1, 3, S, S), -1..1, and the loss at each step.
    """
    adapted = copy.deepcopy(generator).requires_grad_(True)
    optimiser = torch.optim.Adam(adapted.parameters(), lr=settings.learning_rate)
    fast = acceleration or for_optimising(picture.device.type)
    make = fast.compiled(partial(_pictures_and_features, adapted, loss, fast))
    target = _target(loss, picture, fast)
    losses: list[float] = []
    for step in range(settings.steps):
        made, features = make(projection.w, projection.noise)
        total = loss.distance(features, target).sum() + (made - picture).square().mean()
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        optimiser.step()
        losses.append(float(total.detach()))
        progress(step + 1, settings.steps)
        if _converged(losses, settings.window, settings.tolerance):
            break
    with torch.no_grad():
        return adapted.synthesise(projection.w, projection.noise).clamp(-1, 1), tuple(losses)


def _pictures_and_features(
    generator: Generator,
    loss: PerceptualLoss,
    fast: Acceleration,
    w: Tensor,
    noise: Sequence[Tensor],
) -> tuple[Tensor, list[Tensor]]:
    """The part of a step that is the same every time: what a GPU compiles."""
    with fast.autocast(w.device.type):
        made = generator.synthesise(w, noise).float()
        return made, loss.features(fast.laid_out(made))


@torch.no_grad()
def _closest(  # noqa: PLR0917
    generator: Generator,
    loss: PerceptualLoss,
    target: Sequence[Tensor],
    mean: Tensor,
    settings: ProjectionSettings,
    fast: Acceleration,
) -> Tensor:
    """For each picture the closest of the mean and some drawn latents, (B, D)."""
    draws = torch.Generator().manual_seed(settings.seed + 1)
    z = torch.randn(settings.starts, generator.shape.style_dim, generator=draws).to(mean.device)
    candidates = torch.cat([mean[None], generator.map(z)])
    count = len(target[0])
    best, chosen = torch.full((count,), math.inf, device=mean.device), mean[None].repeat(count, 1)
    for one in candidates:
        noise = generator.draw_noise(1, draws, mean.device)
        features = _pictures_and_features(generator, loss, fast, one[None], noise)[1]
        found = loss.distance([part.expand_as(t) for part, t in zip(features, target, strict=True)], target)
        chosen[found < best] = one
        best = torch.minimum(best, found)
    return chosen


def _target(loss: PerceptualLoss, pictures: Tensor, fast: Acceleration) -> list[Tensor]:
    with torch.no_grad(), fast.autocast(pictures.device.type):
        return loss.features(fast.laid_out(pictures))


def _styles(w: Tensor) -> Tensor:
    """(B, 1, D) stands for one w; (B, styles, D) is W+."""
    return w[:, 0] if w.shape[1] == 1 else w


class _Found:
    """What each picture of a batch came to when its own search ended."""

    def __init__(self, *, w: Tensor, noise: Sequence[Tensor], settings: ProjectionSettings) -> None:
        self._w, self._noise, self._settings = w, noise, settings
        self._losses: list[list[float]] = [[] for _ in range(len(w))]
        self._ended: dict[int, tuple[Tensor, list[Tensor]]] = {}

    def take(self, image: Tensor) -> None:
        """Note the loss of each picture after a step; keep those whose loss no longer falls as they are."""
        for index, value in enumerate(image.tolist()):
            if index in self._ended:
                continue
            self._losses[index].append(value)
            if _converged(self._losses[index], self._settings.window, self._settings.tolerance):
                self._ended[index] = self._now(index)

    @property
    def all_converged(self) -> bool:
        return len(self._ended) == len(self._losses)

    @torch.no_grad()
    def projection(self, generator: Generator) -> Projection:
        """Put the pictures together again, those that have not converged as they are now."""
        each = [self._ended.get(index) or self._now(index) for index in range(len(self._losses))]
        w = _styles(torch.stack([one for one, _ in each]))
        noise = tuple(torch.stack(planes) for planes in zip(*(own for _, own in each), strict=True))
        steps = tuple(len(losses) for losses in self._losses)
        return Projection(
            w=w,
            noise=noise,
            pictures=generator.synthesise(w, noise).clamp(-1, 1),
            losses=tuple(
                sum(losses[min(step, len(losses) - 1)] for losses in self._losses) / len(steps)
                for step in range(max(steps))
            ),
            steps=steps,
        )

    def _now(self, index: int) -> tuple[Tensor, list[Tensor]]:
        return self._w[index].detach().clone(), [plane[index].detach().clone() for plane in self._noise]


def _converged(losses: Sequence[float], window: int, tolerance: float) -> bool:
    """Whether the best of the last window is hardly below the best before it."""
    if len(losses) < 2 * window:
        return False
    before, recent = min(losses[:-window]), min(losses[-window:])
    return recent > before * (1 - tolerance)
