"""Filling a mask: the face's other side where that is known, the student's picture elsewhere, no seam.

The filling keeps its gradients and meets the patient's own pixels at the mask's edge: the Poisson
equation with the edge as its boundary (Pérez et al. 2003). Pixels outside the mask never change.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

_FEATHER = 2.0  # pixels over which one source gives way to the other


def composed(
    mirrored: NDArray[np.uint8], known: NDArray[np.bool_], painted: NDArray[np.float32]
) -> NDArray[np.float32]:
    """One picture to fill from.

    Args:
        mirrored: (S, S, 3) uint8, sRGB: the mirror image in register with the face.
        known: (S, S) bool: where it shows what was not itself masked.
        painted: (S, S, 3) float32, 0..255: for the rest.

    Returns:
        (S, S, 3) float32, 0..255.
    """
    share = cv2.GaussianBlur(cv2.erode(known.astype(np.float32), np.ones((3, 3))), (0, 0), _FEATHER)
    share = np.where(known, share, 0)[..., None]
    return np.asarray(share * mirrored + (1 - share) * painted, np.float32)


def blended(
    rgb: NDArray[np.uint8], filling: NDArray[np.float32], mask: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Put a filling into a mask without a seam.

    Args:
        rgb: (S, S, 3) uint8, sRGB: the face.
        filling: (S, S, 3) float32, 0..255, in register with it.
        mask: (S, S) bool: what is replaced. Where it touches the border of the square there is no
            pixel to meet.

    Returns:
        (S, S, 3) uint8, sRGB; outside the mask the face, unchanged.
    """
    if not mask.any():
        return rgb.copy()
    if mask.all():
        return np.asarray(np.clip(np.rint(filling), 0, 255), np.uint8)
    offset = _membrane(rgb.astype(np.float64) - filling, mask)
    out = rgb.copy()
    out[mask] = np.clip(np.rint(filling[mask] + offset), 0, 255).astype(np.uint8)
    return out


def _membrane(edge: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Harmonic interpolation of values around a mask into it, (masked pixels, 3) float64."""
    rows, columns = np.nonzero(mask)
    number = np.full(mask.shape, -1)
    number[rows, columns] = np.arange(len(rows))
    degree = np.zeros(len(rows))
    right = np.zeros((len(rows), edge.shape[2]))
    links: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
    for down, across in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        y, x = rows + down, columns + across
        there = (y >= 0) & (y < mask.shape[0]) & (x >= 0) & (x < mask.shape[1])
        degree += there
        own, other = np.nonzero(there)[0], number[y[there], x[there]]
        inner = other >= 0
        links.append((own[inner], np.asarray(other[inner])))
        np.add.at(right, own[~inner], edge[y[there][~inner], x[there][~inner]])
    one, two = (np.concatenate(ends) for ends in zip(*links, strict=True))
    shape = (len(rows), len(rows))
    laplacian = sparse.diags(degree) - sparse.coo_matrix((np.ones(len(one)), (one, two)), shape=shape)
    found: NDArray[np.float64] = splu(laplacian.tocsc()).solve(right)
    return found
