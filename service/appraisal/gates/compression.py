"""JPEG quality of a decoded picture, from the lattice its DCT coefficients lie on.

A decoded JPEG's block coefficients lie near multiples of the quantisation steps (Fan and de Queiroz
2003; Neelamani et al. 2006). For each quality of libjpeg's scaling of the luminance table of
ITU-T T.81 Annex K, the likelihood of the low-frequency coefficients is that of a quantised Laplacian
plus rounding noise; the likeliest quality is the estimate. It sees the last compression on the
picture's own 8 x 8 grid, wherever the grid starts; a picture that was resized afterwards has none. A picture
that a decoder reduced by leaving out the higher coefficients keeps the lattice of the lower ones, on blocks
of 4 or 2 pixels a side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

_LUMINANCE_TABLE = np.array(  # ITU-T T.81 Table K.1
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
_COEFFICIENTS = ((0, 1), (1, 0), (2, 0), (1, 1), (0, 2), (1, 2), (2, 1))
_BLOCKS = 256  # the most active ones of a picture
_FEWEST_BLOCKS = 24
_FLAT = 1.0  # variance of a block that lies on every lattice
_LEAST_SIDE = 24  # pixels; in less no grid can be found
_NOISE = 0.45  # of coefficients, from rounding to grey levels and back from colour
_STRAYS = 0.08  # share of coefficients on no lattice: clipping, overlays
_QUALITIES = np.arange(5, 101)


def quantisation_steps(quality: int) -> NDArray[np.int64]:
    """Luminance steps of a libjpeg quality of 1..100, (8, 8) int64."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((_LUMINANCE_TABLE * scale + 50) // 100, 1, 255).astype(np.int64)


_STEPS = np.stack([quantisation_steps(int(quality)) for quality in _QUALITIES])  # (96, 8, 8)


def estimate_jpeg_quality(luminance: NDArray[np.float64], block: int = 8) -> float | None:
    """Estimate the quality of the last JPEG compression.

    Args:
        luminance: (H, W) float64, 0..255, at the photograph's own resolution, or as a decoder reduced it.
        block: Pixels a side that JPEG's blocks have in it: 8, or 4 or 2 where it was reduced.

    Returns:
        5..100, above 90 where hardly any compression is visible; None where there are too few blocks to tell.
    """
    blocks = _blocks(luminance, block)
    if len(blocks) < _FEWEST_BLOCKS:
        return None
    larger = (
        8 / block
    )  # of the coefficients of whole blocks, and of what rounding to grey levels adds to them
    coefficients = larger * dctn(blocks - 128.0, axes=(1, 2), norm="ortho")
    total = np.zeros(len(_QUALITIES))
    for row, column in _COEFFICIENTS:
        if max(row, column) >= block:
            continue
        steps = _STEPS[:, row, column]
        distinct, which = np.unique(steps, return_inverse=True)
        found = _lattice_likelihoods(coefficients[:, row, column], distinct, larger * _NOISE)
        total += found[which]
    return float(_QUALITIES[int(total.argmax())])


def _blocks(luminance: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """The most active whole blocks of the grid, (N, side, side)."""
    # A picture that was reduced block by block has its grid at its own origin, as ``_native_face`` cuts it.
    top, left = grid_phase(luminance) if side == 8 else (0, 0)
    part = luminance[top:, left:]
    rows, columns = part.shape[0] // side, part.shape[1] // side
    if rows < 1 or columns < 1:
        return np.empty((0, side, side))
    whole = part[: side * rows, : side * columns].reshape(rows, side, columns, side).swapaxes(1, 2)
    whole = whole.reshape(-1, side, side)
    clipped = ((whole <= 1) | (whole >= 254)).any(axis=(1, 2))
    activity = whole.var(axis=(1, 2))
    order = np.argsort(activity)[::-1]
    return np.asarray(whole[order[(~clipped & (activity > _FLAT))[order]][:_BLOCKS]])


def grid_phase(luminance: NDArray[np.float64]) -> tuple[int, int]:
    """Row and column at which the 8 x 8 grid starts: where steps exceed their neighbours' most."""
    if min(luminance.shape) < _LEAST_SIDE:
        return 0, 0
    phases = []
    for axis in (0, 1):
        across = np.abs(np.diff(luminance, n=1, axis=axis))
        steps = across.mean(axis=1 - axis)
        middle = np.pad((steps[:-2] + steps[2:]) / 2, 1, mode="edge")
        excess = steps - middle
        means = [float(excess[phase::8].mean()) for phase in range(8)]
        phases.append((int(np.argmax(means)) + 1) % 8)
    return phases[0], phases[1]


def _lattice_likelihoods(
    values: NDArray[np.float64], steps: NDArray[np.int64], noise: float = _NOISE
) -> NDArray[np.float64]:
    """Log-likelihood of coefficients quantised with each step, under a Laplacian of their own spread.

    Args:
        values: (N,) float64.
        steps: (K,) int64.
        noise: Standard deviation of what rounding adds to a coefficient.

    Returns:
        (K,) float64.
    """
    spread = max(float(np.abs(values).mean()), 0.5)
    step = steps[:, None].astype(np.float32)
    given = values[None].astype(np.float32)
    index = np.rint(given / step)
    near = np.exp(-0.5 * ((given - index * step) / noise) ** 2) / (noise * np.sqrt(2 * np.pi))
    half = step / (2 * spread)
    tail = -np.abs(index) * step / spread + half  # of exp(tail) (1 - exp(-2 half)) / 2
    mass = np.where(index == 0, 1 - np.exp(-half), np.exp(np.minimum(tail, 0)) * (1 - np.exp(-2 * half)) / 2)
    density = np.exp(-np.abs(given) / spread) / (2 * spread)
    likelihood = np.log((1 - _STRAYS) * mass * near + _STRAYS * density + 1e-30)
    return np.asarray(likelihood.sum(axis=1), np.float64)
