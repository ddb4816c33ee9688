"""Value representations and the length field each is written with (DICOM PS3.5 section 7.1.2)."""

from __future__ import annotations

# A 16-bit length; every other VR of the standard, and of its future, has a 32-bit one.
SHORT_VRS = frozenset(
    b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split(),
)
KNOWN_VRS = SHORT_VRS | frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())


def is_short(vr: bytes) -> bool:
    """Whether an explicit VR is followed by a 16-bit length.

    What is no VR at all, such as ``??``, is written with one too: by senders that do not know an
    element, and so read by dcmtk.

    Args:
        vr: Two bytes, as sent.
    """
    return vr in SHORT_VRS or not (vr.isalpha() and vr.isupper())


def is_vr(vr: bytes) -> bool:
    """Whether two bytes can stand for a VR: printable, or both NUL.

    Others are rather the length of an element in implicit VR.
    """
    return vr == b"\0\0" or all(0x20 <= byte < 0x7F for byte in vr)
