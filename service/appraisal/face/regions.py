"""Masks of the face's regions, drawn from the mesh; left and right are the patient's.

Each region is a polygon of mesh points; what lies outside the face oval belongs to none.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from service.records import Region

FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip

_RIGHT_EYE = (70, 63, 105, 66, 107, 55, 193, 245, 188, 128, 121, 120, 119, 118, 117, 111, 35, 124, 156)
_LEFT_EYE = (300, 293, 334, 296, 336, 285, 417, 465, 412, 357, 350, 349, 348, 347, 346, 340, 265, 353, 383)
_NOSE = (
    8, 417, 465, 412, 399, 420, 429, 358, 327, 326, 2, 97, 98, 129, 209, 198, 174, 188, 245, 193,
)  # fmt: skip
_UPPER_LIP = (
    61, 92, 165, 98, 97, 2, 326, 327, 391, 322, 291, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191, 78,
)  # fmt: skip
_LOWER_LIP = (
    61, 78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 291, 375, 321, 406, 313, 18, 83, 182, 91, 146,
)  # fmt: skip
_ORONASAL = (
    196, 6, 419, 456, 420, 429, 358, 423, 426, 436, 432, 422, 424, 418, 421, 200, 201, 194, 204, 202, 212,
    216, 206, 203, 129, 209, 198, 236,
)  # fmt: skip
_RIGHT_CHEEK = (
    234,
    117,
    118,
    119,
    120,
    114,
    198,
    209,
    129,
    203,
    206,
    216,
    61,
    212,
    214,
    136,
    172,
    58,
    132,
    93,
)
_LEFT_CHEEK = (
    454, 346, 347, 348, 349, 343, 420, 429, 358, 423, 426, 436, 291, 432, 434, 365, 397, 288, 361, 323,
)  # fmt: skip
_CHIN = (
    212, 91, 182, 83, 18, 313, 406, 321, 432, 434, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136, 214,
)  # fmt: skip
_FOREHEAD = (
    127, 162, 21, 54, 103, 67, 109, 10, 338, 297, 332, 284, 251, 389, 356, 300, 293, 334, 296, 336, 8,
    107, 66, 105, 63, 70,
)  # fmt: skip

_POLYGONS: Mapping[Region, tuple[int, ...]] = {
    Region.FACE: FACE_OVAL,
    Region.LEFT_EYE: _LEFT_EYE,
    Region.RIGHT_EYE: _RIGHT_EYE,
    Region.NOSE: _NOSE,
    Region.UPPER_LIP: _UPPER_LIP,
    Region.LOWER_LIP: _LOWER_LIP,
    Region.ORONASAL: _ORONASAL,
    Region.LEFT_CHEEK: _LEFT_CHEEK,
    Region.RIGHT_CHEEK: _RIGHT_CHEEK,
    Region.CHIN: _CHIN,
    Region.FOREHEAD: _FOREHEAD,
}


def face_mask(landmarks: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Mask of the face oval.

    Args:
        landmarks: (478, 2) float64, pixels.
        shape: Rows and columns of the mask.

    Returns:
        (H, W) bool.
    """
    return _polygon_mask(landmarks, FACE_OVAL, shape)


def region_masks(
    landmarks: NDArray[np.float64], shape: tuple[int, int]
) -> Mapping[Region, NDArray[np.bool_]]:
    """Mask of every region.

    Args:
        landmarks: (478, 2) float64, pixels.
        shape: Rows and columns of the masks.

    Returns:
        Region -> (H, W) bool, each within the face oval.
    """
    oval = face_mask(landmarks, shape)
    return {region: _polygon_mask(landmarks, points, shape) & oval for region, points in _POLYGONS.items()}


def _polygon_mask(
    landmarks: NDArray[np.float64], points: tuple[int, ...], shape: tuple[int, int]
) -> NDArray[np.bool_]:
    plane = np.zeros(shape, dtype=np.uint8)
    corners = np.rint(landmarks[list(points)] * 16).astype(np.int32)
    cv2.fillPoly(plane, [corners], (1.0,), shift=4)
    return plane.astype(bool)
