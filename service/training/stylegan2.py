"""Trains a small StyleGAN2 on aligned normal faces: ``python -m service.training.stylegan2 --data DIR``.

Non-saturating logistic loss with lazy R1 (Karras et al. 2020), mirrored faces, an exponential
moving average of the generator. Writes checkpoints it resumes from, a CSV log, contact sheets and,
at the end, ``generator.safetensors`` for the normaliser ``stylegan2``.
"""

from __future__ import annotations

import argparse
import copy
import csv
import itertools
import math
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from service.appraisal.methods.stylegan2.generator import Generator, GeneratorShape
from service.appraisal.methods.stylegan2.layers import GAIN, SLOPE, EqualLinear
from service.training.faces import Split, open_pool

_R1_EVERY, _R1_WEIGHT = 16, 0.3
_EMA_HALF_LIFE_FACES = 2_000


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Of one training."""

    size: int = 64
    channels: int = 128  # feature maps of the coarse resolutions
    channel_base: int = 2048  # feature maps times side of the fine ones
    style_dim: int = 128
    mapping_layers: int = 4
    batch: int = 16
    learning_rate: float = 2e-3
    minutes: float = 30.0
    seed: int = 0


def shape_of_training(settings: TrainingSettings) -> GeneratorShape:
    """Return the sizes of the generator that is trained."""
    return GeneratorShape(
        size=settings.size,
        style_dim=settings.style_dim,
        mapping_layers=settings.mapping_layers,
        channel_base=settings.channel_base,
        most_channels=settings.channels,
    )


class _EqualConv2d(nn.Module):
    """Convolution with equalised learning rate, of odd size."""

    def __init__(self, inputs: int, outputs: int, size: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self._scale = 1.0 / math.sqrt(inputs * size * size)

    def forward(self, values: Tensor) -> Tensor:
        return functional.conv2d(
            values, self.weight * self._scale, self.bias, padding=self.weight.shape[2] // 2
        )


class Discriminator(nn.Module):
    """Residual discriminator with the deviation over the batch as a last feature."""

    def __init__(self, settings: TrainingSettings) -> None:
        super().__init__()
        shape = shape_of_training(settings)
        sides = [settings.size >> level for level in range(int(math.log2(settings.size)) - 1)]  # to 4
        widths = [shape.channels(side) for side in sides]
        channels = widths[-1]
        self.first = _EqualConv2d(3, widths[0], 1)
        self.blocks = nn.Sequential(*(_Halving(a, b) for a, b in itertools.pairwise(widths)))
        self.last = _EqualConv2d(channels + 1, channels, 3)
        self.head = nn.Sequential(EqualLinear(channels * 16, channels, active=True), EqualLinear(channels, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B,)."""
        values = self.blocks(functional.leaky_relu(self.first(pictures), SLOPE) * GAIN)
        deviation = torch.sqrt(values.var(0, unbiased=False) + 1e-8).mean().expand(len(values), 1, 4, 4)
        values = functional.leaky_relu(self.last(torch.cat([values, deviation], 1)), SLOPE) * GAIN
        out: Tensor = self.head(values.flatten(1))[:, 0]
        return out


class _Halving(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.one = _EqualConv2d(inputs, inputs, 3)
        self.two = _EqualConv2d(inputs, outputs, 3)
        self.skip = _EqualConv2d(inputs, outputs, 1, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        deep = functional.leaky_relu(self.one(values), SLOPE) * GAIN
        deep = functional.avg_pool2d(functional.leaky_relu(self.two(deep), SLOPE) * GAIN, 2)
        out: Tensor = (deep + self.skip(functional.avg_pool2d(values, 2))) / math.sqrt(2.0)
        return out


class Trainer:
    """Networks, optimisers and how far they are."""

    def __init__(self, settings: TrainingSettings, device: str) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.device = settings, device
        self.generator = Generator(shape_of_training(settings)).to(device)
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.discriminator = Discriminator(settings).to(device)
        options = {"lr": settings.learning_rate, "betas": (0.0, 0.99)}
        self.g_optimiser = torch.optim.Adam(self.generator.parameters(), **options)  # type: ignore[arg-type]
        self.d_optimiser = torch.optim.Adam(self.discriminator.parameters(), **options)  # type: ignore[arg-type]
        self.draws = torch.Generator().manual_seed(settings.seed)
        self.steps = 0

    def step(self, real: Tensor) -> tuple[float, float]:
        """One step of both networks on (B, 3, S, S) real faces, -1..1; their losses."""
        d_loss = self._train_discriminator(real)
        g_loss = self._train_generator(len(real))
        self._move_average(len(real))
        self.steps += 1
        return d_loss, g_loss

    def sample(self, network: Generator, count: int, draws: torch.Generator) -> Tensor:
        """Draw pictures."""
        z = torch.randn(count, self.settings.style_dim, generator=draws).to(self.device)
        return network.synthesise(network.map(z), network.draw_noise(count, draws, self.device))

    def _train_discriminator(self, real: Tensor) -> float:
        with torch.no_grad():
            fake = self.sample(self.generator, len(real), self.draws)
        penalised = self.steps % _R1_EVERY == 0
        real = real.detach().requires_grad_(penalised)
        verdict = self.discriminator(real)
        loss = functional.softplus(-verdict).mean() + functional.softplus(self.discriminator(fake)).mean()
        total = loss
        if penalised:
            (slope,) = torch.autograd.grad(verdict.sum(), real, create_graph=True)
            total = loss + _R1_WEIGHT * _R1_EVERY / 2 * slope.square().sum((1, 2, 3)).mean()
        self.d_optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        self.d_optimiser.step()
        return float(loss.detach())

    def _train_generator(self, count: int) -> float:
        loss = functional.softplus(-self.discriminator(self.sample(self.generator, count, self.draws))).mean()
        self.g_optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.g_optimiser.step()
        return float(loss.detach())

    @torch.no_grad()
    def _move_average(self, count: int) -> None:
        keep = 0.5 ** (count / min(_EMA_HALF_LIFE_FACES, max(1.0, self.steps * count * 0.05)))
        for average, current in zip(self.average.parameters(), self.generator.parameters(), strict=True):
            average.lerp_(current, 1 - keep)

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        part = path.with_suffix(".part")
        torch.save(
            {
                "generator": self.generator.state_dict(),
                "average": self.average.state_dict(),
                "discriminator": self.discriminator.state_dict(),
                "g_optimiser": self.g_optimiser.state_dict(),
                "d_optimiser": self.d_optimiser.state_dict(),
                "draws": self.draws.get_state(),
                "steps": self.steps,
            },
            part,
        )
        part.replace(path)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        for name in ("generator", "average", "discriminator", "g_optimiser", "d_optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.draws.set_state(state["draws"].cpu())
        self.steps = int(state["steps"])


def load_faces(data: Path, size: int) -> NDArray[np.uint8]:
    """All training faces, (N, size, size, 3) uint8."""
    pool = open_pool(data, Split.TRAIN)
    return np.stack([_reduced(pool.face(i, 2 * size).image, size) for i in range(len(pool))])


def _reduced(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def train(settings: TrainingSettings, faces: NDArray[np.uint8], out: Path, device: str) -> Trainer:
    """Train for the minutes of the settings, resuming what is in the folder.

    Args:
        settings: Of the training.
        faces: (N, S, S, 3) uint8, sRGB.
        out: Folder of checkpoint, log, contact sheets and weights.
        device: "cpu" or "cuda".
    """
    out.mkdir(parents=True, exist_ok=True)
    trainer, checkpoint = Trainer(settings, device), out / "checkpoint.pt"
    if checkpoint.is_file():
        trainer.resume(checkpoint)
    rng = np.random.default_rng((settings.seed, trainer.steps))
    end, shown, console = time.monotonic() + 60 * settings.minutes, 0.0, Console(stderr=True)
    with (out / "log.csv").open("a", newline="", encoding="utf-8") as file:
        log = csv.writer(file)
        while time.monotonic() < end:
            chosen = faces[rng.integers(0, len(faces), settings.batch)]
            if rng.random() < 0.5:
                chosen = chosen[:, :, ::-1]
            real = torch.from_numpy(np.ascontiguousarray(chosen)).to(device).permute(0, 3, 1, 2)
            losses = trainer.step(real.float() / 127.5 - 1)
            log.writerow([trainer.steps, *(f"{loss:.4f}" for loss in losses)])
            if time.monotonic() - shown > 60:
                shown = time.monotonic()
                console.print(f"step {trainer.steps}: d {losses[0]:.3f}, g {losses[1]:.3f}")
                trainer.save(checkpoint)
                _contact_sheet(trainer, out / f"sheet-{trainer.steps:06d}.png")
    trainer.save(checkpoint)
    save_file(
        {name: t.cpu().contiguous() for name, t in trainer.average.state_dict().items()},
        out / "generator.safetensors",
    )
    return trainer


@torch.no_grad()
def _contact_sheet(trainer: Trainer, path: Path) -> None:
    made = trainer.sample(trainer.average, 16, torch.Generator().manual_seed(1))
    pictures = ((made.permute(0, 2, 3, 1) + 1) * 127.5).clamp(0, 255).byte().cpu().numpy()
    rows = [np.concatenate(list(pictures[i : i + 8]), axis=1) for i in (0, 8)]
    cv2.imwrite(str(path), np.concatenate(rows)[..., ::-1])


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of faces_*.npz")
    parser.add_argument("--out", type=Path, required=True, help="folder of everything written")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--channel-base", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    settings = TrainingSettings(
        size=options.size,
        channels=options.channels,
        channel_base=options.channel_base,
        batch=options.batch,
        minutes=options.minutes,
    )
    train(settings, load_faces(options.data, options.size), options.out, options.device)


if __name__ == "__main__":
    main()
