"""Numbers out of data sets, where there are any."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydicom.dataset import Dataset

from service.dicom.part10 import READ_ERRORS


def numbers_of(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """The values of an attribute as numbers; none where one of them is no finite number."""
    try:
        value = dataset.get(keyword)
        if value is None or value == "":
            return ()
        if isinstance(value, str):
            value = value.split("\\")
        many = isinstance(value, Sequence) and not isinstance(value, bytes)
        values = tuple(float(each) for each in (value if many else (value,)))
    except READ_ERRORS:
        return ()
    return values if all(map(math.isfinite, values)) else ()


def number_of(dataset: Dataset, keyword: str) -> float | None:
    """The first value of an attribute as a number; None where there is none."""
    values = numbers_of(dataset, keyword)
    return values[0] if values else None
