"""What a client accepts: media types with their DICOM parameters (DICOM PS3.18 section 8.7)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_PART = re.compile(r'(?:[^,"]|"[^"]*")+')
_PARAMETER = re.compile(r';\s*([\w!#$%&\'*+.^`|~-]+)\s*=\s*("[^"]*"|[^;]*)')
MULTIPART = "multipart/related"


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """One media range."""

    multipart: bool  # multipart/related, each part of ``media_type``
    media_type: str  # lower case; may be ``*/*`` or ``image/*``
    transfer_syntax: str  # UID, ``*`` for any, "" when not said
    quality: float  # 0..1

    def takes(self, media_type: str) -> bool:
        """Whether a media type is in the range."""
        if self.media_type in ("*/*", media_type):
            return True
        return self.media_type.endswith("/*") and media_type.startswith(self.media_type[:-1])


def accepted(header: str, parameters: Sequence[str]) -> list[Accepted]:
    """What is accepted, best first; everything when nothing is said.

    Args:
        header: Accept.
        parameters: Values of the query parameter ``accept``, which come before the header
            (PS3.18 section 8.3.3.1).
    """
    text = ",".join(filter(None, parameters)) or header or "*/*"
    ranges = [_range(part) for part in _PART.findall(text) if part.strip()]
    return sorted((each for each in ranges if each.quality > 0), key=lambda each: -each.quality)


def _range(text: str) -> Accepted:
    name = text.partition(";")[0].strip().lower()
    found = {key.lower(): value.strip().strip('"').strip() for key, value in _PARAMETER.findall(text)}
    multipart = name == MULTIPART
    try:
        quality = float(found.get("q", "1"))
    except ValueError:
        quality = 1.0
    return Accepted(
        multipart=multipart,
        media_type=found.get("type", "*/*").lower() if multipart else name,
        transfer_syntax=found.get("transfer-syntax", ""),
        quality=quality,
    )
