"""Skin tone of a photograph, measured on the cheeks.

The individual typology angle ITA = atan2(L* - 50, b*) of CIELAB, and its six classes (Chardon et al.
1991, Int J Cosmet Sci 13:191; Del Bino and Bernerd 2013, Br J Dermatol 169:33). From a photograph
without a colour chart it carries the camera's white balance and exposure; it is for comparing groups
of photographs, never a property of a person.
"""

from __future__ import annotations

from enum import StrEnum

import cv2
import numpy as np

from service.appraisal.face.alignment import AlignedFace
from service.appraisal.face.regions import region_masks
from service.records import Region

_FEWEST_PIXELS = 50
_CHEEKS = (Region.LEFT_CHEEK, Region.RIGHT_CHEEK)


class SkinTone(StrEnum):
    """Classes of the individual typology angle."""

    VERY_LIGHT = "very light"  # over 55 degrees
    LIGHT = "light"  # over 41
    INTERMEDIATE = "intermediate"  # over 28
    TAN = "tan"  # over 10
    BROWN = "brown"  # over -30
    DARK = "dark"


_OVER = (
    (55.0, SkinTone.VERY_LIGHT),
    (41.0, SkinTone.LIGHT),
    (28.0, SkinTone.INTERMEDIATE),
    (10.0, SkinTone.TAN),
    (-30.0, SkinTone.BROWN),
)


def typology_angle(face: AlignedFace) -> float | None:
    """ITA in degrees of the median colour of both cheeks; None when too little of them is seen.

    The cheek darker by shade counts as much as the other: light from one side evens out.
    """
    masks = region_masks(face.landmarks, (face.size, face.size))
    lab = cv2.cvtColor(face.rgb.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2LAB)
    kernel = np.ones((5, 5), np.uint8)
    colours = []
    for cheek in _CHEEKS:
        core = cv2.erode(masks[cheek].astype(np.uint8), kernel).astype(bool) & face.inside
        if core.sum() < _FEWEST_PIXELS:
            return None
        colours.append(np.median(lab[core], axis=0))
    lightness, _, yellow = np.mean(colours, axis=0)
    return float(np.degrees(np.arctan2(lightness - 50, yellow)))


def skin_tone(angle: float) -> SkinTone:
    """The class of an angle in degrees."""
    for least, tone in _OVER:
        if angle > least:
            return tone
    return SkinTone.DARK
