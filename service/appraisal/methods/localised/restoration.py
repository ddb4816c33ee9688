"""The default method's normaliser: what is displaced is moved back, what is painted is taken off.

Phase 2 of paper 002 with a network trained to undo synthetic anomalies, because a mask that is
inpainted cannot express a structure that is there but in the wrong place. Pixels where the network
sees no anomaly stay the patient's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from service.appraisal.face.alignment import AlignedFace
from service.appraisal.methods.localised.reading import NetworkReader, Reading, Restored
from service.appraisal.tables import Normalised

KEPT_BELOW, REPLACED_ABOVE = 0.15, 0.45  # probability of an anomaly; between them it is blended


def restore(rgb: NDArray[np.uint8], reading: Reading) -> NDArray[np.uint8]:
    """Undo what the network takes for an anomaly.

    Args:
        rgb: (S, S, 3) uint8, sRGB, aligned.
        reading: of that face.

    Returns:
        (S, S, 3) uint8, sRGB, in register with the input.
    """
    size = rgb.shape[0]
    probability = 1 / (1 + np.exp(-reading.localisation))
    share = np.clip((probability - KEPT_BELOW) / (REPLACED_ABOVE - KEPT_BELOW), 0, 1)
    share = np.asarray(cv2.dilate(share.astype(np.float32), np.ones((3, 3), np.uint8)), np.float32)
    blend = _enlarged(share, size)[..., None]
    cleaned = np.clip(rgb + 255 * _enlarged(reading.residual * share[..., None], size), 0, 255)
    move = _enlarged(reading.flow, size) * np.float32(size)
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
    undone = cv2.remap(
        cleaned.astype(np.float32),
        columns + move[..., 0],
        rows + move[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    mixed = rgb + blend * (undone - rgb)
    return np.asarray(np.clip(np.rint(mixed), 0, 255), np.uint8)


def _enlarged(plane: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(plane, (size, size), interpolation=cv2.INTER_LINEAR), np.float32)


class RestorationNormaliser:
    """Restores faces with the default method's network."""

    def __init__(self, reader: NetworkReader) -> None:
        self._reader = reader

    def normalise(self, faces: Sequence[AlignedFace]) -> Sequence[Normalised]:
        """Return the restored faces, each with the reading it was made from."""
        return [
            Restored(rgb=restore(face.rgb, reading), valid=face.inside, reading=reading)
            for face, reading in zip(faces, self._reader.read(faces), strict=True)
        ]
