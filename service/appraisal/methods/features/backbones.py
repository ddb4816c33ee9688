"""Convolutional backbones whose layers are compared: one row each, torchvision's layouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.errors import ModelIntegrityError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A network and the ends of its layers."""

    name: str  # as in comparators' names
    builder: str  # function of torchvision.models
    model: str  # id in the model manifest
    ends: tuple[int, ...]  # index in `features` one past each layer's last module
    channels: tuple[int, ...]  # feature maps of each layer


BACKBONES: Mapping[str, Backbone] = {
    row.name: row
    for row in (
        Backbone(
            name="alexnet",
            builder="alexnet",
            model="alexnet-imagenet",
            ends=(2, 5, 8, 10, 12),
            channels=(64, 192, 384, 256, 256),
        ),
        Backbone(
            name="squeezenet",
            builder="squeezenet1_1",
            model="squeezenet1_1-imagenet",
            ends=(2, 5, 8, 10, 11, 12, 13),
            channels=(64, 128, 256, 384, 384, 512, 512),
        ),
        Backbone(
            name="vgg16",
            builder="vgg16",
            model="vgg16-imagenet",
            ends=(4, 9, 16, 23, 30),
            channels=(64, 128, 256, 512, 512),
        ),
        Backbone(
            name="mobilenet",
            builder="mobilenet_v2",
            model="mobilenet_v2-imagenet",
            ends=(2, 4, 7, 14, 18),
            channels=(16, 24, 32, 96, 320),
        ),
        Backbone(
            name="mobilenet-ptq",
            builder="mobilenet_v2",
            model="mobilenet_v2-imagenet-ptq",
            ends=(2, 4, 7, 14, 18),
            channels=(16, 24, 32, 96, 320),
        ),
    )
}


def build_network(
    backbone: Backbone, tensors: Mapping[str, torch.Tensor] | None, layers: int
) -> Sequence[torch.nn.Module]:
    """Build the first layers of a backbone, frozen and in evaluation mode.

    Args:
        backbone: The row.
        tensors: Weights by torchvision's names; None leaves the random initialisation, for tests.
        layers: How many layers are needed.

    Returns:
        One module a layer, to be applied one after the other.

    Raises:
        ModelIntegrityError: The weights are not this network's.
    """
    import torchvision

    network = getattr(torchvision.models, backbone.builder)(weights=None)
    if tensors is not None:
        wanted = {name for name in network.state_dict() if name.startswith("features.")}
        missing = sorted(wanted - set(tensors))
        if missing:
            raise ModelIntegrityError(f"{backbone.model}: {missing[0]} is missing")
        try:
            network.load_state_dict({name: tensors[name] for name in wanted}, strict=False)
        except RuntimeError as exc:
            raise ModelIntegrityError(f"{backbone.model}: {exc}") from exc
    network.eval().requires_grad_(False)
    starts = (0, *backbone.ends[:-1])
    return [network.features[a:b] for a, b in zip(starts, backbone.ends, strict=True)][:layers]
