"""What stands in the place of paint: the other side where it is normal, else what normal faces show there.

Both are brought to the face's own light and skin by a membrane: the difference at the rim is carried
smoothly inwards (Perez et al., Poisson image editing, 2003, solved by averaging at falling scales).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from service.appraisal.methods.localised.counterpart.expected_shape import stored
from service.appraisal.methods.localised.counterpart.frame import pixels
from service.errors import ModelIntegrityError

_NOISE: Final = 16.0  # variance of a cell's colour about the model, CIE L*a*b* squared
_SWEEPS: Final = (8.0, 4.0, 2.0, 1.0)  # sigma of the membrane's averaging, pixels
_SMALLEST: Final = 4  # pixels a side at which the pyramid ends
_SOFT: Final = 2.0  # sigma, pixels, of the change from the other side to the model
# Of its tint, by which a mark is darker or brighter than the skin if it hides it; of red ones.
_OPAQUE, _OPAQUE_RED = 0.6, 1.5
_MOSTLY: Final = 0.5  # of a piece's pixels
_RIM: Final = 25  # pixels; half of it is the width of the rim by which a hole is filled
_LEAST_UNLIKE: Final = 6.0  # CIE L*a*b*, from the rim's median
_TINT_SIGMA: Final = 3.0  # pixels: finer differences of a tinted skin are its own
_STILL_TINTED: Final = 0.35  # of the tint's mean
_GRAIN_SIGMA: Final = 1.5  # pixels: finer is grain


@dataclass(frozen=True, kw_only=True, eq=False)
class Texture:
    """A linear model of the colours of normal faces in the texture frame."""

    region: NDArray[np.bool_]  # (CELLS, CELLS) bool
    mean: NDArray[np.float32]  # (3 * cells of the region,) float32, CIE L*a*b*
    basis: NDArray[np.float32]  # (3 * cells of the region, components) float32, orthonormal
    variance: NDArray[np.float32]  # (components,) float32, > 0

    def expected(self, colours: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float32]:
        """The face's colours as its known cells let one expect all of them.

        Args:
            colours: (CELLS, CELLS, 3) float32, CIE L*a*b*.
            known: (CELLS, CELLS) bool, cells to go by.

        Returns:
            (CELLS, CELLS, 3) float32, CIE L*a*b*; as given outside the region.
        """
        given = colours[self.region].ravel() - self.mean
        use = np.repeat(known[self.region], 3)
        part = self.basis[use]
        system = part.T @ part / _NOISE + np.diag(1 / self.variance)
        scores = np.linalg.solve(system, part.T @ given[use] / _NOISE)
        out = colours.copy()
        out[self.region] = (self.mean + self.basis @ scores).reshape(-1, 3)
        return np.asarray(out, np.float32)

    def tensors(self) -> dict[str, torch.Tensor]:
        """As stored."""
        return {
            "texture_mean": torch.from_numpy(self.mean.astype(np.float16)),
            "texture_basis": torch.from_numpy(self.basis.astype(np.float16)),
            "texture_variance": torch.from_numpy(self.variance.astype(np.float32)),
        }


def texture_from(tensors: Mapping[str, torch.Tensor], region: NDArray[np.bool_]) -> Texture:
    """Read a stored model.

    Raises:
        ModelIntegrityError: a tensor is missing or of another shape.
    """
    basis = tensors.get("texture_basis")
    if basis is None or basis.ndim != 2:
        raise ModelIntegrityError("the expected face lacks 'texture_basis'")
    values, components = 3 * int(region.sum()), int(basis.shape[1])
    return Texture(
        region=region,
        mean=stored(tensors, "texture_mean", values).astype(np.float32),
        basis=stored(tensors, "texture_basis", values, components).astype(np.float32),
        variance=stored(tensors, "texture_variance", components).astype(np.float32),
    )


def membrane(difference: NDArray[np.float32], hole: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A difference carried smoothly from around a hole into it, (S, S, 3) float32.

    Args:
        difference: (S, S, 3) float32, known outside the hole.
        hole: (S, S) bool.
    """
    known = np.asarray(difference, np.float32)
    filled = _pulled(known, (~hole).astype(np.float32))
    for sigma in _SWEEPS:
        for _ in range(2):
            filled = np.where(hole[..., None], cv2.GaussianBlur(filled, (0, 0), sigma), known)
    return np.asarray(filled, np.float32)


def _pulled(values: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values where there are none taken from coarser and coarser means of those there are."""
    if min(weight.shape) <= _SMALLEST or bool((weight > 0).all()):
        mean = (values * weight[..., None]).sum(axis=(0, 1)) / max(float(weight.sum()), 1e-6)
        return np.asarray(np.where(weight[..., None] > 0, values, mean), np.float32)
    half = (weight.shape[1] // 2, weight.shape[0] // 2)
    share = cv2.resize(weight, half, interpolation=cv2.INTER_AREA)
    total = cv2.resize(values * weight[..., None], half, interpolation=cv2.INTER_AREA)
    coarse = _pulled(total / np.maximum(share, 1e-6)[..., None], (share > 1e-6).astype(np.float32))
    fine = cv2.resize(coarse, weight.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.where(weight[..., None] > 0, values, fine), np.float32)


def mirrored_texture(colours: NDArray[np.float32], hole: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The other side's colours in a hole, in this side's light, (S, S, 3) float32, CIE L*a*b*.

    Args:
        colours: (S, S, 3) float32, CIE L*a*b*, of the texture frame.
        hole: (S, S) bool, of which the mirror image is no part.
    """
    other = np.ascontiguousarray(colours[:, ::-1])
    return np.asarray(other + membrane(colours - other, hole), np.float32)


def filled(
    colours: NDArray[np.float32],
    cells: NDArray[np.float32],
    painted: NDArray[np.bool_],
    red: NDArray[np.bool_],
    texture: Texture,
) -> NDArray[np.float32]:
    """The colours without paint, (SIDE, SIDE, 3) float32, CIE L*a*b*.

    A mark as bright as the skin, or a red one not much darker, lets the skin be seen: its tint is taken
    off, also where it goes on over the face's edge, and all else stays. Any other mark is replaced.

    Args:
        colours: (SIDE, SIDE, 3) float32, CIE L*a*b*, of the texture frame.
        cells: (CELLS, CELLS, 3) float32, the same by cells.
        painted: (CELLS, CELLS) bool.
        red: (CELLS, CELLS) bool, where that is redness rather than any other colour.
        texture: what normal faces show.
    """
    hole = pixels(painted.astype(np.float32)) > 0.5
    model = pixels(texture.expected(cells, ~painted & texture.region))
    other = np.ascontiguousarray(colours[:, ::-1])
    free = (~hole | ~hole[:, ::-1]).astype(np.uint8)
    share = cv2.GaussianBlur(cv2.erode(free, np.ones((5, 5), np.uint8)).astype(np.float32), (0, 0), _SOFT)
    source = share[..., None] * other + (1 - share[..., None]) * (model + _grain(colours, hole))
    beyond = pixels(texture.region.astype(np.float32)) < 0.5  # hair and background say nothing of the skin
    whole = source + membrane(colours - source, hole | beyond | _unlike(colours - source, hole, beyond))
    redness = pixels(red.astype(np.float32))
    out = colours.copy()
    count, pieces = cv2.connectedComponents(hole.astype(np.uint8))
    for piece in range(1, count):
        own = pieces == piece
        foreign = _within(colours - whole, own)
        mean = np.abs(np.array([foreign[own][:, 0].mean(), *foreign[own][:, 1:].mean(axis=0)]))
        least = _OPAQUE_RED if redness[own].mean() > _MOSTLY else _OPAQUE
        if mean[0] > least * float(np.hypot(mean[1], mean[2])):
            out[own] = whole[own]
        else:
            tint = _over_the_edge(foreign, colours - other, own, beyond)
            out[..., 1:] -= tint[..., 1:]
    return np.asarray(out, np.float32)


def _unlike(
    difference: NDArray[np.float32], hole: NDArray[np.bool_], beyond: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Pixels around a hole that differ from its source as skin does not: lips, nostrils, spectacles, hair.

    Carried inwards they would be smears. (S, S) bool.

    Args:
        difference: (S, S, 3) float32, CIE L*a*b*, of the colours from the source.
        hole: (S, S) bool.
        beyond: (S, S) bool, outside the part of the face that is judged.
    """
    wide = cv2.dilate(hole.astype(np.uint8), np.ones((_RIM, _RIM), np.uint8)) > 0
    rim = wide & ~hole & ~beyond
    if not rim.any():
        return np.zeros(hole.shape, np.bool_)
    away = np.abs(difference - np.median(difference[rim], axis=0)).max(axis=-1)
    return np.asarray(~hole & (away > max(_LEAST_UNLIKE, 2 * float(np.median(away[rim])))), np.bool_)


def _within(plane: NDArray[np.float32], own: NDArray[np.bool_]) -> NDArray[np.float32]:
    """A plane smoothed within a piece and 0 outside it, (S, S, C) float32."""
    inside = own.astype(np.float32)
    weight = np.maximum(cv2.GaussianBlur(inside, (0, 0), _TINT_SIGMA), 1e-3)[..., None]
    smooth = cv2.GaussianBlur(plane * inside[..., None], (0, 0), _TINT_SIGMA) / weight
    return np.asarray(smooth * inside[..., None], np.float32)


def _over_the_edge(
    foreign: NDArray[np.float32],
    aside: NDArray[np.float32],
    own: NDArray[np.bool_],
    beyond: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """A tint with what of it goes on beyond the face's edge, (S, S, 3) float32.

    Args:
        foreign: (S, S, 3) float32, the tint within the piece.
        aside: (S, S, 3) float32, how the colours differ from the other side's.
        own: (S, S) bool, the piece.
        beyond: (S, S) bool, outside the part of the face that is judged.
    """
    mean = foreign[own][:, 1:].mean(axis=0)
    strength = float(np.hypot(*mean))
    along = cv2.GaussianBlur(
        (aside[..., 1:] @ (mean / max(strength, 1e-6))).astype(np.float32), (0, 0), _TINT_SIGMA
    )
    more = ((along > _STILL_TINTED * strength) & beyond) | own
    _, pieces = cv2.connectedComponents(more.astype(np.uint8))
    reached = np.isin(pieces, np.unique(pieces[own])) & more & ~own
    out = foreign.copy()
    out[reached, 1:] = along[reached, None] * mean / max(strength, 1e-6)
    return out


def _grain(colours: NDArray[np.float32], hole: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Grain as strong as the face's own, the same each time and on both sides, (S, S, 3) float32."""
    fine = np.abs(colours - cv2.GaussianBlur(colours, (0, 0), _GRAIN_SIGMA))[~hole]
    strength = np.median(fine, axis=0) if fine.size else np.zeros(3)
    noise = np.random.default_rng(0).normal(0, 1, colours.shape)
    alike = (noise + noise[:, ::-1]) / np.sqrt(2)
    return np.asarray(alike * strength, np.float32)
