"""PatchCore (Roth et al. 2022), paper 000's other baseline: distance to a memory of normal patches.

Does not look at the normal counterpart. Its memory bank is fitted on normal aligned faces by
`semblance train patchcore`, which puts it into a model directory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from service.appraisal.face.alignment import AlignedFace
from service.appraisal.methods.features.backbones import BACKBONES, build_network
from service.appraisal.model_files.imagenet import IMAGENET_MEAN, IMAGENET_SD
from service.appraisal.tables import Comparator, ComparatorRow, Normalised, Workplace

if TYPE_CHECKING:
    import torch

BACKBONE = "squeezenet"
MODEL = "patchcore-squeezenet"
LAYERS = (2, 4)  # middle layers, counted from 1, as in the paper
_SMOOTHING = 3  # each patch sees its neighbours


class PatchFeatures:
    """Locally averaged middle-layer features of one network."""

    def __init__(self, network: Sequence[torch.nn.Module], device: str = "cpu") -> None:
        """Take over a frozen network of at least the layers needed."""
        import torch

        from service.appraisal.acceleration import for_comparing

        self._fast = for_comparing(device)
        self._layers = [layer.to(device) for layer in network]
        for layer in self._layers:
            self._fast.place(layer)
        self.device = device
        self._mean = torch.tensor(IMAGENET_MEAN, device=device).view(1, 3, 1, 1)
        self._sd = torch.tensor(IMAGENET_SD, device=device).view(1, 3, 1, 1)

    def __call__(self, pictures: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """(B, D, h, w) features of (S, S, 3) uint8 pictures."""
        import torch
        from torch.nn import functional

        values = torch.from_numpy(np.stack(pictures)).to(self.device).permute(0, 3, 1, 2).float() / 255
        values = self._fast.laid_out((values - self._mean) / self._sd)
        kept: list[torch.Tensor] = []
        with torch.inference_mode(), self._fast.autocast(self.device):
            for number, layer in enumerate(self._layers, start=1):
                values = layer(values)
                if number in LAYERS:
                    smooth = functional.avg_pool2d(values.float(), _SMOOTHING, 1, _SMOOTHING // 2)
                    side = kept[0].shape[2:] if kept else smooth.shape[2:]
                    kept.append(functional.interpolate(smooth, size=side, mode="bilinear"))
            return torch.cat(kept, 1)


def coreset(features: torch.Tensor, count: int, seed: int = 0) -> torch.Tensor:
    """Greedy k-centre choice of `count` rows of (N, D): each the farthest from those already chosen."""
    import torch

    draws = torch.Generator().manual_seed(seed)
    chosen = [int(torch.randint(len(features), (1,), generator=draws))]
    nearest = (features - features[chosen[0]]).square().sum(1)
    while len(chosen) < min(count, len(features)):
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (features - features[chosen[-1]]).square().sum(1))
    return features[chosen]


class PatchCoreComparator:
    """Distance of each patch to the nearest in the bank."""

    def __init__(self, features: PatchFeatures, bank: torch.Tensor) -> None:
        """Take over features and a (M, D) bank of normal ones."""
        self._features, self._bank = features, bank.to(features.device)

    def compare(
        self, faces: Sequence[AlignedFace], normalised: Sequence[Normalised]
    ) -> Sequence[NDArray[np.float32]]:
        """Return one map a face."""
        import torch
        from torch.nn import functional

        found = self._features([face.rgb for face in faces])
        batch, depth, height, width = found.shape
        with torch.inference_mode():
            rows = found.permute(0, 2, 3, 1).reshape(-1, depth)
            distance = torch.cdist(rows, self._bank).amin(1).view(batch, 1, height, width)
            maps = [
                functional.interpolate(one[None], size=face.rgb.shape[:2], mode="bilinear")[0, 0]
                for one, face in zip(distance, faces, strict=True)
            ]
        return [np.asarray(m.cpu().numpy(), dtype=np.float32) for m in maps]


def load_features(workplace: Workplace) -> PatchFeatures:
    """Build the features from the model store."""
    backbone = BACKBONES[BACKBONE]
    network = build_network(backbone, workplace.store.tensors(backbone.model), max(LAYERS))
    return PatchFeatures(network, workplace.device)


def _build(workplace: Workplace) -> Comparator:
    return PatchCoreComparator(load_features(workplace), workplace.store.tensors(MODEL)["bank"])


ROW = ComparatorRow(name="patchcore", version="1", models=(BACKBONES[BACKBONE].model, MODEL), build=_build)
