"""From a reading to one difference map: where by the local planes, how much by all the evidence.

The network's local planes (logit of an anomaly, size of the displacement that would undo it,
colour out of place) are turned into standard deviations over what is usual at that place in normal
faces. The local share m(x) is how far the logit so calibrated exceeds the usual (a softplus: without
an upper end, so that a plain anomaly stands out from what surrounds it), raised near points of the
mesh whose asymmetry or proportion is unusual. The total g is linear in a few summaries of the planes
and the mesh, with weights >= 0 from a logistic regression of anomalous against sham faces. The map
is D(x) = exp(g) m(x) / mean(m), so that eq. (3) of paper 000 gives s(D) = -log(mean D) = -g, while
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
from service.appraisal.asymmetry import NAMES, POINTS, measure, paint, proportions
from service.appraisal.reading import Reading
from service.errors import ModelIntegrityError

Z_CENTRE = 2.0  # standard deviations from which a pixel's excess counts in full
USUAL = 2.0  # standard deviations up to which a measure of the mesh adds nothing to the map
MOST = 6.0  # standard deviations above which a measure of the mesh adds no more evidence
_SPREAD = 0.05  # of a measure around its points, fraction of the side
_OWN_SHARE = 1 / 3  # of the position's own calibration in the map; the rest is the face-wide one
_HALF_NORMAL = (0.798, 0.603)  # mean and deviation of |z|
PLANES = ("logit", "displacement", "colour")
FEATURES = (
    "evidence",
    "severity",
    "strongest",  # 8 cells of the largest logit
    "broad",  # 80 cells of the largest logit
    "displaced",  # 24 cells of the largest displacement
    "coloured",  # 8 cells of the largest colour out of place
    "disagreement",  # of the network's landmarks and the generic mesh
    "asymmetry",
    "proportion",
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


def planes(reading: Reading) -> NDArray[np.float32]:
    """The local planes on a scale on which normal faces spread evenly, (3, 64, 64) float32."""
    moved = np.log(np.hypot(reading.flow[..., 0], reading.flow[..., 1]) + 1e-3)
    coloured = np.log(np.abs(reading.residual).mean(axis=-1) + 2e-3)
    return np.asarray(np.stack([reading.localisation, moved, coloured]), np.float32)


def mesh_measures(seen: FaceReading) -> NDArray[np.float64]:
    """Asymmetries, then proportions, (len(NAMES) + len(SPANS),)."""
    pair = measure(seen.landmarks, seen.size), proportions(seen.landmarks, seen.size)
    return np.concatenate(pair)


@dataclass(frozen=True, kw_only=True, eq=False)
class Fusion:
    """Calibration of the default method, made on faces kept out of training."""

    mean: NDArray[np.float32]  # (3, 64, 64) float32, usual planes of normal faces
    deviation: NDArray[np.float32]  # (3, 64, 64) float32, their standard deviation
    mesh_mean: NDArray[np.float64]  # (len(POINTS),) usual measures of normal faces
    mesh_deviation: NDArray[np.float64]  # (len(POINTS),)
    weights: NDArray[np.float64]  # (len(FEATURES),), of the total g, >= 0
    bias: float  # of the total g

    def z(self, reading: Reading) -> NDArray[np.float32]:
        """Planes in standard deviations over the usual, (3, 64, 64) float32."""
        return np.asarray((planes(reading) - self.mean) / self.deviation, np.float32)

    def oddities(self, seen: FaceReading) -> NDArray[np.float64]:
        """Measures of the mesh in standard deviations over the usual, (len(POINTS),).

        A proportion is odd on either side.
        """
        z = (mesh_measures(seen) - self.mesh_mean) / self.mesh_deviation
        count = len(NAMES)
        z[count:] = (np.abs(z[count:]) - _HALF_NORMAL[0]) / _HALF_NORMAL[1]
        return np.asarray(z)

    def features(self, seen: FaceReading) -> NDArray[np.float64]:
        """Summaries of a reading, one for each name in FEATURES."""
        reading, z = seen.reading, self.z(seen.reading)
        side = z.shape[:0:-1]
        cells = cv2.resize(seen.face.astype(np.float32), side, interpolation=cv2.INTER_AREA) > 0.5
        inside = np.sort(z[:, cells], axis=1) if cells.any() else np.zeros((len(PLANES), 1), np.float32)
        mesh = (seen.landmarks[list(LANDMARKS)] + 0.5) / seen.size
        apart = np.hypot(*(reading.landmarks - mesh).T)
        excess = np.clip(self.oddities(seen) - 1, 0, MOST)
        asymmetry, proportion = excess[: len(NAMES)], excess[len(NAMES) :]
        eyes = [NAMES.index("upper-lid"), NAMES.index("eye-opening")]
        return np.array(
            [
                reading.evidence,
                reading.severity,
                inside[0, -8:].mean(),
                inside[0, -80:].mean(),
                inside[1, -24:].mean(),
                inside[2, -8:].mean(),
                100 * np.percentile(apart, 90),
                np.sqrt((asymmetry**2).sum()),
                np.sqrt((proportion**2).sum()),
                asymmetry[NAMES.index("commissure-height")],
                asymmetry[eyes].max(),
            ],
            np.float64,
        )

    def total(self, seen: FaceReading) -> float:
        """g, higher = more anomalous."""
        return float(self.weights @ self.features(seen) + self.bias)

    def difference(self, seen: FaceReading) -> NDArray[np.float32]:
        """The difference map, (S, S) float32, > 0, higher = more anomalous."""
        own = self.z(seen.reading)[0]
        wide = (seen.reading.localisation - self.mean[0].mean()) / self.deviation[0].mean()
        z = cv2.GaussianBlur(_OWN_SHARE * own + (1 - _OWN_SHARE) * wide, (0, 0), 1.0)
        z = cv2.resize(z, seen.face.shape[::-1], interpolation=cv2.INTER_CUBIC)
        z = z + paint(self.oddities(seen) - USUAL, POINTS, seen.landmarks, seen.size, _SPREAD)
        local = np.logaddexp(0, z - Z_CENTRE)
        mean = max(float(local[seen.face].mean()), 1e-9) if seen.face.any() else 1.0
        return np.asarray(np.exp(self.total(seen)) * local / mean, np.float32)

    def tensors(self) -> dict[str, torch.Tensor]:
        """As stored."""
        parts = {
            "mean": self.mean,
            "deviation": self.deviation,
            "mesh_mean": self.mesh_mean,
            "mesh_deviation": self.mesh_deviation,
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
            mesh_mean=tensors["mesh_mean"].numpy().astype(np.float64),
            mesh_deviation=tensors["mesh_deviation"].numpy().astype(np.float64),
            weights=tensors["weights"].numpy().astype(np.float64),
            bias=float(tensors["bias"][0]),
        )
    except KeyError as exc:
        raise ModelIntegrityError(f"the fusion lacks {exc}") from exc
    same = fusion.mean.shape == fusion.deviation.shape and fusion.weights.shape == (len(FEATURES),)
    if not same or fusion.mesh_mean.shape != (len(POINTS),) or len(fusion.mean) != len(PLANES):
        raise ModelIntegrityError("the fusion's tensors are of another shape")
    return fusion
