"""The Part 10 header put before a data set as received (DICOM PS3.10 section 7.1).

It depends on the object alone, not on who sent it, when, or which release of ours took it: the
same data set always becomes the same file, which is how a repeated instance is recognised.
"""

from __future__ import annotations

import struct

from pydicom.uid import UID

IMPLEMENTATION_CLASS_UID = UID("2.25.159688385171560529389343064144231711353")  # UUID-derived, PS3.5 B.2
IMPLEMENTATION_VERSION_NAME = "SEMBLANCE"  # without a number, see above

_PREAMBLE = b"\0" * 128 + b"DICM"


def part10_header(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble, prefix and file meta information, in explicit VR little endian.

    Args:
        sop_class_uid: Valid, as are the others.
        sop_instance_uid: Of the object.
        transfer_syntax_uid: Of the data set that follows.
    """
    body = (
        struct.pack("<HH2sHI", 2, 0x0001, b"OB", 0, 2)
        + b"\0\1"
        + _short(0x0002, b"UI", sop_class_uid, b"\0")
        + _short(0x0003, b"UI", sop_instance_uid, b"\0")
        + _short(0x0010, b"UI", transfer_syntax_uid, b"\0")
        + _short(0x0012, b"UI", IMPLEMENTATION_CLASS_UID, b"\0")
        + _short(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME, b" ")
    )
    group_length = struct.pack("<HH2sHI", 2, 0x0000, b"UL", 4, len(body))
    return _PREAMBLE + group_length + body


def _short(element: int, vr: bytes, text: str, pad: bytes) -> bytes:
    value = text.encode("ascii")
    if len(value) % 2:
        value += pad
    return struct.pack("<HH2sH", 2, element, vr, len(value)) + value
