"""Answers to C-FIND, C-MOVE and C-GET."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO

import structlog
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_FIND, C_GET, C_MOVE
from pynetdicom.dsutils import decode, encode
from pynetdicom.presentation import PresentationContext

from dicom_node.query.statuses import QueryStatus
from service.dicom.part10 import READ_ERRORS
from service.dicom.writing import keep_malformed_as_bytes
from service.errors import QueryError

_log = structlog.get_logger(__name__)

Request = C_FIND | C_MOVE | C_GET


@dataclass(slots=True)
class SubOperations:
    """How the C-STOREs of a retrieval fare (PS3.4 section C.4.2.1.6)."""

    remaining: int
    completed: int = 0
    failed: int = 0
    warning: int = 0
    failed_uids: list[str] = field(default_factory=list)

    def fail(self, sop_instance_uid: str) -> None:
        """Count one that failed."""
        self.remaining -= 1
        self.failed += 1
        self.failed_uids.append(sop_instance_uid)

    def succeed(self, *, warning: bool) -> None:
        """Count one that was stored."""
        self.remaining -= 1
        if warning:
            self.warning += 1
        else:
            self.completed += 1

    @property
    def status(self) -> QueryStatus:
        """Of the whole, at the end."""
        if not self.failed and not self.warning:
            return QueryStatus.SUCCESS
        nothing_stored = not self.completed and not self.warning
        return QueryStatus.CANNOT_PERFORM if nothing_stored else QueryStatus.SOME_FAILED


class Exchange:
    """One request on an association, and its answers.

    Args:
        association: It came by.
        request: The primitive.
        context: Its presentation context.
    """

    def __init__(self, association: Association, request: Request, context: PresentationContext) -> None:
        self.association = association
        self.request = request
        self._context = context

    @property
    def sop_class(self) -> UID:
        """Of the service."""
        return UID(str(self.request.AffectedSOPClassUID))

    @property
    def is_cancelled(self) -> bool:
        """Whether a C-CANCEL has come."""
        return self.request.MessageID in self.association.dimse.cancel_req

    @property
    def is_open(self) -> bool:
        """Whether anybody still listens."""
        return bool(self.association.is_established and not self.association.acse.is_aborted())

    @property
    def transfer_syntax(self) -> UID:
        """In which the identifier is encoded."""
        return UID(self._context.transfer_syntax[0])

    @property
    def encoded_identifier(self) -> bytes:
        """The request's identifier as it came."""
        return bytes(self.request.Identifier.getvalue()) if self.request.Identifier else b""

    def identifier(self) -> Dataset:
        """The request's identifier.

        Raises:
            QueryError: It cannot be parsed.
        """
        syntax = self._context.transfer_syntax[0]
        try:
            return decode(
                self.request.Identifier or BytesIO(),
                syntax.is_implicit_VR,
                syntax.is_little_endian,
                syntax.is_deflated,
            )
        except READ_ERRORS as exc:
            raise QueryError("the identifier cannot be parsed") from exc

    def send(
        self,
        status: QueryStatus,
        identifier: Dataset | None = None,
        *,
        comment: str = "",
        counts: SubOperations | None = None,
    ) -> None:
        """Send one answer.

        Args:
            status: Pending ones are followed by others.
            identifier: A match, or the list of what failed.
            comment: Error Comment, for people; cut to 64 characters.
            counts: Of a retrieval.
        """
        response = type(self.request)()
        response.MessageID = self.request.MessageID
        response.MessageIDBeingRespondedTo = self.request.MessageID
        response.AffectedSOPClassUID = self.request.AffectedSOPClassUID
        response.Status = int(status)
        if comment:
            response.ErrorComment = comment[:64]  # type: ignore[assignment]
        if counts is not None and not isinstance(response, C_FIND):
            response.NumberOfFailedSuboperations = counts.failed
            response.NumberOfWarningSuboperations = counts.warning
            response.NumberOfCompletedSuboperations = counts.completed
            if status in (QueryStatus.PENDING, QueryStatus.CANCELLED):
                response.NumberOfRemainingSuboperations = counts.remaining
            if counts.failed_uids and status is not QueryStatus.PENDING:
                identifier = Dataset()
                identifier.FailedSOPInstanceUIDList = counts.failed_uids
        if identifier is not None:
            response.Identifier = BytesIO(self._encoded(identifier))
        self.association.dimse.send_msg(response, int(self._context.context_id or 0))

    def _encoded(self, identifier: Dataset) -> bytes:
        """An identifier as bytes; an element that cannot be written is left out, and the log says so."""
        syntax = self._context.transfer_syntax[0]
        encoded = encode(identifier, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
        if encoded is not None:
            return encoded
        turned = keep_malformed_as_bytes(identifier)
        _log.warning("not-all-answered", left_out=turned)
        for tag in turned:
            del identifier[int(tag, 16)]
        encoded = encode(identifier, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
        if encoded is None:
            raise QueryError("the answer cannot be encoded")
        return encoded
