"""From a reading to one difference map: where by the local logits, how much by all the evidence.

With z(x) the local logit in standard deviations over what is usual at x in normal faces (raised
near points of the mesh that are unusually asymmetric), the local share is
m(x) = sigmoid(z(x) - Z_CENTRE). The total g is linear in a few summaries of the reading and the
mesh; its weights are those of a logistic regression of anomalous against sham faces. The map is
D(x) = exp(g) m(x) / mean(m), so that eq. (3) of paper 000 gives s(D) = -log(mean D) = -g, while
regions share the total by what was seen in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from service.appraisal.anomaly_network import LANDMARKS
from service.appraisal.asymmetry import NAMES, measure, paint
from service.appraisal.models import ModelStore
from service.appraisal.reading import Reading
from service.errors import ModelIntegrityError

FUSION_MODEL = "default-fusion"
Z_CENTRE = 2.0  # standard deviations at which a pixel counts half
STRONGEST_CELLS = 24  # of the face's 64 x 64 cells
USUAL_ASYMMETRY = 2.0  # standard deviations up to which an asymmetry adds nothing to the map
_SPREAD = 0.05  # of an asymmetry around its points, fraction of the side
FEATURES = (
    "evidence",
    "severity",
    "strongest",
    "mean",
    "displaced",
    "disagreement",
    "asymmetry",
    "commissures",
    "eyes",
)


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceReading:
    """A reading with where the face is; all in the aligned square of S pixels a side."""

    reading: Reading
    landmarks: NDArray[np.float64]  # (478, 2) float64, the generic mesh, pixels
    face: NDArray[np.bool_]  # (S, S) bool, True inside the face

    @property
    def size(self) -> int:
        """Side of the square in pixels."""
        return int(self.face.shape[0])


@dataclass(frozen=True, kw_only=True, eq=False)
class Fusion:
    """Calibration of the default method, made on faces kept out of training."""

    mean: NDArray[np.float32]  # (64, 64) float32, usual local logit of normal faces
    deviation: NDArray[np.float32]  # (64, 64) float32, its standard deviation
    asymmetry_mean: NDArray[np.float64]  # (len(NAMES),) usual asymmetries of normal faces
    asymmetry_deviation: NDArray[np.float64]  # (len(NAMES),)
    weights: NDArray[np.float64]  # (len(FEATURES),), of the total g
    bias: float  # of the total g

    def z(self, reading: Reading) -> NDArray[np.float32]:
        """Local logits in standard deviations over the usual, (64, 64) float32."""
        return np.asarray((reading.localisation - self.mean) / self.deviation, np.float32)

    def asymmetries(self, seen: FaceReading) -> NDArray[np.float64]:
        """Asymmetries in standard deviations over the usual, (len(NAMES),)."""
        found = measure(seen.landmarks, seen.size)
        return np.asarray((found - self.asymmetry_mean) / self.asymmetry_deviation)

    def features(self, seen: FaceReading) -> NDArray[np.float64]:
        """Summaries of a reading, one for each name in FEATURES."""
        reading, z = seen.reading, self.z(seen.reading)
        cells = cv2.resize(seen.face.astype(np.float32), z.shape[::-1], interpolation=cv2.INTER_AREA) > 0.5
        inside = np.sort(z[cells]) if cells.any() else np.zeros(1, np.float32)
        probability = 1 / (1 + np.exp(-reading.localisation))
        moved = probability * np.hypot(reading.flow[..., 0], reading.flow[..., 1])
        mesh = (seen.landmarks[list(LANDMARKS)] + 0.5) / seen.size
        apart = np.hypot(*(reading.landmarks - mesh).T)
        odd = self.asymmetries(seen)
        excess = np.maximum(odd - 1, 0)
        eyes = [NAMES.index("upper-lid"), NAMES.index("eye-opening")]
        return np.array(
            [
                reading.evidence,
                reading.severity,
                inside[-STRONGEST_CELLS:].mean(),
                inside.mean(),
                100 * (moved[cells].mean() if cells.any() else 0.0),
                100 * np.percentile(apart, 90),
                np.sqrt((np.minimum(excess, 6) ** 2).sum()),
                min(excess[NAMES.index("commissure-height")], 6),
                min(excess[eyes].max(), 6),
            ],
            np.float64,
        )

    def total(self, seen: FaceReading) -> float:
        """g, higher = more anomalous."""
        return float(self.weights @ self.features(seen) + self.bias)

    def difference(self, seen: FaceReading) -> NDArray[np.float32]:
        """The difference map, (S, S) float32, > 0, higher = more anomalous."""
        side = seen.face.shape[::-1]
        z = cv2.resize(self.z(seen.reading), side, interpolation=cv2.INTER_CUBIC)
        z = z + paint(self.asymmetries(seen) - USUAL_ASYMMETRY, seen.landmarks, seen.size, _SPREAD)
        local = 1 / (1 + np.exp(-np.clip(z - Z_CENTRE, -30, 30)))
        mean = max(float(local[seen.face].mean()), 1e-9) if seen.face.any() else 1.0
        return np.asarray(np.exp(self.total(seen)) * local / mean, np.float32)

    def tensors(self) -> dict[str, torch.Tensor]:
        """As stored."""
        parts = {
            "mean": self.mean,
            "deviation": self.deviation,
            "asymmetry_mean": self.asymmetry_mean,
            "asymmetry_deviation": self.asymmetry_deviation,
            "weights": self.weights,
            "bias": np.array([self.bias]),
        }
        return {name: torch.from_numpy(np.asarray(part, np.float32)) for name, part in parts.items()}


def fusion_from(tensors: Mapping[str, torch.Tensor]) -> Fusion:
    """Read a stored fusion.

    Raises:
        ModelIntegrityError: a tensor is missing or of another shape.
    """
    try:
        fusion = Fusion(
            mean=tensors["mean"].numpy(),
            deviation=tensors["deviation"].numpy(),
            asymmetry_mean=tensors["asymmetry_mean"].numpy().astype(np.float64),
            asymmetry_deviation=tensors["asymmetry_deviation"].numpy().astype(np.float64),
            weights=tensors["weights"].numpy().astype(np.float64),
            bias=float(tensors["bias"][0]),
        )
    except KeyError as exc:
        raise ModelIntegrityError(f"the fusion lacks {exc}") from exc
    same = fusion.mean.shape == fusion.deviation.shape and fusion.weights.shape == (len(FEATURES),)
    if not same or fusion.asymmetry_mean.shape != (len(NAMES),):
        raise ModelIntegrityError("the fusion's tensors are of another shape")
    return fusion


def load_fusion(store: ModelStore) -> Fusion:
    """Load the shipped fusion."""
    return fusion_from(store.tensors(FUSION_MODEL))
