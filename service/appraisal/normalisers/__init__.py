"""NORMALISERS: name -> how the normal counterpart of an aligned face is made."""

from __future__ import annotations

from collections.abc import Mapping

from service.appraisal.normalisers import restoration, stylegan2, symmetry, two_phase
from service.appraisal.tables import NormaliserRow, table

NORMALISERS: Mapping[str, NormaliserRow] = table(
    (symmetry.ROW, *stylegan2.ROWS, restoration.ROW, two_phase.ROW)
)
