"""A drawn face with a plausible mesh, so that tests need no photograph of anybody."""

from __future__ import annotations

import cv2
import numpy as np

from service.appraisal.anomalies import anatomy
from service.appraisal.anomalies.fields import Canvas


def _ellipse(indices, centre, radius, start, stop, mesh):  # noqa: PLR0917
    for index, angle in zip(indices, np.linspace(start, stop, len(indices)), strict=True):
        mesh[index] = centre + radius * np.array([np.cos(angle), np.sin(angle)])


def drawn_mesh(size: int = 256) -> np.ndarray:
    """(478, 2) float32 landmarks of an upright face in a square of the given side."""
    rng = np.random.default_rng(3)
    mesh = np.array([0.5, 0.55]) + rng.uniform(-0.2, 0.2, (478, 2)) * [1, 1.2]
    pi = np.pi
    _ellipse(anatomy.OVAL, np.array([0.5, 0.54]), np.array([0.36, 0.44]), -pi / 2, 1.5 * pi - 0.17, mesh)
    _ellipse(anatomy.UPPER_LIP_OUTER, np.array([0.5, 0.745]), np.array([0.12, 0.045]), -pi, 0, mesh)
    _ellipse(anatomy.UPPER_LIP_INNER, np.array([0.5, 0.745]), np.array([0.1, 0.01]), -pi, 0, mesh)
    _ellipse(anatomy.LOWER_LIP_OUTER, np.array([0.5, 0.745]), np.array([0.12, 0.06]), 0, pi, mesh)
    _ellipse(anatomy.LOWER_LIP_INNER, np.array([0.5, 0.745]), np.array([0.1, 0.01]), 0, pi, mesh)
    for side, x in enumerate((0.32, 0.68)):
        eye = np.array([x, 0.38])
        _ellipse(anatomy.UPPER_LIDS[side], eye, np.array([0.06, 0.025]), -pi + 0.3, -0.3, mesh)
        _ellipse(anatomy.LOWER_LIDS[side], eye, np.array([0.06, 0.02]), 0.3, pi - 0.3, mesh)
        inner = 1 if side == 0 else -1
        mesh[anatomy.EYE_CORNERS[side][0]] = eye - [0.065 * inner, 0]
        mesh[anatomy.EYE_CORNERS[side][1]] = eye - [-0.065 * inner, 0]
        mesh[anatomy.IRISES[side]] = eye
        _ellipse(anatomy.IRIS_RINGS[side], eye, np.array([0.024, 0.024]), 0, 1.5 * pi, mesh)
        _ellipse(anatomy.BROWS[side], eye - [0, 0.07], np.array([0.09, 0.03]), -pi + 0.3, -0.3, mesh)
    _ellipse(anatomy.NOSE_BASE, np.array([0.5, 0.6]), np.array([0.07, 0.03]), pi, 0, mesh)
    mesh[list(anatomy.CHEEKS[0])] = np.array([0.3, 0.6]) + rng.uniform(-0.04, 0.04, (5, 2))
    mesh[list(anatomy.CHEEKS[1])] = np.array([0.7, 0.6]) + rng.uniform(-0.04, 0.04, (5, 2))
    for index, y in zip((10, 151, 9, 8, 168, 6), (0.1, 0.2, 0.3, 0.33, 0.36, 0.4), strict=True):
        mesh[index] = (0.5, y)
    return (mesh * size).astype(np.float32)


def drawn_face(size: int = 256) -> Canvas:
    """Skin, lips, eyes and a little texture under that mesh."""
    mesh = drawn_mesh(size)
    image = np.full((size, size, 3), (70, 90, 110), np.uint8)
    rng = np.random.default_rng(4)

    def fill(indices, colour):
        cv2.fillPoly(image, [np.rint(mesh[list(indices)]).astype(np.int32)], colour)

    fill(anatomy.OVAL, (205, 160, 140))
    fill((*anatomy.UPPER_LIP_OUTER, *anatomy.LOWER_LIP_OUTER), (170, 80, 80))
    for side in range(2):
        fill((*anatomy.UPPER_LIDS[side], *anatomy.LOWER_LIDS[side]), (240, 240, 240))
        cv2.polylines(
            image, [np.rint(mesh[list(anatomy.BROWS[side])]).astype(np.int32)], False, (60, 40, 30), 4
        )
    grain = cv2.GaussianBlur(rng.normal(0, 12, image.shape).astype(np.float32), (0, 0), 1.2)
    image = np.clip(image + grain, 0, 255).astype(np.uint8)
    return Canvas(image=image, landmarks=mesh, unit=anatomy.inter_ocular_distance(mesh))
