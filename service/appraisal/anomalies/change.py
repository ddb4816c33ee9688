"""A synthetic change of a face, and its rendering with exact ground truth."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

MASK_FRACTION = 0.2  # a pixel is changed when moved by more than this part of the largest move


@dataclass(frozen=True, kw_only=True)
class Paint:
    """Colour laid over the (already displaced) face."""

    alpha: Field  # (H, W) float32, 0 keeps the face, 1 replaces it
    colour: Field  # (H, W, 3) float32, sRGB, 0..255


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is done to a face: ``out(x) = paint(face(x + displacement(x)))``."""

    kind: str  # name of the anomaly type
    severity: float  # 0..1, in units of the type's scale
    magnitude: float  # displacement, or diameter of the painted area, over inter-ocular distance
    displacement: Field | None  # (H, W, 2) float32, pixels, (dx, dy), backward
    paint: Paint | None = field(default=None)


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A rendered change with its ground truth, all in output pixels."""

    image: Image  # (H, W, 3) uint8
    unpainted: Image  # (H, W, 3) uint8, displaced but without the paint
    displacement: Field  # (H, W, 2) float32, pixels, backward; zero for a sham
    alpha: Field  # (H, W) float32, 0..1, painted opacity; zero for a sham
    mask: Mask  # (H, W) bool, True where the face was changed


def minimum_jacobian(displacement: Field) -> float:
    """Smallest Jacobian determinant of ``x + displacement(x)``; positive means no fold.

    Args:
        displacement: (H, W, 2) float32, pixels, (dx, dy).
    """
    dx_dy, dx_dx = np.gradient(displacement[..., 0])
    dy_dy, dy_dx = np.gradient(displacement[..., 1])
    return float(((1 + dx_dx) * (1 + dy_dy) - dx_dy * dy_dx).min())


def change_mask(displacement: Field, alpha: Field) -> Mask:
    """Where a face was changed: moved visibly, or painted.

    Args:
        displacement: (H, W, 2) float32, pixels.
        alpha: (H, W) float32, 0..1.

    Returns:
        (H, W) bool.
    """
    moved = cv2.magnitude(displacement[..., 0], displacement[..., 1])
    largest = float(moved.max())
    return np.asarray((moved > max(MASK_FRACTION * largest, 0.25)) | (alpha > MASK_FRACTION), np.bool_)


def render(
    face: Image, change: Change | None, placement: Field | None = None, size: int | None = None
) -> Rendered:
    """Apply a change to a face in one resampling; without a change, make its sham control.

    The sham control passes through the same single cubic resampling under the same placement, so
    that interpolation tells nothing about the presence of an anomaly.

    Args:
        face: (H, W, 3) uint8, sRGB.
        change: what to do, or None for the sham control.
        placement: (2, 3) float32, output pixel -> face pixel; None for the identity.
        size: side of the output, pixels; None for the face's own rows and columns.

    Returns:
        The image and its exact ground truth, in output pixels.
    """
    height, width = face.shape[:2] if size is None else (size, size)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    source = np.stack([columns, rows], axis=-1)
    if placement is not None:
        source = source @ placement[:, :2].T + placement[:, 2]
    moved = np.zeros((height, width, 2), np.float32)
    alpha = np.zeros((height, width), np.float32)
    if change is not None and change.displacement is not None:
        moved = _placed(change.displacement, placement, (width, height))
        source = source + moved
    unpainted = cv2.remap(
        face,
        np.ascontiguousarray(source[..., 0], np.float32),
        np.ascontiguousarray(source[..., 1], np.float32),
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    image = unpainted
    if change is not None and change.paint is not None:
        alpha = _placed(change.paint.alpha, placement, (width, height))
        colour = _placed(change.paint.colour, placement, (width, height))
        mixed = unpainted + alpha[..., None] * (colour - unpainted)
        image = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    if placement is not None:
        moved = moved @ np.linalg.inv(placement[:, :2]).T.astype(np.float32)
    moved = np.asarray(moved, np.float32)
    return Rendered(
        image=np.asarray(image, np.uint8),
        unpainted=np.asarray(unpainted, np.uint8),
        displacement=moved,
        alpha=alpha,
        mask=change_mask(moved, alpha),
    )


def _placed(plane: Field, placement: Field | None, size: tuple[int, int]) -> Field:
    """Resample a ground-truth plane to output pixels; size is (columns, rows)."""
    if placement is None:
        return plane
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(plane, placement, size, flags=flags), np.float32)


def forward_points(points: Field, displacement: Field, iterations: int = 8) -> Field:
    """Where points of the face lie after a backward displacement (fixed point ``q + u(q) = p``).

    Args:
        points: (N, 2) float32, pixels of the unchanged face.
        displacement: (H, W, 2) float32, pixels, backward.
        iterations: of the fixed point.

    Returns:
        (N, 2) float32, pixels of the changed face.
    """
    moved = points.astype(np.float32)
    for _ in range(iterations):
        at = moved[None]
        step = cv2.remap(
            displacement,
            np.ascontiguousarray(at[..., 0]),
            np.ascontiguousarray(at[..., 1]),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )[0]
        moved = points - step
    return np.asarray(moved, np.float32)


def undoing_displacement(displacement: Field, iterations: int = 3) -> Field:
    """The displacement that undoes another: ``face(y) = out(y + v(y))``.

    Args:
        displacement: (H, W, 2) float32, pixels, backward.
        iterations: of the fixed point.

    Returns:
        (H, W, 2) float32, pixels, backward.
    """
    height, width = displacement.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    undo = -displacement
    for _ in range(iterations):
        moved = cv2.remap(
            displacement,
            columns + undo[..., 0],
            rows + undo[..., 1],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        undo = -np.asarray(moved, np.float32)
    return np.asarray(undo, np.float32)
