"""By what our own objects are known again, wherever they went in between."""

from __future__ import annotations

MANUFACTURER = "Semblance"  # (0008,0070) of every result, and of our item in (0018,A001)
CODING_SCHEME = "99SEMBLANCE"  # designator of our own codes, (0008,0102)
