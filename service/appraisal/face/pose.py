"""Head pose from the face mesh: rigid fit to a mean face.

The mean face is the symmetrised Procrustes mean of the mesh over 600 frontal faces of the
training material, of points on bone rather than on lips, lids or jaw, so that a facial
difference of the soft parts hardly moves the pose. It is turned so that their median pitch is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MEAN_FACE = (  # mesh index, x to the picture's right, y down, z away from the camera; eye corners 1 apart
    (33, -0.5000, -0.0273, -0.0091),
    (263, 0.5000, -0.0273, -0.0091),
    (133, -0.1941, -0.0026, -0.0688),
    (362, 0.1941, -0.0026, -0.0688),
    (234, -0.7725, 0.1662, 0.6119),
    (454, 0.7725, 0.1662, 0.6119),
    (127, -0.7777, 0.0086, 0.5524),
    (356, 0.7777, 0.0086, 0.5524),
    (129, -0.2433, 0.3863, -0.1646),
    (358, 0.2433, 0.3863, -0.1646),
    (70, -0.6418, -0.1872, -0.0087),
    (300, 0.6418, -0.1872, -0.0087),
    (107, -0.1652, -0.2461, -0.2804),
    (336, 0.1652, -0.2461, -0.2804),
    (93, -0.7622, 0.3272, 0.6255),
    (323, 0.7622, 0.3272, 0.6255),
    (162, -0.7645, -0.1556, 0.4289),
    (389, 0.7645, -0.1556, 0.4289),
    (10, 0.0000, -0.6053, -0.2335),
    (151, 0.0000, -0.4287, -0.2676),
    (9, 0.0000, -0.2422, -0.2881),
    (8, 0.0000, -0.1476, -0.2680),
    (168, 0.0000, -0.0629, -0.2604),
    (6, 0.0000, 0.0267, -0.3055),
    (197, 0.0000, 0.1085, -0.3587),
    (195, 0.0000, 0.1841, -0.4162),
    (5, 0.0000, 0.2653, -0.4761),
    (4, 0.0000, 0.3632, -0.5000),
)


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Head pose in degrees."""

    yaw_deg: float  # positive: to the patient's left
    pitch_deg: float  # positive: up
    roll_deg: float  # positive: anticlockwise in the picture


def estimate_pose(mesh: NDArray[np.float64]) -> Pose:
    """Estimate the pose by a rigid fit with scale (Kabsch 1976, Umeyama 1991).

    Args:
        mesh: (478, 3) float64, x right, y down, z away from the camera, all in pixels.
    """
    mean_face = np.array([row[1:] for row in _MEAN_FACE])
    points = mesh[[int(row[0]) for row in _MEAN_FACE]]
    covariance = (mean_face - mean_face.mean(0)).T @ (points - points.mean(0))
    left, _, right = np.linalg.svd(covariance)
    handedness = np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = (left @ handedness @ right).T
    return Pose(
        yaw_deg=float(np.degrees(np.arctan2(-rotation[0, 2], rotation[2, 2]))),
        pitch_deg=float(np.degrees(np.arcsin(np.clip(rotation[1, 2], -1.0, 1.0)))),
        roll_deg=float(np.degrees(np.arctan2(-rotation[1, 0], rotation[0, 0]))),
    )
