"""The audit messages of DICOM PS3.15 section A.5.3: a row for each of its tables, and what they are about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from service.audit.codes import (
    AccessPoint,
    Action,
    EventId,
    EventType,
    MediaType,
    ObjectIdType,
    ObjectRole,
    ObjectType,
    Outcome,
    Role,
)
from service.audit.message import (
    AuditMessage,
    AuditSource,
    Participant,
    ParticipantObject,
    SopClassCount,
)


def patient(patient_id: str, issuer: str = "") -> ParticipantObject:
    """A patient, by number only; with its issuer in the form of HL7's CX. The name is left empty."""
    return ParticipantObject(
        object_id=f"{patient_id}^^^{issuer}" if issuer else patient_id,
        id_type=ObjectIdType.PATIENT_NUMBER,
        object_type=ObjectType.PERSON,
        role=ObjectRole.PATIENT,
    )


def study(study_instance_uid: str, sop_classes: Sequence[SopClassCount] = ()) -> ParticipantObject:
    """A study, and how many instances of which SOP classes the event is about."""
    return ParticipantObject(
        object_id=study_instance_uid,
        id_type=ObjectIdType.STUDY_INSTANCE_UID,
        object_type=ObjectType.SYSTEM_OBJECT,
        role=ObjectRole.REPORT,
        sop_classes=tuple(sop_classes),
    )


def node(
    ae_title: str, address: str, *, role: Role | None, is_requestor: bool, name: str = ""
) -> Participant:
    """A DICOM application entity.

    Args:
        ae_title: Also its UserID, unless ``name`` says better.
        address: IP address or host name; "" when not known.
        role: In the event.
        is_requestor: Whether it began the event.
        name: Of the process or node.
    """
    return Participant(
        user_id=name or ae_title or address or "unknown",
        is_requestor=is_requestor,
        role=role,
        ae_title=ae_title,
        network_access_point=address,
        access_point_type=access_point_type(address),
    )


def access_point_type(address: str) -> AccessPoint:
    """Whether an address is one of IP, a name, or a URI."""
    if "://" in address:
        return AccessPoint.URI
    is_ip = ":" in address or address.replace(".", "").isdigit()
    return AccessPoint.IP_ADDRESS if is_ip else AccessPoint.MACHINE_NAME


@dataclass(frozen=True, kw_only=True)
class EventTable:
    """One table of PS3.15 section A.5.3: what is the same in all its messages."""

    number: str  # of the table
    action: Action | None  # None: each message says which
    has_type: bool = False  # whether each message says which kind of the event it is


TABLES: Mapping[EventId, EventTable] = MappingProxyType(
    {
        # An application started or stopped.
        EventId.APPLICATION_ACTIVITY: EventTable(number="A.5.3.1-1", action=Action.EXECUTE, has_type=True),
        # Somebody read the audit messages or the ledger.
        EventId.AUDIT_LOG_USED: EventTable(number="A.5.3.2-1", action=Action.READ),
        # Instances of one patient begin to be sent.
        EventId.BEGIN_TRANSFERRING: EventTable(number="A.5.3.3-1", action=Action.EXECUTE),
        # Data leave the system's control; the participants are who had it done, and the medium.
        EventId.EXPORT: EventTable(number="A.5.3.4-1", action=Action.READ),
        # Data come in from beyond the system's control.
        EventId.IMPORT: EventTable(number="A.5.3.5-1", action=Action.CREATE),
        # Instances of one patient were made, used, changed or deleted.
        EventId.INSTANCES_ACCESSED: EventTable(number="A.5.3.6-1", action=None),
        # Instances of one patient were sent from one node to another, or were to be: CREATE when the
        # receiver did not hold them, READ when it did or that is not known.
        EventId.INSTANCES_TRANSFERRED: EventTable(number="A.5.3.7-1", action=None),
        # A study and all it holds were deleted.
        EventId.STUDY_DELETED: EventTable(number="A.5.3.8-1", action=Action.DELETE),
        # A node attached itself to the network or left it.
        EventId.NETWORK_ENTRY: EventTable(number="A.5.3.9-1", action=Action.EXECUTE, has_type=True),
        # A query was asked, by SOURCE of DESTINATION.
        EventId.QUERY: EventTable(number="A.5.3.10-1", action=Action.EXECUTE),
        # Something of concern to the node's security; who reports comes before who did it.
        EventId.SECURITY_ALERT: EventTable(number="A.5.3.11-1", action=Action.EXECUTE, has_type=True),
        # A user logged in or out, or tried to; the user comes before who checked.
        EventId.USER_AUTHENTICATION: EventTable(number="A.5.3.12-1", action=Action.EXECUTE, has_type=True),
    }
)


def message(
    event: EventId,
    at: datetime,
    source: AuditSource,
    *,
    participants: Sequence[Participant],
    objects: Sequence[ParticipantObject] = (),
    kind: EventType | None = None,
    action: Action | None = None,
    outcome: Outcome = Outcome.SUCCESS,
    description: str = "",
) -> AuditMessage:
    """Make a message of one of the TABLES.

    Args:
        event: The table.
        at: When it happened, or ended.
        source: Who reports.
        participants: In the roles the table names.
        objects: What it is about.
        kind: Of event, for tables that have kinds.
        action: For tables that leave it to the message.
        outcome: Of the event.
        description: Why it failed; told of failures alone.

    Raises:
        ValueError: A kind or an action that the table does not leave to the message, or none where it does.
    """
    table = TABLES[event]
    if (kind is not None) is not table.has_type or (action is None) is (table.action is None):
        raise ValueError(f"table {table.number}: kind {kind}, action {action}")
    chosen = table.action or action
    assert chosen is not None  # noqa: S101 -- just checked
    return AuditMessage(
        event_id=event,
        event_types=(kind,) if kind is not None else (),
        action=chosen,
        at=at,
        outcome=outcome,
        outcome_description="" if outcome is Outcome.SUCCESS else description,
        participants=tuple(participants),
        source=source,
        objects=tuple(objects),
    )


def media(place: str, medium: MediaType, role: Role) -> Participant:
    """What data come in from or leave on; ``place`` is its label or URI."""
    return Participant(user_id=place, is_requestor=False, role=role, medium=medium)


def security_log(uri: str) -> ParticipantObject:
    """The audit messages or the ledger, read at a URI."""
    return ParticipantObject(
        object_id=uri,
        id_type=ObjectIdType.URI,
        object_type=ObjectType.SYSTEM_OBJECT,
        role=ObjectRole.SECURITY_RESOURCE,
        name="Security Audit Log",
    )


def asked(sop_class_uid: str, identifier: bytes, transfer_syntax_uid: str) -> ParticipantObject:
    """A query.

    Args:
        sop_class_uid: Of the query.
        identifier: The query's data set, encoded; for DICOMweb the URL.
        transfer_syntax_uid: In which it is encoded; "" for none.
    """
    details = {"TransferSyntax": transfer_syntax_uid.encode("ascii")} if transfer_syntax_uid else {}
    return ParticipantObject(
        object_id=sop_class_uid,
        id_type=ObjectIdType.SOP_CLASS_UID,
        object_type=ObjectType.SYSTEM_OBJECT,
        role=ObjectRole.REPORT,
        query=identifier,
        details=details,
    )


def alerted(subject: str, description: str) -> ParticipantObject:
    """What a security alert is about: a node, by its address or name, and what happened."""
    return ParticipantObject(
        object_id=subject or "unknown",
        id_type=ObjectIdType.NODE_ID,
        object_type=ObjectType.SYSTEM_OBJECT,
        details={"Alert Description": description.encode()},
    )
