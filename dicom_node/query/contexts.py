"""What the query/retrieve SCP negotiates."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ParametricMapStorage,
)
from pynetdicom.association import Association
from pynetdicom.events import Event

STUDY_ROOT_FIND = UID("1.2.840.10008.5.1.4.1.2.2.1")
STUDY_ROOT_MOVE = UID("1.2.840.10008.5.1.4.1.2.2.2")
STUDY_ROOT_GET = UID("1.2.840.10008.5.1.4.1.2.2.3")
QUERY_RETRIEVE: tuple[UID, ...] = (STUDY_ROOT_FIND, STUDY_ROOT_MOVE, STUDY_ROOT_GET)
# SOP classes of results that are sent by C-GET and C-MOVE but never received.
RESULT_CLASSES: Mapping[UID, str] = MappingProxyType(
    {
        Comprehensive3DSRStorage: "Comprehensive 3D SR Storage",
        ParametricMapStorage: "Parametric Map Storage",
    }
)
_RELATIONAL = b"\x01"  # first byte of the application information, PS3.4 table C.5.1.1-1


def settle_roles(association: Association) -> None:
    """Take the SOP classes that are only sent out of what is accepted, unless the requestor would receive.

    By default a requestor is the SCU of storage, and these are not taken in (PS3.7 section D.3.3.4).
    """
    proposed = association.requestor.role_selection
    association.acceptor.supported_contexts = [
        context
        for context in association.acceptor.supported_contexts
        if context.abstract_syntax not in RESULT_CLASSES
        or (context.abstract_syntax in proposed and proposed[context.abstract_syntax].scp_role)
    ]


def extended_negotiation(event: Event) -> dict[UID, bytes]:
    """Accept relational queries and retrievals, and nothing else (PS3.4 section C.5.1); a handler."""
    return {
        uid: information[:1] if information[:1] == _RELATIONAL else b"\x00"
        for uid, information in event.app_info.items()  # type: ignore[attr-defined]
        if uid in QUERY_RETRIEVE
    }


def is_relational(association: Association, sop_class_uid: str) -> bool:
    """Whether keys of levels above the one asked about may be missing."""
    accepted = association.acceptor.sop_class_extended
    return bool(accepted.get(UID(sop_class_uid), b"")[:1] == _RELATIONAL)
