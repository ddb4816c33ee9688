"""The close-up's network begins as the whole face's: what it has learnt, seen from nearer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from service.appraisal.methods.localised.views import WHOLE, View

_PER_LANDMARK = ("points.maps.weight", "points.maps.bias")


def seen_from(view: View, whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a network of the whole face, for one that sees a part of it.

    Position codes are cut out where the view is and brought to its cells; of the maps of landmarks
    those of the view's are kept.

    Args:
        view: what the network will see.
        whole: weights of a network of the whole face.

    Returns:
        Weights of a network of the view.
    """
    made = {}
    for name, value in whole.items():
        if name in _PER_LANDMARK:
            made[name] = value[list(view.chosen)]
        elif name.endswith(".position") or name == "points.beyond":
            made[name] = _cut(value.float(), view)
        else:
            made[name] = value
    return {name: value.contiguous() for name, value in made.items()}


def _cut(code: Tensor, view: View) -> Tensor:
    """The part of a code of the face that the view sees; rows below the square stay below the view."""
    columns = code.shape[3]
    cells = view.cells * columns // WHOLE.cells
    rows = cells + code.shape[2] - columns
    step = view.extent * columns / cells
    x = (torch.arange(cells) + 0.5) * step + view.left * columns
    y = (torch.arange(rows) + 0.5) * step + view.top * columns
    at = torch.stack(
        [(2 * x / columns - 1).expand(rows, cells), (2 * y / code.shape[2] - 1)[:, None].expand(rows, cells)],
        dim=-1,
    )
    return functional.grid_sample(
        code, at[None].to(code), mode="bilinear", padding_mode="border", align_corners=False
    )
