"""How pixels are laid out before they are looked at, as a viewer does: turned, mirrored, of square pixels.

What the data set says counts: Patient Orientation (PS3.3 section C.7.6.1.1.1), Pixel Aspect Ratio and the
spacings (C.7.6.3.1.7). Where it is silent, the JPEG stream's own EXIF orientation does (EXIF 2.32, tag 274),
which img2dcm and many cameras leave there alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from service.appraisal.photograph.stream import StreamInfo
from service.dicom.numbers import numbers_of
from service.dicom.part10 import READ_ERRORS

_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_LARGEST_RATIO = 8.0  # of a pixel's sides; more is a mistake
_SQUARE = 0.005  # a ratio this near to 1 is 1


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One of the eight ways to lay a picture: rows and columns exchanged first, then the flips."""

    transposed: bool = False
    upside_down: bool = False  # rows in reverse order
    mirrored: bool = False  # columns in reverse order

    def apply(self, pixels: NDArray[np.generic]) -> NDArray[np.generic]:
        """Lay a picture, (H, W) or (H, W, C)."""
        made = pixels.swapaxes(0, 1) if self.transposed else pixels
        made = made[::-1] if self.upside_down else made
        return made[:, ::-1] if self.mirrored else made


UPRIGHT = Turn()
_OF_EXIF = {
    1: UPRIGHT,
    2: Turn(mirrored=True),
    3: Turn(upside_down=True, mirrored=True),
    4: Turn(upside_down=True),
    5: Turn(transposed=True),
    6: Turn(transposed=True, mirrored=True),
    7: Turn(transposed=True, upside_down=True, mirrored=True),
    8: Turn(transposed=True, upside_down=True),
}


# By the first letters along a row and along a column.
_OF_PATIENT = {
    "LF": UPRIGHT,
    "RF": Turn(mirrored=True),
    "LH": Turn(upside_down=True),
    "RH": Turn(upside_down=True, mirrored=True),
    "FL": Turn(transposed=True),
    "FR": Turn(transposed=True, mirrored=True),
    "HL": Turn(transposed=True, upside_down=True),
    "HR": Turn(transposed=True, upside_down=True, mirrored=True),
    # A profile may look either way: it is turned, never mirrored.
    **dict.fromkeys(("AF", "PF"), UPRIGHT),
    **dict.fromkeys(("AH", "PH"), Turn(upside_down=True, mirrored=True)),
    **dict.fromkeys(("FA", "FP"), Turn(transposed=True, mirrored=True)),
    **dict.fromkeys(("HA", "HP"), Turn(transposed=True, upside_down=True)),
}


@dataclass(frozen=True, kw_only=True)
class Showing:
    """What is done to the pixels of one photograph."""

    turns: tuple[Turn, ...] = ()  # one after the other
    pixel_ratio: float = 1.0  # height of a pixel as stored over its width
    notes: tuple[str, ...] = ()  # what was done, and what was not usable

    def apply(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Lay out a picture.

        Args:
            rgb: (H, W, 3) uint8, as stored.

        Returns:
            (H', W', 3) uint8, upright, of square pixels; never smaller.
        """
        made: NDArray[np.generic] = rgb
        if self.pixel_ratio != 1.0:
            height, width = self.size(*rgb.shape[:2], turned=False)
            made = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_CUBIC)
        for turn in self.turns:
            made = turn.apply(made)
        return np.ascontiguousarray(made, dtype=np.uint8)

    def size(self, rows: int, columns: int, *, turned: bool = True) -> tuple[int, int]:
        """Rows and columns of what a picture of so many is laid out to."""
        if self.pixel_ratio > 1.0:
            rows = round(rows * self.pixel_ratio)
        elif self.pixel_ratio < 1.0:
            columns = round(columns / self.pixel_ratio)
        is_transposed = turned and sum(turn.transposed for turn in self.turns) % 2 == 1
        return (columns, rows) if is_transposed else (rows, columns)


def exif_turn(orientation: int) -> Turn:
    """The turn an EXIF orientation asks for; none for what is none."""
    return _OF_EXIF.get(orientation, UPRIGHT)


def showing_of(dataset: Dataset, stream: StreamInfo | None) -> Showing:
    """What is done to the pixels of a data set.

    Args:
        dataset: Of the photograph; its Rows and Columns may be those of the picture as EXIF turns it.
        stream: What its JPEG stream says of itself; None for other pixels.
    """
    turns: list[Turn] = []
    notes: list[str] = []
    exif = exif_turn(stream.orientation) if stream is not None else UPRIGHT
    if stream is not None and _is_exchanged(dataset, stream):
        # the sender wrote the data set for the picture as EXIF turns it
        turns.append(exif if exif.transposed else UPRIGHT)
        notes.append("Rows and Columns are exchanged in the data set")
        exif = UPRIGHT if exif.transposed else exif
    named = _text_values(dataset, "PatientOrientation")
    own = _orientation_turn(named)
    if own is not None:
        turns.append(own)
        if own != UPRIGHT:
            notes.append(f"laid out by Patient Orientation {chr(92).join(named)}")
    else:
        if any(named):
            notes.append("Patient Orientation is not usable")
        turns.append(exif)
        if exif != UPRIGHT:
            notes.append("laid out by the EXIF orientation in the JPEG stream")
    ratio = _pixel_ratio(dataset)
    if ratio != 1.0:
        notes.append(f"pixels are not square: {ratio:.3f} times as high as wide")
    return Showing(
        turns=tuple(turn for turn in turns if turn != UPRIGHT), pixel_ratio=ratio, notes=tuple(notes)
    )


def _is_exchanged(dataset: Dataset, stream: StreamInfo) -> bool:
    size = int(dataset.Rows), int(dataset.Columns)
    return size != (stream.rows, stream.columns) and size == (stream.columns, stream.rows)


def _orientation_turn(values: tuple[str, ...]) -> Turn | None:
    """The turn that puts the patient's left at the right, and the feet below; None where nothing says."""
    if len(values) != 2 or not all(values):
        return None
    return _OF_PATIENT.get("".join(value[0] for value in values))


def _pixel_ratio(dataset: Dataset) -> float:
    """Height of a pixel over its width: of the first attribute that says it; 1 where none does usably."""
    for keyword in ("PixelAspectRatio", *_SPACINGS):
        values = numbers_of(dataset, keyword)
        if len(values) == 2 and min(values) > 0:
            ratio = values[0] / values[1]
            usable = 1 / _LARGEST_RATIO <= ratio <= _LARGEST_RATIO
            return ratio if usable and abs(ratio - 1.0) > _SQUARE else 1.0
    return 1.0


def _text_values(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    try:
        value = dataset.get(keyword)
    except READ_ERRORS:
        return ("?",)
    if value is None or value == "":
        return ()
    values = [value] if isinstance(value, str) else list(value)
    return tuple(str(each).strip(" \0").upper() for each in values)
