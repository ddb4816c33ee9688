"""Layers of StyleGAN2 (Karras et al. 2020, arXiv:1912.04958) without compiled extensions.

Parameter names and shapes are those of rosinality's stylegan2-pytorch, so that its checkpoints
load as they are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

SLOPE = 0.2
GAIN = math.sqrt(2.0)  # keeps the variance after a leaky rectifier
EPSILON = 1e-8
_FILTER = (1.0, 3.0, 3.0, 1.0)


def resampling_kernel(gain: float = 1.0) -> Tensor:
    """Return the separable [1, 3, 3, 1] low-pass kernel, (4, 4) float32, of that sum."""
    taps = torch.tensor(_FILTER)
    kernel = torch.outer(taps, taps)
    return kernel / kernel.sum() * gain


def upfirdn(values: Tensor, kernel: Tensor, up: int, pad: tuple[int, int]) -> Tensor:
    """Insert zeros, pad, and filter.

    Args:
        values: (B, C, H, W).
        kernel: (k, k).
        up: Each sample becomes one of `up` in both directions.
        pad: Zeros before and after, in both directions.

    Returns:
        (B, C, H * up + pad - k + 1, ...).
    """
    batch, channels, height, width = values.shape
    if up > 1:
        spread = values.new_zeros(batch, channels, height, up, width, up)
        spread[:, :, :, 0, :, 0] = values
        values = spread.reshape(batch, channels, height * up, width * up)
    padded = functional.pad(values, (pad[0], pad[1], pad[0], pad[1]))
    weight = torch.flip(kernel, (0, 1)).to(values.dtype).expand(channels, 1, -1, -1)
    return functional.conv2d(padded, weight, groups=channels)


def activate(values: Tensor, bias: Tensor) -> Tensor:
    """Add a bias along dimension 1 and apply the scaled leaky rectifier."""
    shape = (1, -1) + (1,) * (values.ndim - 2)
    return functional.leaky_relu(values + bias.view(shape), SLOPE) * GAIN


class EqualLinear(nn.Module):
    """Fully connected layer with equalised learning rate."""

    def __init__(
        self, inputs: int, outputs: int, *, bias: float = 0.0, lr_mul: float = 1.0, active: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_mul)
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self._scale = lr_mul / math.sqrt(inputs)
        self._lr_mul = lr_mul
        self._active = active

    def forward(self, values: Tensor) -> Tensor:
        """(B, inputs) -> (B, outputs)."""
        if self._active:
            return activate(functional.linear(values, self.weight * self._scale), self.bias * self._lr_mul)
        return functional.linear(values, self.weight * self._scale, self.bias * self._lr_mul)


class PixelNorm(nn.Module):
    """Scale each vector to unit mean square."""

    def forward(self, values: Tensor) -> Tensor:
        """(B, D) -> (B, D)."""
        return values * torch.rsqrt(values.square().mean(1, keepdim=True) + EPSILON)


class ModulatedConv2d(nn.Module):
    """Convolution whose weights are scaled by a style and brought back to unit length."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int,
        style_dim: int,
        *,
        demodulate: bool = True,
        upsample: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, size, size))
        self.modulation = EqualLinear(style_dim, inputs, bias=1.0)
        self._scale = 1.0 / math.sqrt(inputs * size * size)
        self._demodulate, self._upsample, self._size = demodulate, upsample, size
        self.register_buffer("_kernel", resampling_kernel(4.0), persistent=False)

    def forward(self, values: Tensor, style: Tensor) -> Tensor:
        """(B, inputs, H, W) and (B, style_dim) -> (B, outputs, H or 2H, W or 2W)."""
        # Scaling the input by the style and the output by the demodulation is the same as scaling
        # the weights of each picture, and one convolution serves the whole batch.
        scales = self.modulation(style)
        weight = self._scale * self.weight[0]
        out = values * scales[:, :, None, None]
        if self._upsample:
            out = functional.conv_transpose2d(out, weight.transpose(0, 1), stride=2)
        else:
            out = functional.conv2d(out, weight, padding=self._size // 2)
        if self._demodulate:
            with torch.autocast(values.device.type, enabled=False):  # sums of squares need float32
                power = weight.float().square().sum((2, 3))
                length = (scales.float().square() @ power.T + EPSILON).rsqrt()
            out = out * length[:, :, None, None].to(out.dtype)
        kernel: Tensor = self.get_buffer("_kernel")
        return upfirdn(out, kernel, 1, (1, 1)) if self._upsample else out


class NoiseInjection(nn.Module):
    """Add noise times a learned strength."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, values: Tensor, noise: Tensor) -> Tensor:
        """(B, C, H, W) and (B or 1, 1, H, W) -> (B, C, H, W)."""
        return values + self.weight * noise


class Bias(nn.Module):
    """Bias and rectifier, under the name rosinality gives them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, values: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return activate(values, self.bias)


class StyledConv(nn.Module):
    """Modulated convolution, noise, bias and rectifier."""

    def __init__(self, inputs: int, outputs: int, style_dim: int, *, upsample: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(inputs, outputs, 3, style_dim, upsample=upsample)
        self.noise = NoiseInjection()
        self.activate = Bias(outputs)

    def forward(self, values: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H or 2H, W or 2W)."""
        out: Tensor = self.activate(self.noise(self.conv(values, style), noise))
        return out


class ToRGB(nn.Module):
    """Colour of one resolution, added to the enlarged colour of the one before."""

    def __init__(self, inputs: int, style_dim: int) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(inputs, 3, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.register_buffer("_kernel", resampling_kernel(4.0), persistent=False)

    def forward(self, values: Tensor, style: Tensor, skip: Tensor | None) -> Tensor:
        """(B, inputs, H, W) and (B, 3, H/2, W/2) -> (B, 3, H, W)."""
        out: Tensor = self.conv(values, style) + self.bias
        if skip is not None:
            out = out + upfirdn(skip, self.get_buffer("_kernel"), 2, (2, 1))
        return out
