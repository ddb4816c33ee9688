"""The C-STORE statuses we answer with (DICOM PS3.7 annex C, PS3.4 section B.2.3)."""

from __future__ import annotations

from enum import IntEnum


class StoreStatus(IntEnum):
    """What a sender is told about one object."""

    SUCCESS = 0x0000  # on disk and committed
    SOP_CLASS_NOT_SUPPORTED = 0x0122  # PS3.7 C.5.6; not the SOP class of the presentation context
    NOT_AUTHORISED = 0x0124  # PS3.7 C.5.22
    OUT_OF_RESOURCES = 0xA700  # disk low, database away; try again later
    DATA_SET_DOES_NOT_MATCH = 0xA900  # required identifiers missing, malformed or contradictory
    CANNOT_UNDERSTAND = 0xC000  # the data set cannot be parsed, or ends early
    CONFLICTING_INSTANCE = 0xC001  # known SOP Instance UID, different bytes; quarantined
    REJECTED_BEFORE = 0xC003  # a rejection note took the instance back
    NOTE_NOT_FOLLOWED = 0xC004  # a rejection note that cannot be followed; nothing of it was
    UNFORESEEN = 0xC002  # an error of ours that sending again does not mend; the ledger has its kind


class StatusClass(IntEnum):
    """How a sender treats a C-STORE status (PS3.4 section B.2.3, PS3.7 annex C)."""

    SUCCESS = 0
    WARNING = 1  # stored, perhaps coerced
    TRANSIENT = 2  # a failure that may pass
    PERMANENT = 3  # a failure that stays until someone acts


def status_class(status: int) -> StatusClass:
    """Sort a C-STORE response status into its class.

    0x0111, duplicate SOP instance, is a success: our UIDs derive from what an object says, so that who has
    the UID has the object, from an attempt whose answer was lost.
    """
    if status == 0x0000:
        return StatusClass.SUCCESS
    if status in {0x0001, 0x0107, 0x0111, 0x0116} or 0xB000 <= status <= 0xBFFF:
        return StatusClass.WARNING
    if 0xA700 <= status <= 0xA7FF or status in {0x0110, 0x0213}:
        return StatusClass.TRANSIENT
    return StatusClass.PERMANENT
