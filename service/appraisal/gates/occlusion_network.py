"""The network of the occlusion gate: which pixels of an aligned face something lies before.

The first six fire modules of SqueezeNet 1.1 (Iandola et al., 2016),
fine-tuned, with a small decoder. At each scale a learned position code tells where on the face a
cell is, and the mean of the deepest features tells every cell what the whole picture holds.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torchvision.models import squeezenet1_1

from service.appraisal.model_files.imagenet import IMAGENET_MEAN, IMAGENET_SD

INPUT_SIZE: Final = 128  # pixels a side of the aligned face
OUTPUT_SIZE: Final = 64
ENCODER_LAYERS: Final = 11  # of SqueezeNet's features: up to the sixth fire module
_KEPT_LAYERS: Final = (1, 4, 7, 10)


class _Stage(nn.Module):
    """One scale of the decoder."""

    def __init__(self, deep: int, lateral: int, mixed: int, outputs: int, side: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(lateral, mixed, 1)
        self.position = nn.Parameter(torch.zeros(1, mixed, side, side))
        self.join = nn.Conv2d(deep + mixed, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs, momentum=0.05)

    def forward(self, deep: Tensor | None, features: Tensor) -> Tensor:
        here = torch.relu(self.mix(features) + self.position)
        if deep is not None:
            here = torch.cat([here, nn.functional.interpolate(deep, scale_factor=2.0, mode="nearest")], dim=1)
        return torch.relu(self.norm(self.join(here)))


class OcclusionNetwork(nn.Module):
    """See the module's text."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.encoder = squeezenet1_1(weights=None).features[:ENCODER_LAYERS]
        self.encoder[0].padding = (1, 1)  # 128 -> 64 -> 32 -> 16 -> 8, symmetric under mirroring
        self.stage8 = _Stage(0, 384, 96, 96, 8)
        self.whole = nn.Linear(96, 96)
        self.stage16 = _Stage(96, 256, 64, 64, 16)
        self.stage32 = _Stage(64, 128, 32, 32, 32)
        self.stage64 = _Stage(32, 64, 12, 16, 64)
        self.head = nn.Conv2d(16, 1, 1)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(IMAGENET_SD).view(1, 3, 1, 1), persistent=False)

    def forward(self, faces: Tensor) -> Tensor:
        """Return the logits that something lies before the face.

        Args:
            faces: (B, 3, 128, 128) float, sRGB, 0..1.

        Returns:
            (B, 1, 64, 64) float.
        """
        return self.decode(self.encode(faces))

    def encode(self, faces: Tensor) -> list[Tensor]:
        """Features of faces at 64, 32, 16 and 8 cells a side."""
        x = (faces - self.mean) / self.deviation
        kept = []
        for index, layer in enumerate(self.encoder):
            x = layer(x)
            if index in _KEPT_LAYERS:
                kept.append(x)
        return kept

    def decode(self, kept: list[Tensor]) -> Tensor:
        """Logits from features, (B, 1, 64, 64)."""
        deep = self.stage8(None, kept[3])
        deep = deep + self.whole(deep.mean((2, 3)))[:, :, None, None]
        deep = self.stage16(deep, kept[2])
        deep = self.stage32(deep, kept[1])
        out: Tensor = self.head(self.stage64(deep, kept[0])).float()
        return out
