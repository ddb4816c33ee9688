"""The network of the default method: where a face is not normal, and how it would be if it were.

One forward pass of the aligned face, or of a part of it from close by (``views.py``), gives, for
every fourth pixel, the probability of an anomaly, the displacement that would undo it and the
colour that is out of place; for all that is seen the evidence that there is an anomaly at all; and
landmarks that follow pathology.

The encoder is SqueezeNet 1.1 (Iandola et al., 2016), fine-tuned. At each scale the decoder sees the
features and their difference from the mirrored ones, and a learned position code, so that it can
tell what is usual *there*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torchvision.models import squeezenet1_1

from service.appraisal.methods.localised.landmark_branch import LandmarkBranch
from service.appraisal.methods.localised.views import WHOLE, View
from service.appraisal.model_files.imagenet import IMAGENET_MEAN, IMAGENET_SD

FLOW_UNIT: Final = 0.1  # inter-ocular distances per unit of the flow output


_CLOSE_UP = "close_up."  # before the names of the close-up's tensors in a file of both


def of_whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the network of the whole face, from a file of it or of both."""
    return {name: value for name, value in tensors.items() if not name.startswith(_CLOSE_UP)}


def of_close_up(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the close-up's network, from a file of both; none from any other."""
    return {
        name.removeprefix(_CLOSE_UP): value for name, value in tensors.items() if name.startswith(_CLOSE_UP)
    }


def together(whole: Mapping[str, Tensor], close_up: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a file of both."""
    return {**whole, **{_CLOSE_UP + name: value for name, value in close_up.items()}}


@dataclass(frozen=True, kw_only=True)
class NetworkOutput:
    """What one forward pass gives for a batch of B views of C cells a side, 64 of a whole face."""

    localisation: Tensor  # (B, 1, C, C), logit of an anomaly
    flow: Tensor  # (B, 2, C, C), backward displacement that undoes it, units of FLOW_UNIT
    residual: Tensor  # (B, 3, C, C), normal minus present colour, 0..1 scale
    evidence: Tensor  # (B,), logit that the view holds an anomaly
    severity: Tensor  # (B,), severity 0..1
    landmarks: Tensor  # (B or fewer, landmarks of the view, 2), x and y as fractions of the view


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs, momentum=0.05),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs, momentum=0.05),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class _Lateral(nn.Module):
    """Features and their mirrored differences to a few channels, plus a position code."""

    def __init__(self, inputs: int, outputs: int, side: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2 * inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs, momentum=0.05)
        self.position = nn.Parameter(torch.zeros(1, outputs, side, side))

    def forward(self, features: Tensor) -> Tensor:
        both = torch.cat([features, features - features.flip(-1)], dim=1)
        return torch.relu(self.norm(self.mix(both)) + self.position)


class AnomalyNetwork(nn.Module):
    """See the module's text."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, view: View = WHOLE) -> None:
        super().__init__()
        self.encoder = squeezenet1_1(weights=None).features
        self.encoder[0].padding = (1, 1)  # 256 -> 128 -> 64 -> 32 -> 16, symmetric under mirroring
        self.lateral4 = _Lateral(128, 48, view.cells)
        self.lateral8 = _Lateral(256, 96, view.cells // 2)
        self.lateral16 = _Lateral(512, 160, view.cells // 4)
        self.block16 = _Block(160, 160)
        self.block8 = _Block(96 + 160, 96)
        self.block4 = _Block(48 + 96, 64)
        self.heads = nn.Conv2d(64, 6, 1)
        self.attention = nn.Conv2d(96, 1, 1)
        self.judge = nn.Sequential(nn.Linear(96 + 160 + 3, 96), nn.ReLU(), nn.Linear(96, 2))
        self.points = LandmarkBranch(len(view.chosen), view.cells)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(IMAGENET_SD).view(1, 3, 1, 1), False)

    def forward(self, faces: Tensor, landmarks_of: slice = slice(None)) -> NetworkOutput:
        """Judge views of aligned faces.

        Args:
            faces: (B, 3, S, S) float, sRGB, 0..1; S is the view's size, 256 of a whole face.
            landmarks_of: the faces whose landmarks are wanted; they cost a third of the whole.
        """
        kept = self.encode(faces)
        deep = self.block16(self.lateral16(kept[2]))
        middle = self.block8(torch.cat([self.lateral8(kept[1]), _double(deep)], dim=1))
        fine = self.block4(torch.cat([self.lateral4(kept[0]), _double(middle)], dim=1))
        maps = self.heads(fine).float()
        judged = self._judge(maps[:, :1], middle, deep)
        return NetworkOutput(
            localisation=maps[:, :1],
            flow=maps[:, 1:3],
            residual=maps[:, 3:6],
            evidence=judged[:, 0],
            severity=judged[:, 1],
            landmarks=self.points(*(features[landmarks_of] for features in kept)),
        )

    def encode(self, faces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features at a quarter, an eighth and a sixteenth of the resolution.

        Args:
            faces: (B, 3, S, S) float, sRGB, 0..1.
        """
        x = (faces - self.mean) / self.deviation
        kept = []
        for index, layer in enumerate(self.encoder):
            x = layer(x)
            if index in (4, 7, 12):
                kept.append(x)
        return kept[0], kept[1], kept[2]

    def _judge(self, logits: Tensor, middle: Tensor, deep: Tensor) -> Tensor:
        """Evidence and severity from attended features and the strongest local logits."""
        weights = self.attention(middle).flatten(2).float().softmax(-1)
        attended = (middle.flatten(2).float() * weights).sum(-1)
        flat = logits.flatten(1)
        strongest = flat.topk(64, dim=1).values
        summary = torch.stack([strongest[:, 0], strongest.mean(1), torch.logsumexp(flat, 1) - 6.0], dim=1)
        pooled = torch.cat([attended, deep.float().mean((2, 3)), summary], dim=1)
        out: Tensor = self.judge(pooled).float()
        return out


def _double(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
