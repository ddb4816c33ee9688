"""COMPARATORS: name -> how an aligned face and its normal counterpart become a difference map."""

from __future__ import annotations

from collections.abc import Mapping

from service.appraisal.comparators import deep, discrepancy, localised, patchcore, pixel
from service.appraisal.tables import ComparatorRow, table

COMPARATORS: Mapping[str, ComparatorRow] = table(
    (*pixel.ROWS, *deep.ROWS, patchcore.ROW, localised.ROW, discrepancy.ROW)
)
