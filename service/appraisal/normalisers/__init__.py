"""NORMALISERS: name -> how the normal counterpart of an aligned face is made."""

from __future__ import annotations

from collections.abc import Mapping

from service.appraisal.methods.localised import normaliser as restoration
from service.appraisal.methods.stylegan2 import normaliser as stylegan2
from service.appraisal.methods.symmetry import normaliser as symmetry
from service.appraisal.methods.two_phase import normaliser as two_phase
from service.appraisal.tables import NormaliserRow, table

NORMALISERS: Mapping[str, NormaliserRow] = table(
    (symmetry.ROW, *stylegan2.ROWS, restoration.ROW, two_phase.ROW)
)
