"""The text of a resource in two: what others have alike, and its own identifiers, moments and numbers."""

from __future__ import annotations

import re

SEPARATOR = "\x1f"  # JSON escapes it, so no resource has it
_SEPARATOR = SEPARATOR.encode()
_OWN = re.compile(
    r'"(?:id|versionId|lastUpdated|reference|value|effectiveDateTime|occurredDateTime|createdDateTime'
    r'|issued|recorded|url|title)":"((?:[^"\\]|\\.)*)"|:(-?\d[\d.eE+-]*)(?=[,\]}])'
)


def split(text: str) -> tuple[str, str]:
    """Part a resource's text into its template and its own texts; ``assemble`` puts them together."""
    alike, own, done = [], [], 0
    for match in _OWN.finditer(text):
        begin, end = match.span(1 if match[1] is not None else 2)
        alike.append(text[done:begin])
        own.append(text[begin:end])
        done = end
    alike.append(text[done:])
    return SEPARATOR.join(alike), SEPARATOR.join(own)


class Frame:
    """A template that many resources' own texts are put into, as bytes.

    Args:
        template: As ``split`` made it.
    """

    def __init__(self, template: str) -> None:
        alike = template.encode().split(_SEPARATOR)
        self._pieces = [b""] * (2 * len(alike) - 1)
        self._pieces[::2] = alike

    def fill(self, own: bytes) -> bytes:
        """Put a resource's text together: the exact text that was split, in UTF-8."""
        pieces = self._pieces.copy()
        if len(pieces) > 1:
            pieces[1::2] = own.split(_SEPARATOR)
        return b"".join(pieces)


def assemble(template: str, own: str) -> str:
    """Put one resource's text together."""
    return Frame(template).fill(own.encode()).decode()
