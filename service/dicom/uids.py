"""UIDs as they are sent (DICOM PS3.5 section 9.1)."""

from __future__ import annotations

import re

_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_LEADING_ZERO = re.compile(r"(?:^|\.)0[0-9]")
MOST_CHARACTERS = 64


def is_uid(text: str) -> bool:
    """Whether a text is dotted numbers; leading zeros are against the standard, and are borne.

    A UID is compared as the text it is: with a zero more it is another one.
    """
    return len(text) <= MOST_CHARACTERS and _UID.fullmatch(text) is not None


def has_leading_zero(uid: str) -> bool:
    """Whether a component of more than one digit begins with a zero."""
    return _LEADING_ZERO.search(uid) is not None
