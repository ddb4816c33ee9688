"""Phase 1 of paper 002 by itself: how far a face is from what the student can give, place by place.

Does not look at the normal counterpart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from service.appraisal.face.alignment import AlignedFace
from service.appraisal.methods.two_phase.normaliser import MODEL, TEACHER, Inpainted
from service.appraisal.tables import Comparator, ComparatorRow, Normalised, Workplace

if TYPE_CHECKING:
    from service.appraisal.methods.two_phase.discrepancy import DiscrepancyReader

Z_CENTRE = 2.0  # standard deviations from which a pixel's excess counts in full


class DiscrepancyComparator:
    """Maps of z-scores, softly cut off below what is usual."""

    def __init__(self, reader: DiscrepancyReader) -> None:
        """Take over a calibrated reader."""
        self._reader = reader

    def compare(
        self, faces: Sequence[AlignedFace], normalised: Sequence[Normalised]
    ) -> Sequence[NDArray[np.float32]]:
        """Return one map a face: (S, S) float32, > 0."""
        from service.appraisal.methods.two_phase.discrepancy import smooth_map

        known = [other.discrepancy for other in normalised if isinstance(other, Inpainted)]
        z = known if len(known) == len(faces) else self._reader.z([face.rgb for face in faces])
        return [
            np.asarray(np.logaddexp(0, smooth_map(own, face.size) - Z_CENTRE), np.float32)
            for own, face in zip(z, faces, strict=True)
        ]


def _build(workplace: Workplace) -> Comparator:
    from service.appraisal.methods.two_phase.discrepancy import DiscrepancyReader

    store = workplace.store
    return DiscrepancyComparator(
        DiscrepancyReader(store.tensors(TEACHER), store.tensors(MODEL), workplace.device)
    )


ROW = ComparatorRow(name="discrepancy", version="1", models=(TEACHER, MODEL), build=_build)
