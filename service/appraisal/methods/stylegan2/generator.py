"""StyleGAN2's generator, config-e and config-f and smaller ones, 16 to 1024 px."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from service.appraisal.methods.stylegan2.layers import EqualLinear, PixelNorm, StyledConv, ToRGB
from service.appraisal.model_files.models import load_tensors
from service.errors import ModelIntegrityError

CONFIG_E, CONFIG_F = 16_384, 32_768  # feature maps times side, where they are not the most
_MAPPING_LR = 0.01
_IGNORED = (".blur.kernel", ".upsample.kernel")  # constants that rosinality stores
_NOISE_PREFIX = "noises."


@dataclass(frozen=True, kw_only=True)
class GeneratorShape:
    """Sizes of a generator."""

    size: int  # side of its pictures, a power of two
    style_dim: int = 512
    mapping_layers: int = 8
    channel_base: int = CONFIG_F  # feature maps times side of the fine resolutions
    most_channels: int = 512

    def channels(self, side: int) -> int:
        """Feature maps at one resolution."""
        return min(self.channel_base // side, self.most_channels)

    @property
    def styles(self) -> int:
        """Styles that steer one picture (layers of W+)."""
        return 2 * int(math.log2(self.size)) - 2

    def noise_sides(self) -> tuple[int, ...]:
        """Side of each noise map, in order."""
        sides = [4]
        for power in range(3, int(math.log2(self.size)) + 1):
            sides += [2**power, 2**power]
        return tuple(sides)


class _Constant(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))


class Generator(nn.Module):
    """Mapping and synthesis network."""

    def __init__(self, shape: GeneratorShape) -> None:
        super().__init__()
        self.shape = shape
        dim = shape.style_dim
        layers = [EqualLinear(dim, dim, lr_mul=_MAPPING_LR, active=True) for _ in range(shape.mapping_layers)]
        self.style = nn.Sequential(PixelNorm(), *layers)
        channels = shape.channels(4)
        self.input = _Constant(channels)
        self.conv1 = StyledConv(channels, channels, dim)
        self.to_rgb1 = ToRGB(channels, dim)
        self.convs, self.to_rgbs = nn.ModuleList(), nn.ModuleList()
        for power in range(3, int(math.log2(shape.size)) + 1):
            outputs = shape.channels(2**power)
            self.convs.append(StyledConv(channels, outputs, dim, upsample=True))
            self.convs.append(StyledConv(outputs, outputs, dim))
            self.to_rgbs.append(ToRGB(outputs, dim))
            channels = outputs

    def map(self, z: Tensor) -> Tensor:
        """Map latents: (B, style_dim) -> w of the same shape."""
        w: Tensor = self.style(z)
        return w

    def synthesise(self, w: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """Make pictures.

        Args:
            w: (B, style_dim), or (B, styles, style_dim) for W+.
            noise: One (B or 1, 1, side, side) for each of `shape.noise_sides()`.

        Returns:
            (B, 3, size, size), about -1..1.
        """
        styles = w if w.ndim == 3 else w[:, None].expand(-1, self.shape.styles, -1)
        constant = self.input.input.expand(len(w), -1, -1, -1)
        values = self.conv1(constant, styles[:, 0], noise[0])
        colour: Tensor = self.to_rgb1(values, styles[:, 1], None)
        for level, to_rgb in enumerate(self.to_rgbs):
            first = 2 * level
            values = self.convs[first](values, styles[:, first + 1], noise[first + 1])
            values = self.convs[first + 1](values, styles[:, first + 2], noise[first + 2])
            colour = to_rgb(values, styles[:, first + 3], colour)
        return colour

    def draw_noise(self, count: int, generator: torch.Generator, device: torch.device | str) -> list[Tensor]:
        """Draw the noise maps of several pictures from a seeded generator on the CPU."""
        return [
            torch.randn(count, 1, side, side, generator=generator).to(device)
            for side in self.shape.noise_sides()
        ]

    @torch.no_grad()
    def mean_latent(self, draws: int, seed: int = 0) -> tuple[Tensor, float]:
        """Return the mean of w over random z, (style_dim,), and the root mean square distance from it."""
        device = self.input.input.device
        z = torch.randn(draws, self.shape.style_dim, generator=torch.Generator().manual_seed(seed)).to(device)
        w = self.map(z)
        mean = w.mean(0)
        return mean, float((w - mean).square().sum(1).mean().sqrt())


def shape_of(tensors: Mapping[str, Tensor]) -> GeneratorShape:
    """Read the sizes off a checkpoint.

    Raises:
        ModelIntegrityError: It is no generator of this layout.
    """
    try:
        levels = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("to_rgbs."))
        mapping = sum(1 for name in tensors if name.startswith("style.") and name.endswith(".weight"))
        style_dim = tensors["style.1.weight"].shape[0]
        widths = [tensors["input.input"].shape[1]]
        widths += [tensors[f"convs.{2 * level + 1}.conv.weight"].shape[1] for level in range(levels)]
    except (KeyError, ValueError, IndexError) as exc:
        raise ModelIntegrityError(f"no StyleGAN2 generator: {exc!r}") from exc
    size, most = 4 * 2**levels, max(widths)
    narrower = [width * 4 * 2**level for level, width in enumerate(widths) if width < most]
    return GeneratorShape(
        size=size,
        style_dim=style_dim,
        mapping_layers=mapping,
        channel_base=narrower[0] if narrower else most * size,
        most_channels=most,
    )


def generator_from(tensors: Mapping[str, Tensor]) -> Generator:
    """Build a frozen generator from tensors by rosinality's names.

    Raises:
        ModelIntegrityError: The tensors are no generator of this layout.
    """
    wanted = {
        name: value
        for name, value in tensors.items()
        if not name.endswith(_IGNORED) and not name.startswith(_NOISE_PREFIX)
    }
    generator = Generator(shape_of(wanted))
    try:
        generator.load_state_dict(wanted)
    except RuntimeError as exc:
        raise ModelIntegrityError(f"no StyleGAN2 generator of ours: {exc}") from exc
    return generator.eval().requires_grad_(False)


def load_generator(path: Path) -> Generator:
    """Load a generator from safetensors, or from a rosinality checkpoint (its `g_ema`).

    Raises:
        ModelIntegrityError: Not such a file, or one that needs code to load.
    """
    if path.suffix == ".safetensors":
        return generator_from(load_tensors(path))
    return generator_from(load_tensors(path, key="g_ema"))
