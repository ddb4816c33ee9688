"""The default method's comparator: calibrated localisation, scaled by the evidence of the whole face.

See service/appraisal/methods/localised/fusion.py for how local logits and evidence become one difference map.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.appraisal.face.alignment import AlignedFace
from service.appraisal.face.regions import face_mask
from service.appraisal.methods.localised.fusion import FaceReading, Fusion
from service.appraisal.methods.localised.reading import NetworkReader, Reading, Restored
from service.appraisal.tables import Normalised


class LocalisedComparator:
    """Fuses what the network says of a face into one difference map."""

    def __init__(self, reader: NetworkReader, fusion: Fusion) -> None:
        self._reader = reader
        self._fusion = fusion

    def compare(
        self, faces: Sequence[AlignedFace], normalised: Sequence[Normalised]
    ) -> Sequence[NDArray[np.float32]]:
        """Return one difference map a face: (S, S) float32, > 0, higher = more anomalous."""
        readings = self._readings(faces, normalised)
        return [
            self._fusion.difference(face_reading(face, reading))
            for reading, face in zip(readings, faces, strict=True)
        ]

    def _readings(self, faces: Sequence[AlignedFace], normalised: Sequence[Normalised]) -> Sequence[Reading]:
        """The readings the restored faces were made from; any other normal face is read anew."""
        known = [other.reading for other in normalised if isinstance(other, Restored)]
        return known if len(known) == len(faces) else self._reader.read(faces)


def face_reading(face: AlignedFace, reading: Reading) -> FaceReading:
    """A reading together with where the face is."""
    inside = face_mask(face.landmarks, (face.size, face.size)) & face.inside
    return FaceReading(reading=reading, landmarks=face.landmarks, face=inside)
