"""Person names made comparable (DICOM PS3.4 section C.2.2.2.1: without case, here also without accents)."""

from __future__ import annotations

import unicodedata


def folded(text: str) -> str:
    """Without case, accents, doubled spaces and delimiters at the end."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(c for c in decomposed if not unicodedata.combining(c))
    components = (" ".join(component.split()) for component in unicodedata.normalize("NFC", plain).split("^"))
    return "^".join(components).rstrip("^")
