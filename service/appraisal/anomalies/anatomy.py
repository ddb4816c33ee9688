"""Indices of the 478-point MediaPipe face mesh, and measures of the face taken from it.

Source of the numbering: MediaPipe ``face_mesh_connections.py`` and the canonical face model.
"Image left" is the patient's right.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float32]

UPPER_LIP_OUTER: Final = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
LOWER_LIP_OUTER: Final = (291, 375, 321, 405, 314, 17, 84, 181, 91, 146, 61)
UPPER_LIP_INNER: Final = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_LIP_INNER: Final = (308, 324, 318, 402, 317, 14, 87, 178, 88, 95, 78)
LIPS: Final = tuple(sorted({*UPPER_LIP_OUTER, *LOWER_LIP_OUTER, *UPPER_LIP_INNER, *LOWER_LIP_INNER}))
CUPIDS_BOW: Final = (37, 0, 267)  # image-left peak, trough, image-right peak
COMMISSURES: Final = (61, 291)  # image left, image right
UPPER_LIDS: Final = ((246, 161, 160, 159, 158, 157, 173), (398, 384, 385, 386, 387, 388, 466))
LOWER_LIDS: Final = ((7, 163, 144, 145, 153, 154, 155), (382, 381, 380, 374, 373, 390, 249))
EYE_CORNERS: Final = ((33, 133), (362, 263))  # (image-left, image-right corner) of each eye
BROWS: Final = ((70, 63, 105, 66, 107), (336, 296, 334, 293, 300))
NOSE: Final = (1, 2, 4, 5, 6, 19, 48, 64, 94, 97, 98, 115, 129, 195, 197, 220, 240, 278, 294)
NOSE_BASE: Final = (129, 98, 97, 2, 326, 327, 358)
CHIN: Final = 152
JAW: Final = (234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379)
JAW_RIGHT: Final = (365, 397, 288, 361, 323, 454)
OVAL: Final = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
CHEEKS: Final = ((50, 101, 205, 187, 147), (280, 330, 425, 411, 376))

# Mesh points whose mean lies where points 48..67 (the mouth) of the 68-point scheme of dlib lie (paper
# 001, 4.2). Measured against dlib's own predictor on 60 normal faces: mean offset .010 of the
# inter-ocular distance; the nearest single points are .018 away.
DLIB_MOUTH: Final[tuple[tuple[int, ...], ...]] = (
    *((61,), (39, 40), (37,), (0,), (267,), (269, 270), (291,)),
    *((321, 405), (314,), (17,), (84,), (91, 181)),
    *((78,), (82,), (13,), (312,), (308,), (317,), (14,), (87,)),
)
IRISES: Final = (468, 473)  # image left, image right
IRIS_RINGS: Final = ((469, 470, 471, 472), (474, 475, 476, 477))


def dlib_mouth(landmarks: Points) -> Points:
    """Points 48..67 of dlib's scheme, (20, 2) float32, pixels.

    Args:
        landmarks: (478, 2) float32, pixels.
    """
    means = [landmarks[list(points)].mean(axis=0) for points in DLIB_MOUTH]
    return np.asarray(np.stack(means), np.float32)


def eye_centres(landmarks: Points) -> Points:
    """Centres of the image-left and image-right eye.

    Args:
        landmarks: (478, 2) float32, pixels.

    Returns:
        (2, 2) float32, pixels.
    """
    return np.stack([landmarks[list(pair)].mean(axis=0) for pair in EYE_CORNERS])


def inter_ocular_distance(landmarks: Points) -> float:
    """Distance of the eye centres in pixels; the unit of every severity."""
    left, right = eye_centres(landmarks)
    return float(np.hypot(*(right - left)))


def midline(landmarks: Points) -> tuple[Points, Points]:
    """The facial midline: a point on it and its unit direction, downwards."""
    top = landmarks[[10, 151, 9, 8, 168, 6]].mean(axis=0)
    left, right = eye_centres(landmarks)
    across = (right - left) / max(float(np.hypot(*(right - left))), 1e-6)
    down = np.array([-across[1], across[0]], np.float32)
    return top.astype(np.float32), down
