"""From a reading to a difference map, of the local evidence, and to a score, of all of it.

The network's local planes (logit of an anomaly, size of the displacement that would undo it,
colour out of place) are turned into standard deviations over what is usual at that place in normal
faces. The logarithm of the map D(x) is how far the logit so calibrated exceeds the usual (without an
upper end, so that a plain anomaly stands out from what surrounds it), raised near landmarks whose
measure is not what the rest of the face lets one expect. Nothing from elsewhere in the face enters
it: a region's score, -log(mean D) by eq. (3) of paper 000, tells of that region.

The whole face's score is -g. g is the logarithm of a mixture of likelihood ratios: an anomaly shows
in the picture, in the close-up of mouth and nose, or in the shape of one part of the face (eyes,
brows, nose, mouth, jaw), and any one of them is enough. The picture's ratio is a logistic
regression with weights >= 0 on summaries of the planes, of anomalous against sham faces; the
close-up's is one on its evidence and severity, of faces whose mouth or nose was displaced; a part's
is one on how far its measures are from the expected, of faces in which that part was displaced
against sham faces. What the networks do not see is measured apart (``explicit.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from service.appraisal.methods.localised.explicit import POINTS, Explicit, ExplicitMeasures
from service.appraisal.methods.localised.reading import Reading, found_landmarks
from service.appraisal.methods.localised.shape import MEASURES, PART_MEASURES, Part, Shape, paint
from service.appraisal.methods.localised.views import LANDMARKS
from service.errors import ModelIntegrityError

_LOG_PER_DEVIATION = 0.3  # of the map: more lets single pixels decide over a region, less its whole area
USUAL = 2.0  # standard deviations up to which a measure of shape adds nothing to the map
MOST = 8.0  # standard deviations above which a measure of shape adds no more evidence
EXPLICIT_SHARES = {Explicit.REDNESS: 0.08, Explicit.PUPILS: 0.08, Explicit.WIDTH: 0.06}  # of the mixture
PICTURE_SHARE = 0.39  # of the mixture
CLOSE_UP_SHARE = 0.156  # of the mixture; the parts of the face share the rest evenly
_SPREAD = 0.03  # of a measure around its points, fraction of the side
_OWN_SHARE = 1 / 3  # of the position's own calibration in the map; the rest is the face-wide one
PLANES = ("logit", "displacement", "colour")
FEATURES = (
    "evidence",
    "severity",
    "strongest",  # 8 cells of the largest logit
    "broad",  # 80 cells of the largest logit
    "displaced",  # 24 cells of the largest displacement
    "coloured",  # 8 cells of the largest colour out of place
)
EVIDENCE = (
    *FEATURES,
    "close-up",
    *(f"shape of the {part}" for part in Part),
    *(measure.value for measure in Explicit),
)
_SHAPE_SHARE = (1 - PICTURE_SHARE - CLOSE_UP_SHARE - sum(EXPLICIT_SHARES.values())) / len(Part)
_LOG_SHARES = np.log(
    [PICTURE_SHARE, CLOSE_UP_SHARE, *[_SHAPE_SHARE] * len(Part), *(EXPLICIT_SHARES[m] for m in Explicit)]
)


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceReading:
    """A reading with where the face is; all in the aligned square of S pixels a side."""

    reading: Reading
    landmarks: NDArray[np.float64]  # (478, 2) float64, the generic mesh, pixels
    face: NDArray[np.bool_]  # (S, S) bool, True inside the face
    redness: float  # of the reddest mark over that of normal faces, >= 0

    @property
    def size(self) -> int:
        """Side of the square in pixels."""
        return int(self.face.shape[0])

    def found(self) -> NDArray[np.float64]:
        """The mesh with the points the network finds where it finds them, (478, 2) float64."""
        return found_landmarks(self.reading, self.landmarks, self.size)


def planes(reading: Reading) -> NDArray[np.float32]:
    """The local planes on a scale on which normal faces spread evenly, (3, 64, 64) float32."""
    moved = np.log(np.hypot(reading.flow[..., 0], reading.flow[..., 1]) + 1e-3)
    coloured = np.log(np.abs(reading.residual).mean(axis=-1) + 2e-3)
    return np.asarray(np.stack([reading.localisation, moved, coloured]), np.float32)


def close_features(reading: Reading) -> NDArray[np.float64]:
    """What the close-up says of mouth and nose as a whole: evidence and severity, (2,) float64."""
    return np.array([reading.close_evidence, reading.close_severity], np.float64)


def oddities(shape: Shape, seen: FaceReading) -> NDArray[np.float64]:
    """How far each measure is from the expected, (len(MEASURES),) float64, 0..MOST standard deviations."""
    return np.minimum(np.abs(shape.z(seen.found(), seen.size)), MOST)


@dataclass(frozen=True, kw_only=True, eq=False)
class Fusion:
    """Calibration of the default method, made on faces kept out of training."""

    mean: NDArray[np.float32]  # (3, 64, 64) float32, usual planes of normal faces
    deviation: NDArray[np.float32]  # (3, 64, 64) float32, their standard deviation
    shape: Shape  # what to expect of lids, lips, nose and jaw
    weights: NDArray[np.float64]  # (len(FEATURES),), of the picture's log likelihood ratio, >= 0
    bias: float  # of the picture's log likelihood ratio
    close_weights: NDArray[np.float64]  # (2,), of evidence and severity in the close-up's, >= 0
    close_bias: float  # of the close-up's log likelihood ratio
    measure_weights: NDArray[np.float64]  # (len(MEASURES),), of its part's log likelihood ratio, >= 0, per SD
    part_biases: NDArray[np.float64]  # (len(Part),), of the parts' log likelihood ratios
    explicit: ExplicitMeasures  # what is measured apart

    def z(self, reading: Reading) -> NDArray[np.float32]:
        """Planes in standard deviations over the usual, (3, 64, 64) float32."""
        return np.asarray((planes(reading) - self.mean) / self.deviation, np.float32)

    def features(self, seen: FaceReading) -> NDArray[np.float64]:
        """Summaries of the picture, one for each name in FEATURES."""
        reading, z = seen.reading, self.z(seen.reading)
        side = z.shape[:0:-1]
        cells = cv2.resize(seen.face.astype(np.float32), side, interpolation=cv2.INTER_AREA) > 0.5
        inside = np.sort(z[:, cells], axis=1) if cells.any() else np.zeros((len(PLANES), 1), np.float32)
        return np.array(
            [
                reading.evidence,
                reading.severity,
                inside[0, -8:].mean(),
                inside[0, -80:].mean(),
                inside[1, -24:].mean(),
                inside[2, -8:].mean(),
            ],
            np.float64,
        )

    def evidence(self, seen: FaceReading) -> NDArray[np.float64]:
        """Summaries of the picture, then log likelihood ratios of close-up, parts and explicit measures.

        Returns:
            (len(EVIDENCE),) float64.
        """
        close = close_features(seen.reading) @ self.close_weights + self.close_bias
        speaks = self.measure_weights * oddities(self.shape, seen)
        parts = [speaks[list(PART_MEASURES[part])].sum() for part in Part]
        apart = self.explicit.log_ratios(seen.landmarks, seen.redness)
        return np.concatenate([self.features(seen), [close], parts + self.part_biases, apart])

    def weigh(self, evidence: NDArray[np.float64], *, without: str | None = None) -> NDArray[np.float64]:
        """G of evidence, higher = more anomalous.

        Args:
            evidence: (..., len(EVIDENCE)) float64.
            without: a name of EVIDENCE to leave out of account.

        Returns:
            (...) float64.
        """
        use = np.array([name != without for name in EVIDENCE])
        count = len(FEATURES)
        picture = evidence[..., :count] @ (self.weights * use[:count]) + self.bias
        others = np.where(use[count:], evidence[..., count:], -np.inf)
        ratios = np.concatenate([picture[..., None], others], axis=-1)
        return np.asarray(np.logaddexp.reduce(_LOG_SHARES + ratios, axis=-1))

    def total(self, seen: FaceReading) -> float:
        """g, higher = more anomalous."""
        return float(self.weigh(self.evidence(seen)))

    def difference(self, seen: FaceReading) -> NDArray[np.float32]:
        """The difference map, (S, S) float32, > 0, higher = more anomalous."""
        own = self.z(seen.reading)[0]
        wide = (seen.reading.localisation - self.mean[0].mean()) / self.deviation[0].mean()
        z = cv2.GaussianBlur(_OWN_SHARE * own + (1 - _OWN_SHARE) * wide, (0, 0), 1.0)
        z = cv2.resize(z, seen.face.shape[::-1], interpolation=cv2.INTER_CUBIC)
        z = z + paint(oddities(self.shape, seen) - USUAL, seen.found(), seen.size, _SPREAD)
        return np.asarray(np.exp(_LOG_PER_DEVIATION * z), np.float32)

    def tensors(self) -> dict[str, torch.Tensor]:
        """As stored."""
        parts = {
            "mean": self.mean,
            "deviation": self.deviation,
            "shape_residual": self.shape.residual,
            "shape_mean": self.shape.mean,
            "shape_deviation": self.shape.deviation,
            "weights": self.weights,
            "bias": np.array([self.bias]),
            "close_weights": self.close_weights,
            "close_bias": np.array([self.close_bias]),
            "measure_weights": self.measure_weights,
            "part_biases": self.part_biases,
            "explicit_weights": self.explicit.weights,
            "explicit_constant": np.array([self.explicit.constant]),
            "explicit_middle": self.explicit.middle,
            "explicit_scale": self.explicit.scale,
        }
        return {name: torch.from_numpy(np.asarray(part, np.float32)) for name, part in parts.items()}


def fusion_from(tensors: Mapping[str, torch.Tensor]) -> Fusion:
    """Read a stored fusion.

    Raises:
        ModelIntegrityError: a tensor is missing or of another shape.
    """

    def part(name: str, *shape: int) -> NDArray[np.float64]:
        if name not in tensors:
            raise ModelIntegrityError(f"the fusion lacks {name!r}")
        if tuple(tensors[name].shape) != shape:
            raise ModelIntegrityError(f"the fusion's {name!r} is of another shape")
        return tensors[name].numpy().astype(np.float64)

    grid = (len(PLANES), 64, 64)
    measures = len(MEASURES)
    return Fusion(
        mean=part("mean", *grid).astype(np.float32),
        deviation=part("deviation", *grid).astype(np.float32),
        shape=Shape(
            residual=part("shape_residual", measures, 2 * len(LANDMARKS)),
            mean=part("shape_mean", measures),
            deviation=part("shape_deviation", measures),
        ),
        weights=part("weights", len(FEATURES)),
        bias=float(part("bias", 1)[0]),
        close_weights=part("close_weights", 2),
        close_bias=float(part("close_bias", 1)[0]),
        measure_weights=part("measure_weights", measures),
        part_biases=part("part_biases", len(Part)),
        explicit=ExplicitMeasures(
            weights=part("explicit_weights", 2 * POINTS),
            constant=float(part("explicit_constant", 1)[0]),
            middle=part("explicit_middle", len(Explicit)),
            scale=part("explicit_scale", len(Explicit)),
        ),
    )
