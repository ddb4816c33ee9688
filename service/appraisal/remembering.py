"""Normal counterparts made once for several comparators: projecting takes minutes, comparing does not."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from service.appraisal.face.alignment import AlignedFace
from service.appraisal.tables import Normalised, Normaliser


class RememberingNormaliser:
    """Remembers the counterparts of faces already seen; about a quarter of a megabyte each."""

    def __init__(self, normaliser: Normaliser) -> None:
        """Take over the normaliser that makes them."""
        self._normaliser = normaliser
        self._known: dict[bytes, Normalised] = {}

    def normalise(self, faces: Sequence[AlignedFace]) -> Sequence[Normalised]:
        """Return one counterpart a face; those not yet known are made together."""
        keys = [_key(face) for face in faces]
        fresh = {
            key: face for key, face in zip(keys, faces, strict=True) if key not in self._known
        }  # the same face twice is one
        if fresh:
            made = self._normaliser.normalise(list(fresh.values()))
            self._known.update(zip(fresh, made, strict=True))
        return [self._known[key] for key in keys]

    def forget(self) -> None:
        """Let go of all of them."""
        self._known.clear()


def _key(face: AlignedFace) -> bytes:
    """Of all a normaliser sees: the photograph, where its face is, and what was replaced before it."""
    digest = hashlib.sha256(face.photograph.pixel_sha256.encode())
    for values in (face.matrix, face.landmarks, face.rgb, face.inside):
        digest.update(values.tobytes())
    return digest.digest()
