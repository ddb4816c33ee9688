"""Paper 002's normaliser: discrepancy -> mask -> inpainting, twice.

The first phase masks what the discrepancy student finds not normal and fills it. In what comes out
the second looks again, masks what the first left of it or made wrong, and fills both masks anew from
the photograph. Pixels of neither mask stay the patient's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from service.appraisal.face.alignment import AlignedFace
from service.appraisal.face.regions import face_mask
from service.appraisal.methods.symmetry.normaliser import facial_midline, reflect
from service.appraisal.tables import Normalised, Normaliser, NormaliserRow, Workplace

if TYPE_CHECKING:
    from service.appraisal.methods.two_phase.discrepancy import DiscrepancyReader, MaskSettings

MODEL = "discrepancy-face"
TEACHER = "squeezenet1_1-imagenet"
PHASES = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Inpainted(Normalised):
    """A face with what is not normal filled, and how it was found."""

    discrepancy: NDArray[
        np.float32
    ]  # (64, 64) float32: z-scores of the photograph, before anything was filled
    mask: NDArray[np.bool_]  # (S, S): what was filled


class TwoPhaseNormaliser:
    """See the module's text."""

    def __init__(
        self, reader: DiscrepancyReader, settings: MaskSettings | None = None, phases: int = PHASES
    ) -> None:
        """Take over a calibrated reader.

        Args:
            reader: of the discrepancy.
            settings: from z-scores to masks.
            phases: how often a face is masked and filled; the paper's two.
        """
        self._reader, self._settings, self._phases = reader, settings, phases

    def normalise(self, faces: Sequence[AlignedFace]) -> Sequence[Inpainted]:
        """Return the filled faces, each with its discrepancy and mask."""
        from service.appraisal.methods.two_phase.discrepancy import mask_of

        if not faces:
            return []
        pictures = [face.rgb for face in faces]
        ovals = [face_mask(face.landmarks, (face.size, face.size)) & face.inside for face in faces]
        masks = [np.zeros_like(oval) for oval in ovals]
        first = self._reader.z(pictures)
        z = first
        for phase in range(self._phases):
            if phase:
                z = self._reader.z(pictures)
            masks = [
                mask | mask_of(own, oval, self._settings)
                for mask, own, oval in zip(masks, z, ovals, strict=True)
            ]
            pictures = self._filled(faces, masks)
        return [
            Inpainted(rgb=picture, valid=face.inside, discrepancy=own, mask=mask)
            for picture, face, own, mask in zip(pictures, faces, first, masks, strict=True)
        ]

    def _filled(
        self, faces: Sequence[AlignedFace], masks: Sequence[NDArray[np.bool_]]
    ) -> list[NDArray[np.uint8]]:
        from service.appraisal.methods.two_phase.inpainting import blended, composed

        made = [face.rgb for face in faces]
        some = [index for index, mask in enumerate(masks) if mask.any()]
        if not some:
            return made
        painted = self._reader.painted([faces[i].rgb for i in some], [masks[i] for i in some])
        for index, own in zip(some, painted, strict=True):
            face, mask = faces[index], masks[index]
            mirror = reflect(face)
            known = mirror.valid & ~_reflected(mask, face)
            made[index] = blended(face.rgb, composed(mirror.rgb, known, own), mask)
        return made


def _reflected(mask: NDArray[np.bool_], face: AlignedFace) -> NDArray[np.bool_]:
    """A mask over the facial midline, (S, S) bool."""
    reflection = facial_midline(face.landmarks).reflection()
    turned = cv2.warpAffine(mask.astype(np.float32), reflection, mask.shape[::-1], flags=cv2.INTER_LINEAR)
    return np.asarray(turned > 0)


def _build(workplace: Workplace) -> Normaliser:
    from service.appraisal.methods.two_phase.discrepancy import DiscrepancyReader

    store = workplace.store
    return TwoPhaseNormaliser(
        DiscrepancyReader(store.tensors(TEACHER), store.tensors(MODEL), workplace.device)
    )


ROW = NormaliserRow(name="two-phase", version="1", models=(TEACHER, MODEL), build=_build)
