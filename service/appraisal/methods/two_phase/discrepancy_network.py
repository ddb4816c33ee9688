"""Teacher and student of paper 002: what the student cannot give of the teacher's features is not normal.

The teacher is SqueezeNet 1.1 from ImageNet (Iandola et al. 2016), frozen. The student, trained on
normal faces only, has to give the teacher's features at three scales from a code too narrow for more
than what normal faces have, and knows where in the face it is (reverse distillation, Deng & Li 2022,
with position codes). Cells may be hidden from it: then it gives them, and the picture, from what
surrounds them, which is how a mask is filled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn

from service.appraisal.methods.features.backbones import BACKBONES, build_network
from service.appraisal.model_files.imagenet import IMAGENET_MEAN, IMAGENET_SD

BACKBONE: Final = "squeezenet"
INPUT_SIZE: Final = 256  # pixels a side of the aligned face
SIDES: Final = (64, 32, 16)  # cells a side of each scale
PICTURE_SIZE: Final = 128  # pixels a side of the student's picture
_AFTER: Final = (2, 3, 6)  # layers of the backbone, counted from 1, whose ends are the scales
_CHANNELS: Final = tuple(BACKBONES[BACKBONE].channels[layer - 1] for layer in _AFTER)
_CODE: Final = 64  # channels of the code at 8 x 8
_EPSILON: Final = 1e-6

Features = tuple[Tensor, Tensor, Tensor]


class Teacher(nn.Module):
    """Frozen features of unit length at three scales."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, tensors: Mapping[str, Tensor] | None) -> None:
        """Load the backbone.

        Args:
            tensors: its weights by torchvision's names; None leaves the random initialisation, for tests.

        Raises:
            ModelIntegrityError: the weights are not this network's.
        """
        super().__init__()
        self.layers = nn.ModuleList(build_network(BACKBONES[BACKBONE], tensors, max(_AFTER)))
        self.layers[0][0].padding = (1, 1)  # type: ignore[index]  # 256 -> 128, 64, 32, 16
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(IMAGENET_SD).view(1, 3, 1, 1), persistent=False)

    @torch.no_grad()
    def forward(self, faces: Tensor, hidden: Tensor | None = None) -> Features:
        """Read aligned faces.

        Args:
            faces: (B, 3, 256, 256) float, sRGB, 0..1.
            hidden: (B, 1, 64, 64) float, 1 where the face is taken out of the picture first.

        Returns:
            (B, C, side, side) float a scale of SIDES, each cell's vector of length 1.
        """
        values = (faces - self.mean) / self.deviation
        if hidden is not None:
            values = values * (1 - nn.functional.interpolate(hidden, size=faces.shape[2:]))
        kept = []
        for number, layer in enumerate(self.layers, start=1):
            values = layer(values)
            if number in _AFTER:
                kept.append(values / (values.square().sum(1, keepdim=True) + _EPSILON).sqrt())
        return kept[0], kept[1], kept[2]


class _Block(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm2d(outputs, momentum=0.05),
            nn.ReLU(),
        )


class Student(nn.Module):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__()
        self.take = nn.ModuleList(nn.Conv2d(channels, 64, 1, bias=False) for channels in _CHANNELS)
        self.unknown = nn.Parameter(torch.zeros(1, 192, 1, 1))
        self.narrow = nn.Sequential(_Block(193, 96, stride=2), nn.Conv2d(96, _CODE, 1))
        self.place8 = nn.Parameter(torch.zeros(1, 128, 8, 8))
        self.place16 = nn.Parameter(torch.zeros(1, 96, 16, 16))
        self.place32 = nn.Parameter(torch.zeros(1, 64, 32, 32))
        self.widen = _Block(_CODE, 128)
        self.around = _Block(128, 128, dilation=2)
        self.up16, self.up32, self.up64 = _Block(128, 96), _Block(96, 64), _Block(64, 48)
        self.give = nn.ModuleList(
            nn.Conv2d(inputs, channels, 1) for inputs, channels in zip((48, 64, 96), _CHANNELS, strict=True)
        )
        self.paint = nn.Sequential(nn.Conv2d(48, 12, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, features: Features, hidden: Tensor | None = None) -> tuple[Features, Tensor]:
        """Give the features and the picture of a normal face.

        Args:
            features: of the teacher.
            hidden: (B, 1, 64, 64) float, 1 where cells are not known; None for none.

        Returns:
            Features as the teacher's, and (B, 3, 128, 128) float, sRGB, about 0..1.
        """
        x8 = self.widen(self.code(features, hidden)) + self.place8
        x8 = x8 + self.around(x8)
        x16 = self.up16(_double(x8)) + self.place16
        x32 = self.up32(_double(x16)) + self.place32
        x64 = self.up64(_double(x32))
        given = [give(x) for give, x in zip(self.give, (x64, x32, x16), strict=True)]
        return (given[0], given[1], given[2]), self.paint(x64).float() + 0.5

    def code(self, features: Features, hidden: Tensor | None) -> Tensor:
        """The narrow code, (B, 64, 8, 8)."""
        side = SIDES[-1]
        # A little more than unit length in all, so that the first convolution sees values near 1.
        known = [
            nn.functional.adaptive_avg_pool2d(take(values * 8), side)
            for take, values in zip(self.take, features, strict=True)
        ]
        x = torch.cat(known, 1)
        if hidden is None:
            covered = torch.zeros_like(x[:, :1])
        else:
            covered = nn.functional.adaptive_max_pool2d(hidden.to(x.dtype), side)
        x = torch.relu(x * (1 - covered) + self.unknown * covered)
        code: Tensor = self.narrow(torch.cat([x, covered], 1))
        return code


def distances(wanted: Features, given: Features) -> Features:
    """Unit-normalised distance, 1 - cos, of each cell at each scale: (B, side, side) float32, 0..2."""
    parts = [
        1 - nn.functional.cosine_similarity(w.float(), g.float(), dim=1, eps=_EPSILON)
        for w, g in zip(wanted, given, strict=True)
    ]
    return parts[0], parts[1], parts[2]


def _double(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
