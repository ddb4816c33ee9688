"""Deep difference maps: unweighted, eqs. (1) and (2) of paper 000, and weighted as in LPIPS.

Both pictures pass through one frozen network. At each position of each feature map the difference
is raised to the power that eq. (1) writes, the fourth: the element-wise product of the difference
with itself, squared. Eq. (2) averages all maps of all layers. Maps are averaged over a layer's
filters before they are enlarged, which is the same as enlarging each squared map first and, up to
the interpolation between samples, as the paper's order, at a hundredth of the memory.

Layers can be looked at one by one: early ones show small differences, late ones large (Fig. 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from service.appraisal.face.alignment import AlignedFace
from service.appraisal.methods.features.backbones import (
    BACKBONES,
    Backbone,
    build_network,
)
from service.appraisal.model_files.imagenet import IMAGENET_MEAN, IMAGENET_SD
from service.appraisal.tables import Comparator, ComparatorRow, Normalised, Workplace

if TYPE_CHECKING:
    import torch

    from service.appraisal.acceleration import Acceleration

PAPER_POWER = 4  # eq. (1)
LPIPS_POWER = 2  # Zhang et al. 2018, eq. (1)
_EPSILON = 1e-10  # as in the lpips package


@dataclass(frozen=True, kw_only=True)
class DeepSettings:
    """How feature maps are compared."""

    layer: int | None = None  # counted from 1; None: all
    unit: bool = False  # scale each position's feature vector to length 1 first, as LPIPS does
    power: int = PAPER_POWER  # of the difference


class DeepComparator:
    """Compares feature maps; batched, in half precision on a GPU."""

    def __init__(
        self,
        network: Sequence[torch.nn.Module],
        settings: DeepSettings,
        *,
        device: str = "cpu",
        weights: Sequence[torch.Tensor] | None = None,
        acceleration: Acceleration | None = None,
    ) -> None:
        """Take over a network.

        Args:
            network: One frozen module a layer.
            settings: How feature maps are compared.
            device: "cpu" or "cuda".
            weights: Of each layer's filters, (K,) each; None for the unweighted maps of paper 000.
            acceleration: Precision; None takes what suits the device.
        """
        import torch

        from service.appraisal.acceleration import for_comparing

        self._fast = acceleration or for_comparing(device)
        self._layers = [layer.to(device).to(memory_format=torch.channels_last) for layer in network]
        self._settings = settings
        self._device = device
        self._weights = None if weights is None else [w.to(device) for w in weights]
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(IMAGENET_MEAN, device=device).view(shape)
        self._sd = torch.tensor(IMAGENET_SD, device=device).view(shape)

    def compare(
        self, faces: Sequence[AlignedFace], normalised: Sequence[Normalised]
    ) -> Sequence[NDArray[np.float32]]:
        """Return one map a face."""
        pictures = [face.rgb for face in faces]
        others = [other.rgb for other in normalised]
        maps = self.difference(_batch(pictures, self._device), _batch(others, self._device))
        return list(np.asarray(maps.cpu().numpy(), dtype=np.float32))

    def compare_layers(self, face: AlignedFace, normalised: Normalised) -> Sequence[NDArray[np.float32]]:
        """Return one map a layer looked at, as each layer's own comparator gives it (Fig. 5)."""
        parts, filters = self.layer_maps(
            _batch([face.rgb], self._device), _batch([normalised.rgb], self._device)
        )
        shares = filters if self._weights is None else (1,) * len(parts)
        return [
            np.asarray((part[0] / share).cpu().numpy(), dtype=np.float32)
            for part, share in zip(parts, shares, strict=True)
        ]

    def difference(self, ones: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Compare batches of pictures.

        Args:
            ones: (B, 3, H, W) float32, sRGB, 0..1.
            others: The same.

        Returns:
            (B, H, W) float32, >= 0.
        """
        import torch

        parts, filters = self.layer_maps(ones, others)
        total = torch.stack(parts).sum(0)
        return total if self._weights is not None else total / sum(filters)

    def layer_maps(
        self, ones: torch.Tensor, others: torch.Tensor
    ) -> tuple[list[torch.Tensor], tuple[int, ...]]:
        """Compare batches of pictures layer by layer, in one pass (the scales of Fig. 5).

        Args:
            ones: (B, 3, H, W) float32, sRGB, 0..1.
            others: The same.

        Returns:
            Of each layer looked at: (B, H, W) float32, >= 0, the sum over its filters; and how many
            filters it has.
        """
        import torch

        size = ones.shape[2:]
        parts: list[torch.Tensor] = []
        filters: list[int] = []
        with torch.inference_mode(), self._fast.autocast(self._device):
            for index, (a, b) in enumerate(self._features(ones, others)):
                if self._settings.layer in (None, index + 1):
                    parts.append(_enlarge(self._layer_map(a.float(), b.float(), index), size))
                    filters.append(a.shape[1])
        return parts, tuple(filters)

    def _features(self, ones: torch.Tensor, others: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        import torch

        both = (torch.cat([ones, others]) - self._mean) / self._sd
        values = both.contiguous(memory_format=torch.channels_last)
        count, pairs = len(ones), []
        for layer in self._layers:
            values = layer(values)
            pairs.append((values[:count], values[count:]))
        return pairs

    def _layer_map(self, a: torch.Tensor, b: torch.Tensor, index: int) -> torch.Tensor:
        """Sum over one layer's filters, weighted or not: (B, h, w)."""
        if self._settings.unit:
            a, b = _unit(a), _unit(b)
        squared = (a - b).square()
        if self._settings.power == PAPER_POWER:
            squared = squared.square()
        if self._weights is None:
            return squared.sum(1)
        import torch

        return torch.einsum("bkhw,k->bhw", squared, self._weights[index])


def _unit(values: torch.Tensor) -> torch.Tensor:
    return values / (values.square().sum(1, keepdim=True).sqrt() + _EPSILON)


def _enlarge(part: torch.Tensor, size: torch.Size) -> torch.Tensor:
    from torch.nn.functional import interpolate

    return interpolate(part[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def _batch(pictures: Sequence[NDArray[np.uint8]], device: str) -> torch.Tensor:
    """(B, 3, H, W) float32, 0..1."""
    import torch

    stacked = torch.from_numpy(np.stack(pictures)).to(device)
    return stacked.permute(0, 3, 1, 2).float() / 255.0


def _build(workplace: Workplace, *, backbone: Backbone, settings: DeepSettings) -> Comparator:
    tensors = workplace.store.tensors(backbone.model)
    network = build_network(backbone, tensors, settings.layer or len(backbone.ends))
    return DeepComparator(network, settings, device=workplace.device)


def _build_lpips(workplace: Workplace, *, backbone: Backbone, lins: str, layer: int | None) -> Comparator:
    tensors = workplace.store.tensors(backbone.model)
    learned = workplace.store.tensors(lins)
    network = build_network(backbone, tensors, len(backbone.ends))
    weights = [learned[f"layer{index}"] for index in range(len(backbone.ends))]
    settings = DeepSettings(layer=layer, unit=True, power=LPIPS_POWER)
    return DeepComparator(network, settings, device=workplace.device, weights=weights)


def _row(backbone: Backbone, layer: int | None, unit: bool) -> ComparatorRow:
    name = f"deep-{backbone.name}" + ("-unit" if unit else "") + (f"-l{layer}" if layer else "")
    settings = DeepSettings(layer=layer, unit=unit)
    build = partial(_build, backbone=backbone, settings=settings)
    return ComparatorRow(name=name, version="1", models=(backbone.model,), build=build)


def _lpips_row(backbone: Backbone, name: str, layer: int | None) -> ComparatorRow:
    lins = f"lpips-0.1-{name}"
    build = partial(_build_lpips, backbone=backbone, lins=lins, layer=layer)
    label = f"lpips-{backbone.name}" + (f"-l{layer}" if layer else "")
    return ComparatorRow(name=label, version="1", models=(backbone.model, lins), build=build)


ROWS = (
    *(
        _row(backbone, layer, unit)
        for backbone in BACKBONES.values()
        for unit in (False, True)
        for layer in (None, *range(1, len(backbone.ends) + 1))
    ),
    *(
        _lpips_row(BACKBONES[name], short, layer)
        for name, short in (("alexnet", "alex"), ("squeezenet", "squeeze"), ("vgg16", "vgg"))
        for layer in (None, *range(1, len(BACKBONES[name].ends) + 1))
    ),
)
