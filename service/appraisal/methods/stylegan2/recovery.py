"""Whether a projection found the latent a picture was drawn with: in w, and in what w does to the picture.

A generator hardly answers to many directions of w, so that a search by the picture cannot tell them
and w itself need not come back. What must come back is what the picture shows: the difference of w
seen through the generator's Jacobian, and the pictures the two latents draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from service.appraisal.methods.stylegan2.generator import Generator

_STEP = 0.01  # of w, on either side; its components spread by about 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Recovery:
    """What is left of the way from the mean latent to the true one: 1 none of it was gone, 0 all."""

    w: Tensor  # (B,): |w - true| / |mean - true|
    seen: Tensor  # (B,): |J (w - true)| / |J (mean - true)|, J = d picture / d w at the true latent
    plainest: Tensor  # (B,): as w, along the `directions` of J's largest singular values
    picture: Tensor  # (B,): |G(w) - G(true)| / |G(mean) - G(true)|, all with the same other noise


def recovery(
    generator: Generator,
    found: Tensor,
    true: Tensor,
    noise: Sequence[Tensor],
    *,
    mean: Tensor,
    directions: int = 8,
    seed: int = 1,
) -> Recovery:
    """Measure how far latents were found again.

    Args:
        generator: that drew the pictures.
        found: (B, style_dim), by the projection.
        true: (B, style_dim), that the pictures were drawn with.
        noise: that they were drawn with, one (B, 1, side, side) a layer.
        mean: (style_dim,), where the search began.
        directions: how many of those that change the picture most are `plainest`.
        seed: of the noise that the pictures are compared with; neither the true nor the found.
    """
    left, whole = found - true, mean[None] - true
    seen, plainest = [], []
    for index in range(len(true)):
        own = [plane[index : index + 1] for plane in noise]
        jacobian = jacobian_of(generator, true[index], own)
        seen.append((jacobian @ left[index]).norm() / (jacobian @ whole[index]).norm())
        axes = torch.linalg.eigh(jacobian.T @ jacobian).eigenvectors[:, -directions:].T
        plainest.append((axes @ left[index]).norm() / (axes @ whole[index]).norm())
    other = generator.draw_noise(len(true), torch.Generator().manual_seed(seed), str(true.device))
    with torch.no_grad():
        drawn, wanted, average = (
            generator.synthesise(w, other) for w in (found, true, mean[None].expand_as(true))
        )
    return Recovery(
        w=left.norm(dim=1) / whole.norm(dim=1),
        seen=torch.stack(seen),
        plainest=torch.stack(plainest),
        picture=(drawn - wanted).flatten(1).norm(dim=1) / (average - wanted).flatten(1).norm(dim=1),
    )


@torch.no_grad()
def jacobian_of(generator: Generator, w: Tensor, noise: Sequence[Tensor]) -> Tensor:
    """Derivative of the picture by w, by central differences.

    Args:
        generator: of the picture.
        w: (style_dim,), where the derivative is taken.
        noise: one (1, 1, side, side) a layer.

    Returns:
        (3 S S, style_dim).
    """
    planes = [plane.expand(len(w), -1, -1, -1) for plane in noise]
    steps = _STEP * torch.eye(len(w), device=w.device)
    change = generator.synthesise(w + steps, planes) - generator.synthesise(w - steps, planes)
    return change.flatten(1).T / (2 * _STEP)
