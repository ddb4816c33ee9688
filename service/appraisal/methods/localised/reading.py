"""What the default method's network says of aligned faces, averaged with their mirror images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.appraisal.batching import ALONE, Batches, Batching
from service.appraisal.face.alignment import CANONICAL_INTER_OCULAR, AlignedFace, resized
from service.appraisal.methods.localised.anomaly_network import (
    FLOW_UNIT,
    AnomalyNetwork,
    NetworkOutput,
    of_close_up,
    of_whole,
)
from service.appraisal.methods.localised.views import CLOSE_UP, INPUT_SIZE, LANDMARKS, WHOLE, View
from service.appraisal.tables import Normalised
from service.errors import ModelIntegrityError


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """The networks' judgement of one aligned face of S pixels a side."""

    localisation: NDArray[np.float32]  # (64, 64) float32, logit of an anomaly
    flow: NDArray[np.float32]  # (64, 64, 2) float32, fractions of the side, backward; undoes the anomaly
    residual: NDArray[np.float32]  # (64, 64, 3) float32, normal minus present colour, -1..1
    evidence: float  # logit that the face holds an anomaly
    severity: float  # estimate, 0..1
    close_evidence: float  # logit that mouth or nose hold an anomaly, from close by
    close_severity: float  # estimate, 0..1
    landmarks: NDArray[np.float32]  # (len(LANDMARKS), 2) float32, fractions of the side


@dataclass(frozen=True, kw_only=True, eq=False)
class Restored(Normalised):
    """A restored face with the reading it was made from, so that it need not be read twice."""

    reading: Reading


class NetworkReader:
    """Runs the networks of the whole face and of the close-up; safe to share between threads."""

    def __init__(
        self, tensors: Mapping[str, Tensor], device: str = "cpu", batching: Batching = ALONE
    ) -> None:
        """Load the networks.

        Args:
            tensors: weights of both, as ``anomaly_network.together`` puts them.
            device: "cpu" or "cuda".
            batching: how forward passes are put together.

        Raises:
            ModelIntegrityError: the tensors are not these networks'.
        """
        self._device = torch.device(device)
        whole, near = self._loaded(WHOLE, of_whole(tensors)), self._loaded(CLOSE_UP, of_close_up(tensors))
        self._whole = Batches(lambda pictures: self._pass(whole, WHOLE, pictures), batching)
        self._close_up = Batches(lambda pictures: self._pass(near, CLOSE_UP, pictures), batching)

    def _loaded(self, view: View, tensors: Mapping[str, Tensor]) -> AnomalyNetwork:
        network = AnomalyNetwork(view)
        try:
            network.load_state_dict(dict(tensors))
        except RuntimeError as exc:
            raise ModelIntegrityError(f"not weights of the {view.name}'s anomaly network: {exc}") from exc
        network.eval().requires_grad_(False)
        return network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def read(self, faces: Sequence[AlignedFace]) -> Sequence[Reading]:
        """Read faces, each together with its mirror image, so that mirroring changes nothing."""
        if not faces:
            return []
        squares = [resized(face.rgb, INPUT_SIZE) for face in faces]
        whole = self._whole(squares)
        near = self._close_up([close_up(square) for square in squares])
        return [_merged(one, other) for one, other in zip(whole, near, strict=True)]

    def _pass(self, network: AnomalyNetwork, view: View, batch: NDArray[np.uint8]) -> Sequence[_Seen]:
        both = torch.from_numpy(np.concatenate([batch, batch[:, :, ::-1]])).to(self._device)
        images = both.permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            return _seen(network(images), view, len(batch))


def close_up(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mouth and nose of an aligned face, (S, S, 3) uint8, S the size of ``views.CLOSE_UP``.

    Enlarged from the aligned face and not drawn anew from the photograph: the archives the network
    learnt from end at that resolution, and what it never saw it cannot judge.

    Args:
        rgb: (INPUT_SIZE, INPUT_SIZE, 3) uint8, sRGB.
    """
    enlarged = cv2.warpAffine(
        rgb,
        CLOSE_UP.from_aligned(INPUT_SIZE),
        (CLOSE_UP.size, CLOSE_UP.size),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return np.asarray(enlarged, np.uint8)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Seen:
    """What one network says of one face, averaged with its mirror image; planes as in Reading."""

    localisation: NDArray[np.float32]  # (C, C)
    flow: NDArray[np.float32]  # (C, C, 2), fractions of the aligned face's side
    residual: NDArray[np.float32]  # (C, C, 3)
    evidence: float
    severity: float
    landmarks: NDArray[np.float32]  # (landmarks of the view, 2), fractions of the view


def _seen(output: NetworkOutput, view: View, count: int) -> Sequence[_Seen]:
    def merged(plane: Tensor, signs: tuple[float, ...]) -> NDArray[np.float32]:
        sign = torch.tensor(signs, device=plane.device).view(1, -1, 1, 1)
        mean = (plane[:count] + plane[count:].flip(-1) * sign) / 2
        return np.asarray(mean.permute(0, 2, 3, 1).float().cpu().numpy(), np.float32)

    local = merged(output.localisation, (1.0,))[..., 0]
    flow = merged(output.flow, (-1.0, 1.0)) * np.float32(FLOW_UNIT * CANONICAL_INTER_OCULAR)
    residual = merged(output.residual, (1.0, 1.0, 1.0))
    evidence = ((output.evidence[:count] + output.evidence[count:]) / 2).float().tolist()
    severity = ((output.severity[:count] + output.severity[count:]) / 2).float().tolist()
    there = output.landmarks[count:, list(view.mirrored)].clone()
    there[..., 0] = 1 - there[..., 0]
    points = ((output.landmarks[:count] + there) / 2).float().cpu().numpy()
    return [
        _Seen(
            localisation=local[i],
            flow=flow[i],
            residual=residual[i],
            evidence=float(evidence[i]),
            severity=float(severity[i]),
            landmarks=np.asarray(points[i], np.float32),
        )
        for i in range(count)
    ]


def _merged(whole: _Seen, near: _Seen) -> Reading:
    """Both in one: planes count alike where both look; landmarks are the close-up's where it has them."""
    cells = round(CLOSE_UP.extent * WHOLE.cells)
    top, left = round(CLOSE_UP.top * WHOLE.cells), round(CLOSE_UP.left * WHOLE.cells)
    window = (slice(top, top + cells), slice(left, left + cells))

    def both(plane: NDArray[np.float32], close: NDArray[np.float32]) -> NDArray[np.float32]:
        out = plane.copy()
        out[window] = (out[window] + cv2.resize(close, (cells, cells), interpolation=cv2.INTER_AREA)) / 2
        return out

    landmarks = whole.landmarks.copy()
    corner = np.array([CLOSE_UP.left, CLOSE_UP.top], np.float32)
    chosen = list(CLOSE_UP.chosen)
    landmarks[chosen] = corner + near.landmarks * np.float32(CLOSE_UP.extent)
    return Reading(
        localisation=both(whole.localisation, near.localisation),
        flow=both(whole.flow, near.flow),
        residual=both(whole.residual, near.residual),
        evidence=whole.evidence,
        severity=whole.severity,
        close_evidence=near.evidence,
        close_severity=near.severity,
        landmarks=landmarks,
    )


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
