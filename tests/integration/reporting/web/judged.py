"""A result with all its pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from service.pictures.encode import encode_jpeg
from service.pictures.native_map import NativeMap, encode_map
from service.pipeline.context import Context
from service.records import SavedAppraisal
from tests.unit.reporting.photographs import COLUMNS, ROWS, appraised, pixels


def shown(context: Context) -> SavedAppraisal:
    """A result with all its pictures: the photograph in its colours, a legend beside it, a counterpart."""
    whole = np.concatenate([pixels(ROWS, COLUMNS), np.zeros((ROWS, COLUMNS // 4, 3), np.uint8)], axis=1)
    picture = context.store.put(encode_jpeg(whole)).sha256
    native = NativeMap(
        difference=np.ones((16, 16), np.float32),
        to_photograph=np.eye(2, 3),
        rows=ROWS,
        columns=COLUMNS,
        counterpart=encode_jpeg(pixels(16, 16)),
    )
    kept = context.store.put(encode_map(native)).sha256
    return replace(appraised(heatmap_sha256=picture), difference_map_sha256=kept)
