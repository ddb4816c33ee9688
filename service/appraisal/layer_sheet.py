"""A face's differences by their scale: one heatmap a layer, small first (Fig. 5 of paper 000)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from service.appraisal.appraiser import AppraisalMaps
from service.appraisal.pictures.colour_scale import relative_scale
from service.appraisal.pictures.paint import paint

_COLUMNS = 5
_TITLE_PX = 20
_PAPER, _INK = (24, 24, 24), (220, 220, 220)


def render_layer_sheet(maps: AppraisalMaps, layers: Sequence[NDArray[np.float32]]) -> NDArray[np.uint8]:
    """Lay the face, its normal counterpart and a heatmap of each layer side by side, with titles.

    Each layer has the scale of its own differences: layers are not to be compared by their colours.

    Args:
        maps: Of the appraisal.
        layers: (S, S) float32 each, NaN where nothing was judged.

    Returns:
        (H, W, 3) uint8, sRGB; tiles of S pixels, five in a row.
    """
    tiles = [("photograph", maps.aligned), ("normal counterpart", maps.normalised)]
    for number, layer in enumerate(layers, start=1):
        tiles.append((f"layer {number}", paint(maps.aligned, layer, relative_scale(layer))))
    side = maps.aligned.shape[0]
    rows = -(-len(tiles) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * side, rows * (side + _TITLE_PX)), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=_TITLE_PX - 7)
    for index, (title, picture) in enumerate(tiles):
        left, top = index % _COLUMNS * side, index // _COLUMNS * (side + _TITLE_PX)
        draw.text((left + 4, top + 2), title, fill=_INK, font=font)
        sheet.paste(Image.fromarray(picture), (left, top + _TITLE_PX))
    return np.asarray(sheet, dtype=np.uint8)
