"""Association requests as they come, made such as pynetdicom takes (PS3.8 section 9.3.2, PS3.7 annex D).

What the standard says to ignore is left out here, and what senders of many years get wrong is put right:
AE titles and names that are padded with NUL or are not ASCII, UIDs with padding, even context ids.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from service.dicom.uids import is_uid

_HEAD_BYTES = 74  # before the items: PDU header, version, AE titles, reserved
_CALLED, _CALLING = slice(10, 26), slice(26, 42)
_AE_TITLE_BYTES = 16
_CONTEXT, _USER_INFORMATION = 0x20, 0x50
_ITEMS = frozenset({0x10, _CONTEXT, _USER_INFORMATION})
_ABSTRACT_SYNTAX, _TRANSFER_SYNTAX = 0x30, 0x40
_MAXIMUM_LENGTH, _CLASS_UID, _VERSION_NAME = 0x51, 0x52, 0x55
_USER_ITEMS = frozenset(range(0x51, 0x5A))
_MOST_VERSION_CHARACTERS = 16
_LAST_CONTEXT_ID = 255
_ANSWERED_CONTEXT = 0x21
_P_DATA_TF, _A_ASSOCIATE_AC = 0x04, 0x02


@dataclass(frozen=True, kw_only=True)
class AssociationRequest:
    """A request, put right."""

    encoded: bytes  # the PDU, for pynetdicom
    calling_ae_title: str  # as meant: without padding, of any letters
    called_ae_title: str
    wire_ids: dict[int, int]  # context ids we use -> those the peer uses, where they differ
    remarks: tuple[str, ...]  # what was put right or left out


@dataclass(kw_only=True)
class _Work:
    """What is found while a request is read."""

    remarks: dict[str, None] = field(default_factory=dict)
    wire_ids: dict[int, int] = field(default_factory=dict)

    def remark(self, text: str) -> None:
        self.remarks[text] = None


def put_right(encoded: bytes) -> AssociationRequest:
    """Read an A-ASSOCIATE-RQ and put right what can be.

    Args:
        encoded: The whole PDU.

    Returns:
        The request; where items run over its end they stay as they are, for pynetdicom to refuse.
    """
    work = _Work()
    called, called_safe = _title(encoded[_CALLED], "called", work)
    calling, calling_safe = _title(encoded[_CALLING], "calling", work)
    try:
        items = list(_split(encoded[_HEAD_BYTES:]))
        taken = {content[0] for kind, content in items if kind == _CONTEXT and content and content[0] % 2}
        body = b"".join(
            _item(kind, content, taken, work) for kind, content in items if kind != _USER_INFORMATION
        )
        body += _user_information([content for kind, content in items if kind == _USER_INFORMATION], work)
    except (ValueError, struct.error):
        body = encoded[_HEAD_BYTES:]
        work.wire_ids.clear()
    version = 1 if encoded[7:8] and encoded[7] & 1 else struct.unpack_from(">H", encoded, 6)[0]
    rest = struct.pack(">HH", version, 0) + called_safe + calling_safe + encoded[42:_HEAD_BYTES] + body
    return AssociationRequest(
        encoded=struct.pack(">BBI", 1, 0, len(rest)) + rest,
        calling_ae_title=calling,
        called_ae_title=called,
        wire_ids=work.wire_ids,
        remarks=tuple(work.remarks),
    )


def _title(raw: bytes, which: str, work: _Work) -> tuple[str, bytes]:
    """An AE title as meant, and as pynetdicom takes it."""
    meant = raw.split(b"\0", 1)[0].strip(b" ")
    safe = bytes(byte if 0x20 <= byte < 0x7F and byte != 0x5C else 0x3F for byte in meant) or b"?"
    if b"\0" in raw:
        work.remark(f"{which} AE title padded with NUL")
    if safe != meant:
        work.remark(f"{which} AE title is none of the standard's (PS3.5 section 6.2)")
    return meant.decode("latin-1"), safe.ljust(_AE_TITLE_BYTES)


def _split(encoded: bytes) -> Iterator[tuple[int, bytes]]:
    """Types and contents of items, up to padding of zeros.

    Raises:
        ValueError: One runs over the end.
    """
    at, end = 0, len(encoded.rstrip(b"\0"))
    while at < end:
        kind, length = struct.unpack_from(">BxH", encoded, at)
        at += 4
        if at + length > len(encoded):
            raise ValueError("an item runs over the end of the request")
        yield kind, encoded[at : at + length]
        at += length


def _item(kind: int, content: bytes, taken: set[int], work: _Work) -> bytes:
    if kind not in _ITEMS:
        work.remark(f"unknown item 0x{kind:02X} ignored")
        return b""
    if kind == _CONTEXT:
        return _context(content, taken, work)
    return _written(kind, content.strip(b"\0 "))


def _context(content: bytes, taken: set[int], work: _Work) -> bytes:
    """A presentation context; b"" for one that names no SOP class or transfer syntax we could know."""
    context_id, items = content[0], list(_split(content[4:]))
    abstract = [_uid(uid, work) for kind, uid in items if kind == _ABSTRACT_SYNTAX]
    transfer = [uid for kind, raw in items if kind == _TRANSFER_SYNTAX and (uid := _uid(raw, work))]
    if any(kind not in (_ABSTRACT_SYNTAX, _TRANSFER_SYNTAX) for kind, _ in items):
        work.remark("unknown item of a presentation context ignored")
    if not abstract or not abstract[0] or not transfer:
        work.remark(f"presentation context {context_id} names nothing that can be read: ignored")
        return b""
    if context_id % 2 == 0:
        free = next((each for each in range(1, _LAST_CONTEXT_ID + 1, 2) if each not in taken), None)
        if free is None:
            return b""
        work.remark("even presentation context ids")
        taken.add(free)
        work.wire_ids[free] = context_id
        context_id = free
    named = _written(_ABSTRACT_SYNTAX, abstract[0]) + b"".join(
        _written(_TRANSFER_SYNTAX, uid) for uid in transfer
    )
    return _written(_CONTEXT, bytes((context_id, 0, 0, 0)) + named)


def _uid(raw: bytes, work: _Work) -> bytes:
    """A UID without padding; b"" for what is none."""
    uid = raw.strip(b"\0 ")
    if is_uid(uid.decode("latin-1")):
        return uid
    work.remark("a UID of a presentation context is none")
    return b""


def _user_information(contents: list[bytes], work: _Work) -> bytes:
    """The user information as one item; who names no maximum length sets none (PS3.8 annex D.1.1)."""
    items = [item for content in contents for item in _split(content)]
    if len(contents) > 1:
        work.remark("user information in several items")
    if all(kind != _MAXIMUM_LENGTH for kind, _ in items):
        work.remark("no maximum length of a PDU is named")
        items.insert(0, (_MAXIMUM_LENGTH, bytes(4)))
    return _written(_USER_INFORMATION, b"".join(_user_item(*item, work) for item in items))


def _user_item(kind: int, content: bytes, work: _Work) -> bytes:
    """A sub-item of the user information; unrecognised ones are ignored (PS3.8 annex D.2)."""
    if kind not in _USER_ITEMS:
        work.remark(f"unknown user information item 0x{kind:02X} ignored")
        return b""
    if kind == _CLASS_UID:
        uid = content.strip(b"\0 ")
        if not is_uid(uid.decode("latin-1")):
            work.remark("the implementation class UID is none")
            uid = b"0"
        return _written(kind, uid)
    if kind == _VERSION_NAME:
        name = content.split(b"\0", 1)[0].strip(b" ")
        safe = bytes(byte if 0x20 <= byte < 0x7F else 0x3F for byte in name)[
            :_MOST_VERSION_CHARACTERS
        ].strip()
        if safe != content:
            work.remark("the implementation version name is none of the standard's (PS3.7 section D.3.3.2)")
        return _written(kind, safe) if safe else b""
    return _written(kind, content)


def _written(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(content)) + content


def with_wire_ids(pdu: bytes, wire_ids: dict[int, int]) -> bytes:
    """A PDU of ours with the context ids the peer uses.

    Args:
        pdu: P-DATA-TF or A-ASSOCIATE-AC; others have no ids and stay as they are.
        wire_ids: Ours -> the peer's.
    """
    made = bytearray(pdu)
    if pdu[0] == _P_DATA_TF:
        at = 6
        while at + 6 <= len(made):
            made[at + 4] = wire_ids.get(made[at + 4], made[at + 4])
            at += 4 + struct.unpack_from(">I", made, at)[0]
    elif pdu[0] == _A_ASSOCIATE_AC:
        at = _HEAD_BYTES
        while at + 8 <= len(made):
            if made[at] == _ANSWERED_CONTEXT:
                made[at + 4] = wire_ids.get(made[at + 4], made[at + 4])
            at += 4 + struct.unpack_from(">H", made, at + 2)[0]
    return bytes(made)
