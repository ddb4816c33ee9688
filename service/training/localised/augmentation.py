"""What happens to any photograph and must not look anomalous: light, camera, compression, pose."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float32]


def placement(size: int, rng: np.random.Generator, strength: float = 1.0) -> Field:
    """A small random similarity about the centre, (2, 3) float32, output -> input pixel."""
    angle = np.deg2rad(rng.normal(0, 1.8 * strength))
    scale = np.exp(rng.normal(0, 0.02 * strength))
    shift = rng.normal(0, 0.008 * size * strength, 2)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = np.full(2, (size - 1) / 2)
    return np.hstack([turn, (centre - turn @ centre + shift)[:, None]]).astype(np.float32)


def light(image: Image, rng: np.random.Generator) -> Image:
    """Exposure, contrast, gamma, colour of the light, and a gradient across the face."""
    size = image.shape[0]
    out = image.astype(np.float32) / 255
    if rng.random() < 0.7:
        out = np.clip(out, 0, 1) ** np.float32(np.exp(rng.normal(0, 0.2)))
        out = (out - 0.5) * np.float32(np.exp(rng.normal(0, 0.12))) + 0.5
        out = out * np.exp(rng.normal(0, 0.06, 3)).astype(np.float32)
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * np.pi)
        axis = np.linspace(-1, 1, size, dtype=np.float32)
        ramp = np.cos(angle) * axis[None] + np.sin(angle) * axis[:, None]
        out = out * np.exp(np.float32(rng.normal(0, 0.2)) * ramp)[..., None]
    if rng.random() < 0.06:
        out = np.repeat(out.mean(axis=2, keepdims=True), 3, axis=2)
    return np.asarray(np.clip(np.rint(out * 255), 0, 255), np.uint8)


def camera(image: Image, rng: np.random.Generator) -> Image:
    """Blur, lost resolution, noise and JPEG compression."""
    size = image.shape[0]
    if rng.random() < 0.25:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.5))), np.uint8)
    if rng.random() < 0.25:
        less = int(size / rng.uniform(1.2, 2.6))
        small = cv2.resize(image, (less, less), interpolation=cv2.INTER_AREA)
        image = np.asarray(cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC), np.uint8)
    if rng.random() < 0.35:
        sigma = float(rng.uniform(1, 9))
        grain = rng.standard_normal(image.shape, dtype=np.float32) * sigma
        image = np.clip(image + grain, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        quality = int(rng.uniform(20, 95))
        _, packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        image = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return np.asarray(image, np.uint8)
