"""Progressive JPEG (1.2.840.10008.1.2.4.55): retired from the standard, made by img2dcm to this day."""

from __future__ import annotations

from pydicom.uid import UID

# JPEG Full Progression, Non-Hierarchical (processes 10 and 12)
PROGRESSIVE_JPEG = UID("1.2.840.10008.1.2.4.55")
