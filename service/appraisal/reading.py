"""What the default method's network says of aligned faces, averaged with their mirror images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.appraisal.alignment import CANONICAL_INTER_OCULAR, AlignedFace, resized
from service.appraisal.anomaly_network import FLOW_UNIT, AnomalyNetwork, NetworkOutput
from service.appraisal.tables import Normalised
from service.appraisal.views import INPUT_SIZE, LANDMARKS, MIRRORED
from service.errors import ModelIntegrityError


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """The network's judgement of one aligned face of S pixels a side."""

    localisation: NDArray[np.float32]  # (64, 64) float32, logit of an anomaly
    flow: NDArray[np.float32]  # (64, 64, 2) float32, fractions of the side, backward; undoes the anomaly
    residual: NDArray[np.float32]  # (64, 64, 3) float32, normal minus present colour, -1..1
    evidence: float  # logit that the face holds an anomaly
    severity: float  # estimate, 0..1
    landmarks: NDArray[np.float32]  # (len(LANDMARKS), 2) float32, fractions of the side


@dataclass(frozen=True, kw_only=True, eq=False)
class Restored(Normalised):
    """A restored face with the reading it was made from, so that it need not be read twice."""

    reading: Reading


class NetworkReader:
    """Runs the network; safe to share between threads."""

    def __init__(self, tensors: Mapping[str, Tensor], device: str = "cpu") -> None:
        """Load the network.

        Args:
            tensors: its weights.
            device: "cpu" or "cuda".

        Raises:
            ModelIntegrityError: the tensors are not this network's.
        """
        self._device = torch.device(device)
        network = AnomalyNetwork()
        try:
            network.load_state_dict(dict(tensors))
        except RuntimeError as exc:
            raise ModelIntegrityError(f"not weights of the anomaly network: {exc}") from exc
        network.eval().requires_grad_(False)
        self._network = network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def read(self, faces: Sequence[AlignedFace]) -> Sequence[Reading]:
        """Read faces, each together with its mirror image, so that mirroring changes nothing."""
        if not faces:
            return []
        batch = np.stack([resized(face.rgb, INPUT_SIZE) for face in faces])
        both = torch.from_numpy(np.concatenate([batch, batch[:, :, ::-1]])).to(self._device)
        images = both.permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            return _readings(self._network(images), len(faces))


def _readings(output: NetworkOutput, count: int) -> Sequence[Reading]:
    def merged(plane: Tensor, signs: tuple[float, ...]) -> NDArray[np.float32]:
        sign = torch.tensor(signs, device=plane.device).view(1, -1, 1, 1)
        mean = (plane[:count] + plane[count:].flip(-1) * sign) / 2
        return np.asarray(mean.permute(0, 2, 3, 1).float().cpu().numpy(), np.float32)

    local = merged(output.localisation, (1.0,))[..., 0]
    flow = merged(output.flow, (-1.0, 1.0)) * np.float32(FLOW_UNIT * CANONICAL_INTER_OCULAR)
    residual = merged(output.residual, (1.0, 1.0, 1.0))
    evidence = ((output.evidence[:count] + output.evidence[count:]) / 2).float().tolist()
    severity = ((output.severity[:count] + output.severity[count:]) / 2).float().tolist()
    there = output.landmarks[count:, list(MIRRORED)].clone()
    there[..., 0] = 1 - there[..., 0]
    points = ((output.landmarks[:count] + there) / 2).float().cpu().numpy()
    return [
        Reading(
            localisation=local[i],
            flow=flow[i],
            residual=residual[i],
            evidence=float(evidence[i]),
            severity=float(severity[i]),
            landmarks=np.asarray(points[i], np.float32),
        )
        for i in range(count)
    ]


def found_landmarks(reading: Reading, mesh: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """The mesh with the points the network finds put where it finds them.

    Args:
        reading: of the face.
        mesh: (478, 2) float64, pixels of the square.
        size: side of the square in pixels.

    Returns:
        (478, 2) float64, pixels of the square.
    """
    found = mesh.copy()
    found[list(LANDMARKS)] = reading.landmarks.astype(np.float64) * size - 0.5
    return found
