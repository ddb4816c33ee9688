"""Landmarks that follow pathology: a branch on the anomaly network's encoder.

A generic mesh model pulls a displaced lip, lid or chin back towards where faces have it. This
branch is trained on faces whose parts were displaced by known fields, so it finds them where they
are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_BELOW = 10  # cells below the square


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs, momentum=0.05)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)))


class _Lateral(nn.Module):
    """Features to a few channels, plus a position code."""

    def __init__(self, inputs: int, outputs: int, side: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs, momentum=0.05)
        self.position = nn.Parameter(torch.zeros(1, outputs, side, side))

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(self.norm(self.mix(features)) + self.position)


class LandmarkBranch(nn.Module):
    """One map a landmark at a quarter of the resolution; the landmark is its centre of mass.

    The maps go on below the square, where the chin of a long face lies.
    """

    columns: Tensor
    rows: Tensor

    def __init__(self, count: int, side: int) -> None:
        """Make the layers.

        Args:
            count: landmarks.
            side: cells a side of the finest features.
        """
        super().__init__()
        self.lateral4 = _Lateral(128, 40, side)
        self.lateral8 = _Lateral(256, 64, side // 2)
        self.lateral16 = _Lateral(512, 128, side // 4)
        self.block16 = _Block(128, 128)
        self.block8 = _Block(64 + 128, 80)
        self.block4 = _Block(40 + 80, 56)
        self.beyond = nn.Parameter(torch.zeros(1, 56, side + _BELOW, side))
        self.last = _Block(56, 56)
        self.maps = nn.Conv2d(56, count, 1)
        self.register_buffer("columns", (torch.arange(side) + 0.5) / side, persistent=False)
        self.register_buffer("rows", (torch.arange(side + _BELOW) + 0.5) / side, persistent=False)

    def forward(self, fine: Tensor, middle: Tensor, deep: Tensor) -> Tensor:
        """Find landmarks.

        Args:
            fine: (B, 128, S, S) features of the encoder.
            middle: (B, 256, S/2, S/2).
            deep: (B, 512, S/4, S/4).

        Returns:
            (B, count, 2) x and y as fractions of the aligned square; y may exceed 1.
        """
        x = self.block16(self.lateral16(deep))
        x = self.block8(torch.cat([self.lateral8(middle), _double(x)], dim=1))
        x = self.block4(torch.cat([self.lateral4(fine), _double(x)], dim=1))
        x = nn.functional.pad(x, (0, 0, 0, _BELOW), mode="replicate") + self.beyond
        heat = self.maps(self.last(x)).float()
        share = heat.flatten(2).softmax(-1).view_as(heat)
        across, down = (share.sum(2) * self.columns).sum(-1), (share.sum(3) * self.rows).sum(-1)
        return torch.stack([across, down], dim=-1)


def _double(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
