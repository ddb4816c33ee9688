"""The default method's normaliser; see service/appraisal/methods/localised/counterpart/drawing.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from service.appraisal.face.alignment import AlignedFace
from service.appraisal.methods.localised.counterpart.drawing import Counterpart, ExpectedFace, Move
from service.appraisal.methods.localised.counterpart.frame import SIDE
from service.appraisal.methods.localised.reading import NetworkReader, Restored
from service.appraisal.tables import Normalised

_LEAST_WORDS: Final = (
    0.01  # inter-ocular distances under which a unit lies where it should and is of another shape
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn(Restored):
    """A normal counterpart with what was changed to draw it."""

    drawing: Counterpart  # in a square of SIDE pixels


class CounterpartNormaliser:
    """Draws faces as their other parts let one expect them."""

    def __init__(self, reader: NetworkReader, expected: ExpectedFace) -> None:
        self._reader = reader
        self._expected = expected

    def normalise(self, faces: Sequence[AlignedFace]) -> Sequence[Normalised]:
        """Return the counterparts, each with the reading it was made from and what it says of itself."""
        drawn = []
        for face, reading in zip(faces, self._reader.read(faces), strict=True):
            drawing = self._expected.draw(face, reading)
            drawn.append(
                Drawn(
                    rgb=_of_size(face, drawing),
                    valid=face.inside,
                    notes=notes_of(drawing),
                    refusal=drawing.refusal,
                    reading=reading,
                    drawing=drawing,
                )
            )
        return drawn


def notes_of(drawing: Counterpart) -> tuple[str, ...]:
    """What was changed to draw a counterpart, in words; nothing where nothing was."""
    if drawing.refusal:
        return (f"no normal counterpart is drawn: {drawing.refusal}",)
    notes = tuple(_words(move) for move in drawing.moves)
    if drawing.painted:
        notes += (
            f"normal counterpart: {drawing.painted:.1%} of the face has a colour of its own and was filled",
        )
    return notes


def _words(move: Move) -> str:
    name = move.unit.name
    away = float(np.hypot(move.across, move.down))
    if away < _LEAST_WORDS:
        return f"normal counterpart: {name} is of another shape than the rest of the face lets one expect"
    if abs(move.down) >= abs(move.across):
        where = "lower" if move.down < 0 else "higher"
    else:
        where = "farther to the patient's right" if move.across > 0 else "farther to the patient's left"
    return (
        f"normal counterpart: {name} lies {away:.2f} of the distance between the pupils {where} "
        "than the rest of the face lets one expect"
    )


def _of_size(face: AlignedFace, drawing: Counterpart) -> NDArray[np.uint8]:
    """The counterpart in the face's own square; what was not changed is the face's own."""
    if face.size == SIDE:
        return drawing.rgb
    if not drawing.moves and not drawing.painted:
        return face.rgb
    way = cv2.INTER_CUBIC if face.size > SIDE else cv2.INTER_AREA
    return np.asarray(cv2.resize(drawing.rgb, (face.size, face.size), interpolation=way), np.uint8)
