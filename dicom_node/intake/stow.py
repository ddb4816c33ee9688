"""What STOW-RS brings goes the way of C-STORE: checked while it streams to disk, durable, in the ledger.

The Part 10 header of the sender is replaced by ours, so that an instance is the same file whichever
way it comes, and coming twice is recognised.
"""

from __future__ import annotations

import struct

from pydicom.uid import UID
from pynetdicom.presentation import PresentationContext

from dicom_node.encoding import structure
from dicom_node.encoding.command import StoreCommand
from dicom_node.encoding.statuses import StoreStatus
from dicom_node.intake.ingest import Ingest, InstanceReception
from dicom_node.readers import takes
from dicom_node.sender import Sender, printable
from reporting.dicomweb.call import Stored
from service.config import Settings
from service.database import instances
from service.database.pool import transaction
from service.dicom.uids import is_uid
from service.errors import DatabaseUnavailableError, InvalidIdentifierError

_PREFIX_BYTES = 132
_MOST_META_BYTES = 64 * 1024
_LONG_VRS = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX = 0x00020002, 0x00020003, 0x00020010
_UNNAMED_CLIENT = "STOW-RS"  # the calling AE title of clients without a name
_LOCAL = "local"
_MOST_AE_TITLE = 16


class StowReceiver:
    """Begins the intake of parts.

    Args:
        settings: Our AE title.
        ingest: Shared with C-STORE's way in.
    """

    def __init__(self, settings: Settings, ingest: Ingest) -> None:
        self._ae_title = settings.dicom_ae_title
        self._ingest = ingest

    def begin(self, client_id: str, address: str, study_instance_uid: str) -> StowIntake:
        """Begin one part; see ``reporting.dicomweb.call.Receive``."""
        named = client_id and client_id != _LOCAL
        sender = Sender(
            calling_ae_title=printable(client_id, _MOST_AE_TITLE) if named else _UNNAMED_CLIENT,
            called_ae_title=self._ae_title,
            peer_address=address,
        )
        return StowIntake(self._ingest, sender, study_instance_uid)


class _StudyReception(InstanceReception):
    """A reception whose instance must be of the study the request is for."""

    study_instance_uid = ""

    def _identity(self, values: structure.KeptValues) -> dict[str, str]:
        identity = super()._identity(values)
        if self.study_instance_uid not in ("", identity["study_instance_uid"]):
            raise InvalidIdentifierError("Study Instance UID differs from the request's")
        return identity


class StowIntake:
    """One Part 10 file on its way in."""

    def __init__(self, ingest: Ingest, sender: Sender, study_instance_uid: str) -> None:
        """Nothing has come yet.

        Args:
            ingest: Where it goes.
            sender: Who sends.
            study_instance_uid: It must be of; "" for any.
        """
        self._ingest = ingest
        self._sender = sender
        self._study_instance_uid = study_instance_uid
        self._head = bytearray()
        self._request: StoreCommand | None = None
        self._reception: _StudyReception | None = None
        self._refused = ""

    def write(self, chunk: bytes) -> None:
        """Take the next piece: the file's own header first, then the data set."""
        if self._reception is not None:
            self._reception.write(memoryview(chunk))
        elif not self._refused:
            self._head += chunk
            self._read_head()

    def finish(self) -> Stored:
        """Make durable, record, and say what became of it."""
        if self._reception is None or self._request is None:
            reason = self._refused or "not a whole DICOM file"
            status: int = StoreStatus.CANNOT_UNDERSTAND
            self._ingest.record_refusal(
                "", self._sender, {"reason": f"STOW-RS: {reason}", "status": f"0x{status:04X}"}
            )
            return self._outcome(status, reason)
        status, comment = self._reception.finish()
        return self._outcome(status, comment)

    def abandon(self) -> None:
        """Keep nothing: the request ended early."""
        if self._reception is not None:
            self._reception.abandon("the request ended early")

    def _read_head(self) -> None:
        try:
            found = _file_meta(bytes(self._head))
        except ValueError as exc:
            self._refused = str(exc)
            return
        if found is None:
            if len(self._head) > _MOST_META_BYTES:
                self._refused = "the file meta information has no end"
            return
        meta, end = found
        sop_class, syntax = meta.get(_SOP_CLASS, ""), meta.get(_TRANSFER_SYNTAX, "")
        self._request = StoreCommand(
            message_id=1,
            sop_class_uid=sop_class,
            sop_instance_uid=meta.get(_SOP_INSTANCE, ""),
            has_data_set=True,
        )
        self._reception = _StudyReception(
            self._ingest, self._sender, _context(sop_class, syntax), self._request
        )
        self._reception.study_instance_uid = self._study_instance_uid
        rest = bytes(self._head[end:])
        self._head.clear()
        if rest:
            self._reception.write(memoryview(rest))

    def _outcome(self, status: int, comment: str) -> Stored:
        request = self._request
        uid = request.sop_instance_uid if request is not None else ""
        known = None
        if status == StoreStatus.SUCCESS:
            try:
                with transaction(self._ingest.pool) as connection:
                    known = instances.by_uid(connection, uid)
            except DatabaseUnavailableError:
                known = None  # it is kept; only its place cannot be named
        return Stored(
            status=status,
            comment=comment,
            sop_class_uid=_uid(request.sop_class_uid if request is not None else ""),
            sop_instance_uid=_uid(uid),
            study_instance_uid=known.study_instance_uid if known is not None else "",
            series_instance_uid=known.series_instance_uid if known is not None else "",
        )


def _context(sop_class_uid: str, transfer_syntax_uid: str) -> PresentationContext | None:
    """What would have been negotiated for such an object; None where nothing would."""
    if not takes(sop_class_uid, transfer_syntax_uid):
        return None
    context = PresentationContext()
    context.abstract_syntax = UID(sop_class_uid)
    context.transfer_syntax = [UID(transfer_syntax_uid)]
    return context


def _uid(text: str) -> str:
    return text if is_uid(text) else ""


def _file_meta(head: bytes) -> tuple[dict[int, str], int] | None:
    """Read the file meta information (PS3.10 section 7.1).

    Args:
        head: The beginning of a file.

    Returns:
        UIDs by tag, and where the data set begins; None when more must come first.

    Raises:
        ValueError: Not a Part 10 file.
    """
    if len(head) < _PREFIX_BYTES + 8:
        return None
    if head[128:_PREFIX_BYTES] != b"DICM":
        raise ValueError("not a DICOM Part 10 file")
    found: dict[int, str] = {}
    position = _PREFIX_BYTES
    while position + 8 <= len(head):
        group, element, vr, length = struct.unpack_from("<HH2sH", head, position)
        if group != 0x0002:
            return found, position
        start = position + 8
        if vr in _LONG_VRS:
            if position + 12 > len(head):
                return None
            length, start = struct.unpack_from("<I", head, position + 8)[0], position + 12
        if length > _MOST_META_BYTES:
            raise ValueError("the file meta information is malformed")
        if start + length > len(head):
            return None
        if vr == b"UI":
            value = head[start : start + length].strip(b"\0 ")
            found[group << 16 | element] = value.decode("latin-1")
        position = start + length
    return None
