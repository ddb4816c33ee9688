"""The training objective of the default method's network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from service.appraisal.methods.localised.anomaly_network import NetworkOutput
from service.training.localised.examples import PER_FACE, Batch

_POSITIVE_SHARE = 0.3  # weight of the anomaly's cells against all others, whatever their number
_SMALLEST_AREA = 24.0  # cells; smaller anomalies weigh less
_SURELY_VISIBLE = 0.2  # severity from which an anomaly counts as fully present
_MARGIN = 1.0
_DISPLACED = 120.0  # added weight of a landmark per inter-ocular distance it was displaced
_MOST_WEIGHT = 10.0  # so added


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Parts of the objective, each a scalar."""

    localisation: Tensor
    flow: Tensor
    residual: Tensor
    evidence: Tensor
    ranking: Tensor
    severity: Tensor
    landmarks: Tensor

    def total(self) -> Tensor:
        """The weighted sum that is minimised."""
        return (
            2.0 * self.localisation
            + 0.5 * self.flow
            + 20.0 * self.residual
            + 0.4 * self.evidence
            + 0.3 * self.ranking
            + 1.0 * self.severity
            + 0.3 * self.landmarks
        )


def losses(output: NetworkOutput, batch: Batch, landmarks_of: slice = slice(None)) -> Losses:
    """Compare an output with its targets.

    Args:
        output: of the network for ``batch.images``.
        batch: sham, subtle, plain triples.
        landmarks_of: the images whose landmarks are in the output.
    """
    target = batch.localisation
    local = _localisation(output.localisation, target)
    inside = target + 0.05
    flow = ((output.flow - batch.flow).abs() * inside).mean() * 4
    residual = ((output.residual - batch.residual).abs() * inside).mean() * 8
    present = (batch.severity / _SURELY_VISIBLE).clamp(max=1)
    evidence = functional.binary_cross_entropy_with_logits(output.evidence, present)
    sham, subtle, plain = output.evidence.view(-1, PER_FACE).unbind(1)
    steps = torch.cat([plain - sham, plain - subtle, subtle - sham])
    apart = batch.severity.view(-1, PER_FACE)
    gaps = torch.cat([apart[:, 2], apart[:, 2] - apart[:, 1], apart[:, 1]])
    ranking = (functional.softplus(_MARGIN - steps) * (gaps / 0.3).clamp(max=1)).mean()
    severity = functional.smooth_l1_loss(output.severity, batch.severity, beta=0.2)
    return Losses(
        localisation=local,
        flow=flow,
        residual=residual,
        evidence=evidence,
        ranking=ranking,
        severity=severity,
        landmarks=landmark_loss(output.landmarks, batch.landmarks[landmarks_of], batch.moved[landmarks_of]),
    )


def landmark_loss(found: Tensor, true: Tensor, moved: Tensor) -> Tensor:
    """Mean distance in hundredths of the square, displaced landmarks weighing more.

    Args:
        found: (B, len(LANDMARKS), 2), fractions of the square.
        true: likewise.
        moved: (B, len(LANDMARKS)), displacement, inter-ocular distances.
    """
    away = (found - true).norm(dim=-1)
    weight = 1 + (_DISPLACED * moved).clamp(max=_MOST_WEIGHT)
    loss: Tensor = 100 * (away * weight).sum() / weight.sum()
    return loss


def _localisation(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy in which a small anomaly weighs as much as a large one."""
    each = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    inside = (each * target).sum((1, 2, 3)) / (target.sum((1, 2, 3)) + _SMALLEST_AREA)
    outside = (each * (1 - target)).sum((1, 2, 3)) / (1 - target).sum((1, 2, 3)).clamp(min=1)
    return (_POSITIVE_SHARE * inside + outside).mean()
