"""Runs the occlusion network over aligned faces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.appraisal.batching import ALONE, Batches, Batching
from service.appraisal.face.alignment import AlignedFace
from service.appraisal.face.regions import region_masks
from service.appraisal.gates.occlusion import Occlusion, OcclusionCalibration, find_occlusion
from service.appraisal.gates.occlusion_network import INPUT_SIZE, OcclusionNetwork
from service.errors import ModelIntegrityError


class OcclusionGate:
    """Finds what lies before faces; safe to share between threads."""

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        calibration: OcclusionCalibration,
        device: str = "cpu",
        batching: Batching = ALONE,
    ) -> None:
        """Load the network.

        Args:
            tensors: Its weights.
            calibration: Thresholds.
            device: "cpu" or "cuda".
            batching: How forward passes are put together.

        Raises:
            ModelIntegrityError: The tensors are not this network's.
        """
        network = OcclusionNetwork()
        try:
            network.load_state_dict(dict(tensors))
        except RuntimeError as exc:
            raise ModelIntegrityError(f"not weights of the occlusion network: {exc}") from exc
        self.calibration = calibration
        self._device = torch.device(device)
        network.eval().requires_grad_(False)
        self._batches: Batches[NDArray[np.float32]] = Batches(lambda b: list(self.probabilities(b)), batching)
        self._network = network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def find(self, faces: Sequence[AlignedFace]) -> Sequence[Occlusion]:
        """Find what lies before each face, in order."""
        if not faces:
            return []
        chances = self._batches([_small(face.rgb) for face in faces])
        return [
            find_occlusion(chance, region_masks(face.landmarks, (face.size, face.size)), self.calibration)
            for chance, face in zip(chances, faces, strict=True)
        ]

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probability that something lies before each cell.

        Args:
            images: (B, 128, 128, 3) uint8, sRGB, aligned.

        Returns:
            (B, 64, 64) float32, 0..1.
        """
        batch = torch.from_numpy(np.ascontiguousarray(images)).to(self._device).permute(0, 3, 1, 2)
        with torch.inference_mode():
            logits = self._network(batch.float().div(255).contiguous(memory_format=torch.channels_last))
            chance = logits[:, 0].sigmoid().float().cpu()
        return np.asarray(chance.numpy(), np.float32)


def _small(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if rgb.shape[0] == INPUT_SIZE:
        return rgb
    way = cv2.INTER_AREA if rgb.shape[0] > INPUT_SIZE else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(rgb, (INPUT_SIZE, INPUT_SIZE), interpolation=way), np.uint8)
