"""A small fixed measure while training, on calibration faces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from service.appraisal.anomalies import Canvas, Maker, inter_ocular_distance, render
from service.appraisal.methods.localised.anomaly_network import AnomalyNetwork
from service.appraisal.methods.localised.views import INPUT_SIZE, WHOLE, View
from service.training.faces import FacePool
from service.training.localised import augmentation
from service.training.localised.examples import placed

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SteeringSet:
    """Fixed images: shams, and each type at one severity, of the same faces."""

    shams: Tensor  # (N, 3, S, S) uint8, S the view's size
    changed: Mapping[str, Tensor]  # type -> (N, 3, S, S) uint8


def auroc(clean: Scores, anomalous: Scores) -> float:
    """Area under the ROC curve: the chance that an anomalous score exceeds a clean one."""
    both = np.concatenate([clean, anomalous])
    order = both.argsort(kind="stable")
    ranks = np.empty(len(both))
    values = both[order]
    _, first, counts = np.unique(values, return_index=True, return_counts=True)
    ranks[order] = np.repeat(first + (counts + 1) / 2, counts)
    wins = ranks[len(clean) :].sum() - len(anomalous) * (len(anomalous) + 1) / 2
    return float(wins / (len(clean) * len(anomalous)))


def steering_set(
    pool: FacePool,
    makers: Mapping[str, Maker],
    *,
    faces: int,
    severity: float,
    seed: int,
    view: View = WHOLE,
) -> SteeringSet:
    """Make the images once, from evenly spread faces of a pool."""
    rng = np.random.default_rng(seed)
    shams: list[npt.NDArray[np.uint8]] = []
    changed: dict[str, list[npt.NDArray[np.uint8]]] = {name: [] for name in makers}
    for number in np.linspace(0, len(pool) - 1, faces).astype(int):
        face = pool.face(int(number), INPUT_SIZE)
        unit = inter_ocular_distance(face.landmarks)
        canvas = Canvas(image=face.image, landmarks=face.landmarks, unit=unit)
        place = placed(augmentation.placement(INPUT_SIZE, rng, 0.3), view)
        shams.append(render(face.image, None, place, view.size).image)
        for name, make in makers.items():
            changed[name].append(render(face.image, make(canvas, severity, rng), place, view.size).image)
    return SteeringSet(shams=_stack(shams), changed={k: _stack(v) for k, v in changed.items()})


def _stack(images: list[npt.NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2)))


@torch.no_grad()
def steer(network: AnomalyNetwork, held: SteeringSet, device: torch.device) -> dict[str, float]:
    """AUROC of the evidence, and of the mean local probability, for each type."""
    clean = _scores(network, held.shams, device)
    figures: dict[str, float] = {}
    for name, images in held.changed.items():
        seen = _scores(network, images, device)
        figures[name] = auroc(clean[0], seen[0])
        figures[f"{name}/map"] = auroc(clean[1], seen[1])
    return figures


def _scores(network: AnomalyNetwork, images: Tensor, device: torch.device) -> tuple[Scores, Scores]:
    evidence, local = [], []
    for chunk in torch.split(images, 16):
        faces = chunk.to(device).float().div(255).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            output = network(faces)
        evidence.append(output.evidence.float().cpu().numpy())
        local.append(output.localisation.sigmoid().mean((1, 2, 3)).float().cpu().numpy())
    return (
        np.concatenate(evidence).astype(np.float64),
        np.concatenate(local).astype(np.float64),
    )
