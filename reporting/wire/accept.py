"""What a client accepts: media ranges with their parameters, best first (RFC 9110 section 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_PART = re.compile(r'(?:[^,"]|"[^"]*")+')
_PARAMETER = re.compile(r';\s*([\w!#$%&\'*+.^`|~-]+)\s*=\s*("[^"]*"|[^;]*)')
MULTIPART = "multipart/related"


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """One media range."""

    multipart: bool  # multipart/related, each part of ``media_type`` (DICOM PS3.18 section 8.7)
    media_type: str  # lower case; may be ``*/*`` or ``image/*``
    parameters: Mapping[str, str]  # names in lower case, values without quotes; no ``q``
    quality: float  # 0..1

    @property
    def transfer_syntax(self) -> str:
        """DICOM's parameter (PS3.18 section 8.7.3.5.2): a UID, ``*`` for any, "" when not said."""
        return self.parameters.get("transfer-syntax", "")

    def takes(self, media_type: str) -> bool:
        """Whether a media type is in the range."""
        if self.media_type in ("*/*", media_type):
            return True
        return self.media_type.endswith("/*") and media_type.startswith(self.media_type[:-1])


def accepted(header: str, parameters: Sequence[str] = ()) -> list[Accepted]:
    """What is accepted, best first; everything when nothing is said.

    Args:
        header: Accept.
        parameters: Values of the query parameter ``accept``, which come before the header
            (DICOM PS3.18 section 8.3.3.1).
    """
    text = ",".join(filter(None, parameters)) or header.strip() or "*/*"
    ranges = [media_range(part) for part in _PART.findall(text) if part.strip()]
    return sorted((each for each in ranges if each.quality > 0), key=lambda each: -each.quality)


def media_range(text: str) -> Accepted:
    """One media range, or the media type of a Content-Type."""
    name = text.partition(";")[0].strip().lower()
    found = {key.lower(): value.strip().strip('"').strip() for key, value in _PARAMETER.findall(text)}
    multipart = name == MULTIPART
    try:
        quality = float(found.pop("q", "1"))
    except ValueError:
        quality = 1.0
    return Accepted(
        multipart=multipart,
        media_type=found.get("type", "*/*").lower() if multipart else name,
        parameters=found,
        quality=quality,
    )
