"""The default method's comparator: a map of calibrated local evidence, and a score of the whole face.

See service/appraisal/methods/localised/fusion.py for what each is made of.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.appraisal.face.alignment import AlignedFace
from service.appraisal.face.regions import face_mask
from service.appraisal.methods.localised.counterpart.drawing import ExpectedFace
from service.appraisal.methods.localised.counterpart.normaliser import Drawn
from service.appraisal.methods.localised.fusion import FaceReading, Fusion
from service.appraisal.methods.localised.reading import NetworkReader, Reading, Restored
from service.appraisal.tables import Compared, Normalised


class LocalisedComparator:
    """Fuses what the network says of a face into a difference map and a score of the whole."""

    def __init__(self, reader: NetworkReader, fusion: Fusion, expected: ExpectedFace) -> None:
        self._reader = reader
        self._fusion = fusion
        self._expected = expected

    def compare(
        self, faces: Sequence[AlignedFace], normalised: Sequence[Normalised]
    ) -> Sequence[NDArray[np.float32]]:
        """Return one difference map a face: (S, S) float32, > 0, higher = more anomalous."""
        return [each.difference for each in self.compare_whole(faces, normalised)]

    def compare_whole(
        self, faces: Sequence[AlignedFace], normalised: Sequence[Normalised]
    ) -> Sequence[Compared]:
        """Return one difference map a face, with the score of the whole face by all evidence."""
        readings = self._readings(faces, normalised)
        seen = [
            face_reading(face, reading, self._redness(face, reading, other))
            for reading, face, other in zip(readings, faces, normalised, strict=True)
        ]
        return [
            Compared(difference=self._fusion.difference(each), whole=-self._fusion.total(each))
            for each in seen
        ]

    def _redness(self, face: AlignedFace, reading: Reading, other: Normalised) -> float:
        """As the counterpart was drawn by; of any other normal face it is measured anew."""
        return other.drawing.redness if isinstance(other, Drawn) else self._expected.redness(face, reading)

    def _readings(self, faces: Sequence[AlignedFace], normalised: Sequence[Normalised]) -> Sequence[Reading]:
        """The readings the restored faces were made from; any other normal face is read anew."""
        known = [other.reading for other in normalised if isinstance(other, Restored)]
        return known if len(known) == len(faces) else self._reader.read(faces)


def face_reading(face: AlignedFace, reading: Reading, redness: float) -> FaceReading:
    """A reading together with where the face is, and how red its reddest mark is."""
    inside = face_mask(face.landmarks, (face.size, face.size)) & face.inside
    return FaceReading(reading=reading, landmarks=face.landmarks, face=inside, redness=redness)
