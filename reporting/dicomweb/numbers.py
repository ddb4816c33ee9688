"""Numbers of a path or a query, as they are written there."""

from __future__ import annotations

import re

from reporting.dicomweb.problem import DicomwebError

_WHOLE = re.compile(r"[0-9]{1,9}", re.ASCII)  # fits PostgreSQL's integer


def whole_number(text: str, name: str, *, least: int = 0, most: int = 999_999_999) -> int:
    """A whole number in digits of ASCII.

    Raises:
        DicomwebError: 400: it is none, or out of bounds.
    """
    if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
        raise DicomwebError(400, f"{name} is a number from {least} to {most}")
    return int(text)
