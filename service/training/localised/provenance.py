"""Whose licence weights are under: that of the weights they come from, until trained from free ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from service.appraisal.methods.localised.comparator import FUSION_MODEL
from service.appraisal.methods.localised.normaliser import MODEL
from service.appraisal.model_files.models import ModelStore

OWN = "The site's own"
_FROM = "As of the weights it comes from:"
_ENCODER = "encoder."  # ImageNet's, and free; where it is frozen it stays the same in every network


def licence_of(tensors: Mapping[str, Tensor], *, started_from: str = "", shipped_fusion: bool = False) -> str:
    """Licence of a site's network.

    Args:
        tensors: Of both its networks.
        started_from: Licence of the weights its training began with; "" where it began from free ones.
        shipped_fusion: Whether the shipped model of shape went into its calibration.

    Returns:
        OWN when nothing of it comes from the shipped weights, else whose terms apply.
    """
    bound = started_from
    if not bound and shares_weights(tensors):
        bound = ModelStore().entry(MODEL).licence
    if not bound and shipped_fusion:
        bound = ModelStore().entry(FUSION_MODEL).licence
    if bound in ("", OWN):
        return OWN
    return bound if bound.startswith(_FROM) else f"{_FROM} {bound}"


def shares_weights(tensors: Mapping[str, Tensor]) -> bool:
    """Whether any part that learns is, number by number, a part of the shipped networks."""
    shipped = ModelStore().tensors(MODEL)
    return any(_same(tensor, shipped.get(name)) for name, tensor in tensors.items() if _ENCODER not in name)


def _same(tensor: Tensor, other: Tensor | None) -> bool:
    if other is None or tensor.shape != other.shape or not tensor.is_floating_point() or tensor.dim() < 2:
        return False
    return torch.equal(tensor.half(), other.half())
