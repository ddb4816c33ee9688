"""COMPARATORS: name -> how an aligned face and its normal counterpart become a difference map."""

from __future__ import annotations

from collections.abc import Mapping

from service.appraisal.methods.features import deep, patchcore
from service.appraisal.methods.localised import comparator as localised
from service.appraisal.methods.pixels import comparators as pixel
from service.appraisal.methods.two_phase import comparator as discrepancy
from service.appraisal.tables import ComparatorRow, table

COMPARATORS: Mapping[str, ComparatorRow] = table(
    (*pixel.ROWS, *deep.ROWS, patchcore.ROW, localised.ROW, discrepancy.ROW)
)
