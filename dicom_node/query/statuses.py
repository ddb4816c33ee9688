"""The statuses of C-FIND, C-MOVE and C-GET (DICOM PS3.4 sections C.4.1.1.4, C.4.2.1.5, C.4.3.1.4)."""

from __future__ import annotations

from enum import IntEnum


class QueryStatus(IntEnum):
    """What a requestor is told."""

    SUCCESS = 0x0000
    PENDING = 0xFF00
    PENDING_UNMATCHED_KEYS = 0xFF01  # a match; some keys were not compared
    CANCELLED = 0xFE00
    NOT_AUTHORISED = 0x0124
    OUT_OF_RESOURCES = 0xA700  # C-FIND: database away, or the index is behind
    CANNOT_COUNT = 0xA701  # C-MOVE, C-GET: the same
    CANNOT_PERFORM = 0xA702  # every sub-operation failed
    UNKNOWN_DESTINATION = 0xA801  # C-MOVE: not a configured node
    DOES_NOT_MATCH = 0xA900  # the identifier is not one of this SOP class
    SOME_FAILED = 0xB000  # one or more sub-operations failed or had warnings
