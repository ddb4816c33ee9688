"""The presentation contexts the node accepts: what is negotiated is what can be read."""

from __future__ import annotations

from pydicom.uid import UID
from pynetdicom.presentation import PresentationContext

from dicom_node.query.contexts import QUERY_RETRIEVE, RESULT_CLASSES
from dicom_node.readers import (
    NOTE_SYNTAXES,
    READERS,
    REJECTION_NOTE,
    STORAGE_COMMITMENT_PUSH_MODEL,
    TRANSFER_SYNTAXES,
    VERIFICATION,
)
from reporting.holdings.recoding import UNCOMPRESSED


def supported_contexts() -> list[PresentationContext]:
    """The presentation contexts the node accepts as an SCP."""
    contexts = [
        _context(VERIFICATION, UNCOMPRESSED),
        _context(STORAGE_COMMITMENT_PUSH_MODEL, UNCOMPRESSED, both_roles=True),
    ]
    contexts += [_context(uid, UNCOMPRESSED) for uid in QUERY_RETRIEVE]
    contexts += [
        _context(reader.sop_class_uid, reader.transfer_syntaxes, both_roles=True)
        for reader in READERS.values()
    ]
    contexts.append(_context(REJECTION_NOTE, NOTE_SYNTAXES))
    contexts += [_context(uid, TRANSFER_SYNTAXES, both_roles=True) for uid in RESULT_CLASSES]
    return contexts


def _context(
    abstract_syntax: str, transfer_syntaxes: tuple[UID, ...], *, both_roles: bool = False
) -> PresentationContext:
    context = PresentationContext()
    context.abstract_syntax = UID(abstract_syntax)
    context.transfer_syntax = list(transfer_syntaxes)
    if both_roles:  # a requestor may propose to be the SCP: it then reports on an association of its own
        context.scu_role = context.scp_role = True
    return context
