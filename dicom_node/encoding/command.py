"""The command sets of C-STORE, read and written by hand (DICOM PS3.7 sections 6.3 and 9.3.1).

A command set is a handful of short elements in implicit VR little endian; taking one apart here
costs a hundredth of building a pydicom data set of it, once for every object received.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from service.dicom.uids import is_uid
from service.errors import IntakeError

C_STORE_RQ = 0x0001
C_STORE_RSP = 0x8001
NO_DATA_SET = 0x0101
_LOW_PRIORITY = 0x0002

_AFFECTED_SOP_CLASS_UID = 0x0002
_COMMAND_FIELD = 0x0100
_MESSAGE_ID = 0x0110
_MESSAGE_ID_BEING_RESPONDED_TO = 0x0120
_COMMAND_DATA_SET_TYPE = 0x0800
_STATUS = 0x0900
_ERROR_COMMENT = 0x0902
_PRIORITY = 0x0700
_MOVE_ORIGINATOR_AE_TITLE = 0x1030
_MOVE_ORIGINATOR_MESSAGE_ID = 0x1031
_AFFECTED_SOP_INSTANCE_UID = 0x1000


class MalformedCommandError(IntakeError):
    """A command set that does not follow PS3.7."""


@dataclass(frozen=True, kw_only=True)
class StoreCommand:
    """A C-STORE request, as sent; nothing is checked but that it can be read."""

    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    has_data_set: bool


@dataclass(frozen=True, kw_only=True)
class Originator:
    """Who asked for an object by C-MOVE."""

    ae_title: str
    message_id: int  # of the C-MOVE request


def elements(encoded: bytes) -> Mapping[int, bytes]:
    """Take a command set apart.

    Args:
        encoded: The whole command set.

    Returns:
        Raw values by element number (the group is always 0000).

    Raises:
        MalformedCommandError: A length that runs over the end, or another group.
    """
    values: dict[int, bytes] = {}
    position = 0
    while position < len(encoded):
        if position + 8 > len(encoded):
            raise MalformedCommandError("the command set ends within an element")
        group, element, length = struct.unpack_from("<HHI", encoded, position)
        position += 8
        if group != 0 or position + length > len(encoded):
            raise MalformedCommandError(f"element ({group:04X},{element:04X}) in a command set")
        values[element] = encoded[position : position + length]
        position += length
    return values


def command_field(values: Mapping[int, bytes]) -> int:
    """The Command Field (0000,0100).

    Raises:
        MalformedCommandError: Absent or not two bytes.
    """
    return _unsigned(values, _COMMAND_FIELD)


def store_command(values: Mapping[int, bytes]) -> StoreCommand:
    """Read a C-STORE request.

    Raises:
        MalformedCommandError: A mandatory number is absent or malformed.
    """
    return StoreCommand(
        message_id=_unsigned(values, _MESSAGE_ID),
        sop_class_uid=_uid(values, _AFFECTED_SOP_CLASS_UID),
        sop_instance_uid=_uid(values, _AFFECTED_SOP_INSTANCE_UID),
        has_data_set=_unsigned(values, _COMMAND_DATA_SET_TYPE) != NO_DATA_SET,
    )


def store_request(command: StoreCommand, originator: Originator | None = None) -> bytes:
    """Write a C-STORE request of low priority.

    Args:
        command: What is sent.
        originator: Who asked for it by C-MOVE; None for what nobody asked for so.
    """
    body = (
        _element(_AFFECTED_SOP_CLASS_UID, _padded(command.sop_class_uid, b"\0"))
        + _element(_COMMAND_FIELD, struct.pack("<H", C_STORE_RQ))
        + _element(_MESSAGE_ID, struct.pack("<H", command.message_id))
        + _element(_PRIORITY, struct.pack("<H", _LOW_PRIORITY))
        + _element(_COMMAND_DATA_SET_TYPE, struct.pack("<H", int(not command.has_data_set) * NO_DATA_SET))
        + _element(_AFFECTED_SOP_INSTANCE_UID, _padded(command.sop_instance_uid, b"\0"))
    )
    if originator is not None:
        body += _element(_MOVE_ORIGINATOR_AE_TITLE, _padded(originator.ae_title, b" "))
        body += _element(_MOVE_ORIGINATOR_MESSAGE_ID, struct.pack("<H", originator.message_id))
    return _element(0x0000, struct.pack("<I", len(body))) + body


def store_response(command: StoreCommand, status: int, comment: str = "") -> bytes:
    """Write the C-STORE response; it echoes the SOP Instance UID only if that is one.

    Args:
        command: What is answered.
        status: Of StoreStatus.
        comment: For people; cut to the 64 characters of LO, ASCII.
    """
    body = (
        _element(_AFFECTED_SOP_CLASS_UID, _padded(command.sop_class_uid, b"\0"))
        + _element(_COMMAND_FIELD, struct.pack("<H", C_STORE_RSP))
        + _element(_MESSAGE_ID_BEING_RESPONDED_TO, struct.pack("<H", command.message_id))
        + _element(_COMMAND_DATA_SET_TYPE, struct.pack("<H", NO_DATA_SET))
        + _element(_STATUS, struct.pack("<H", status))
    )
    if comment:
        body += _element(_ERROR_COMMENT, _padded(comment[:64].replace("\\", "/"), b" "))
    if is_uid(command.sop_instance_uid):
        body += _element(_AFFECTED_SOP_INSTANCE_UID, _padded(command.sop_instance_uid, b"\0"))
    return _element(0x0000, struct.pack("<I", len(body))) + body


def p_data_tf(context_id: int, fragment: bytes, *, command: bool) -> bytes:
    """Wrap the last fragment of a command or data set in a P-DATA-TF PDU (PS3.8 sections 9.3.5, E.2)."""
    header = 0x03 if command else 0x02
    value = struct.pack(">IBB", len(fragment) + 2, context_id, header) + fragment
    return struct.pack(">BBI", 0x04, 0, len(value)) + value


def _element(element: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, element, len(value)) + value


def _padded(text: str, pad: bytes) -> bytes:
    encoded = text.encode("ascii", "replace")
    return encoded + pad if len(encoded) % 2 else encoded


def _unsigned(values: Mapping[int, bytes], element: int) -> int:
    value = values.get(element, b"")
    if len(value) != 2:
        raise MalformedCommandError(f"element (0000,{element:04X}) is absent or not two bytes")
    return int.from_bytes(value, "little")


def _uid(values: Mapping[int, bytes], element: int) -> str:
    return values.get(element, b"").strip(b"\0 ").decode("latin-1")  # judged where it is used
