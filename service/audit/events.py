"""The audit messages of DICOM PS3.15 section A.5.3, one function for each table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

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


def application_activity(
    at: datetime, source: AuditSource, *, application: Participant, kind: EventType
) -> AuditMessage:
    """An application started or stopped (table A.5.3.1-1)."""
    return AuditMessage(
        event_id=EventId.APPLICATION_ACTIVITY,
        event_types=(kind,),
        action=Action.EXECUTE,
        at=at,
        outcome=Outcome.SUCCESS,
        participants=(application,),
        source=source,
    )


def audit_log_used(at: datetime, source: AuditSource, *, reader: Participant, uri: str) -> AuditMessage:
    """Somebody read the audit messages or the ledger (table A.5.3.2-1)."""
    return AuditMessage(
        event_id=EventId.AUDIT_LOG_USED,
        action=Action.READ,
        at=at,
        outcome=Outcome.SUCCESS,
        participants=(reader,),
        source=source,
        objects=(
            ParticipantObject(
                object_id=uri,
                id_type=ObjectIdType.URI,
                object_type=ObjectType.SYSTEM_OBJECT,
                role=ObjectRole.SECURITY_RESOURCE,
                name="Security Audit Log",
            ),
        ),
    )


def begin_transferring(
    at: datetime,
    source: AuditSource,
    *,
    participants: Sequence[Participant],
    objects: Sequence[ParticipantObject],
) -> AuditMessage:
    """Instances of one patient begin to be sent (table A.5.3.3-1)."""
    return AuditMessage(
        event_id=EventId.BEGIN_TRANSFERRING,
        action=Action.EXECUTE,
        at=at,
        outcome=Outcome.SUCCESS,
        participants=tuple(participants),
        source=source,
        objects=tuple(objects),
    )


def export(
    at: datetime,
    source: AuditSource,
    *,
    exporter: Participant,
    medium: MediaType,
    to: str,
    objects: Sequence[ParticipantObject],
) -> AuditMessage:
    """Data leave the system's control (table A.5.3.4-1).

    Args:
        at: When.
        source: Who reports.
        exporter: The user or process that had it done.
        medium: On what they leave.
        to: Its label or URI.
        objects: Studies and patient.
    """
    return AuditMessage(
        event_id=EventId.EXPORT,
        action=Action.READ,
        at=at,
        outcome=Outcome.SUCCESS,
        participants=(
            exporter,
            Participant(user_id=to, is_requestor=False, role=Role.DESTINATION_MEDIA, medium=medium),
        ),
        source=source,
        objects=tuple(objects),
    )


def import_(
    at: datetime,
    source: AuditSource,
    *,
    importer: Participant,
    medium: MediaType,
    origin: str,
    objects: Sequence[ParticipantObject],
) -> AuditMessage:
    """Data come in from beyond the system's control (table A.5.3.5-1); arguments as of ``export``."""
    return AuditMessage(
        event_id=EventId.IMPORT,
        action=Action.CREATE,
        at=at,
        outcome=Outcome.SUCCESS,
        participants=(
            importer,
            Participant(user_id=origin, is_requestor=False, role=Role.SOURCE_MEDIA, medium=medium),
        ),
        source=source,
        objects=tuple(objects),
    )


def instances_accessed(
    at: datetime,
    source: AuditSource,
    *,
    action: Action,
    participants: Sequence[Participant],
    objects: Sequence[ParticipantObject],
) -> AuditMessage:
    """Instances of one patient were made, used, changed or deleted (table A.5.3.6-1)."""
    return AuditMessage(
        event_id=EventId.INSTANCES_ACCESSED,
        action=action,
        at=at,
        outcome=Outcome.SUCCESS,
        participants=tuple(participants),
        source=source,
        objects=tuple(objects),
    )


def instances_transferred(
    at: datetime,
    source: AuditSource,
    *,
    action: Action,
    participants: Sequence[Participant],
    objects: Sequence[ParticipantObject],
    outcome: Outcome = Outcome.SUCCESS,
    description: str = "",
) -> AuditMessage:
    """Instances of one patient were sent from one node to another, or were to be (table A.5.3.7-1).

    Args:
        at: When it ended.
        source: Who reports.
        action: CREATE when the receiver did not hold them, READ when it did or that is not known.
        participants: Sender and receiver, in the roles SOURCE and DESTINATION.
        objects: Studies and patient.
        outcome: Of the transfer.
        description: Why it failed; "" for a success.
    """
    return AuditMessage(
        event_id=EventId.INSTANCES_TRANSFERRED,
        action=action,
        at=at,
        outcome=outcome,
        outcome_description=description,
        participants=tuple(participants),
        source=source,
        objects=tuple(objects),
    )


def study_deleted(
    at: datetime,
    source: AuditSource,
    *,
    deleter: Participant,
    objects: Sequence[ParticipantObject],
) -> AuditMessage:
    """A study and all it holds were deleted (table A.5.3.8-1)."""
    return AuditMessage(
        event_id=EventId.STUDY_DELETED,
        action=Action.DELETE,
        at=at,
        outcome=Outcome.SUCCESS,
        participants=(deleter,),
        source=source,
        objects=tuple(objects),
    )


def network_entry(
    at: datetime, source: AuditSource, *, entering: Participant, kind: EventType
) -> AuditMessage:
    """A node attached itself to the network or left it (table A.5.3.9-1)."""
    return AuditMessage(
        event_id=EventId.NETWORK_ENTRY,
        event_types=(kind,),
        action=Action.EXECUTE,
        at=at,
        outcome=Outcome.SUCCESS,
        participants=(entering,),
        source=source,
    )


def query(
    at: datetime,
    source: AuditSource,
    *,
    participants: Sequence[Participant],
    sop_class_uid: str,
    identifier: bytes,
    transfer_syntax_uid: str,
) -> AuditMessage:
    """A query was asked (table A.5.3.10-1).

    Args:
        at: When.
        source: Who reports.
        participants: Who asks (SOURCE) and who answers (DESTINATION).
        sop_class_uid: Of the query.
        identifier: The query's data set, encoded; for DICOMweb the URL.
        transfer_syntax_uid: In which it is encoded; "" for none.
    """
    details = {"TransferSyntax": transfer_syntax_uid.encode("ascii")} if transfer_syntax_uid else {}
    return AuditMessage(
        event_id=EventId.QUERY,
        action=Action.EXECUTE,
        at=at,
        outcome=Outcome.SUCCESS,
        participants=tuple(participants),
        source=source,
        objects=(
            ParticipantObject(
                object_id=sop_class_uid,
                id_type=ObjectIdType.SOP_CLASS_UID,
                object_type=ObjectType.SYSTEM_OBJECT,
                role=ObjectRole.REPORT,
                query=identifier,
                details=details,
            ),
        ),
    )


def security_alert(
    at: datetime,
    source: AuditSource,
    *,
    kind: EventType,
    participants: Sequence[Participant],
    subject: str,
    description: str,
    outcome: Outcome,
) -> AuditMessage:
    """Something of concern to the node's security (table A.5.3.11-1).

    Args:
        at: When.
        source: Who reports.
        kind: Of alert.
        participants: Who reports, then who did it.
        subject: Node it is about: its address or name.
        description: What happened.
        outcome: SUCCESS for what is only to be known.
    """
    return AuditMessage(
        event_id=EventId.SECURITY_ALERT,
        event_types=(kind,),
        action=Action.EXECUTE,
        at=at,
        outcome=outcome,
        outcome_description="" if outcome is Outcome.SUCCESS else description,
        participants=tuple(participants),
        source=source,
        objects=(
            ParticipantObject(
                object_id=subject or "unknown",
                id_type=ObjectIdType.NODE_ID,
                object_type=ObjectType.SYSTEM_OBJECT,
                details={"Alert Description": description.encode()},
            ),
        ),
    )


def user_authentication(
    at: datetime,
    source: AuditSource,
    *,
    user: Participant,
    authenticator: Participant,
    kind: EventType,
    outcome: Outcome,
) -> AuditMessage:
    """A user logged in or out, or tried to (table A.5.3.12-1)."""
    return AuditMessage(
        event_id=EventId.USER_AUTHENTICATION,
        event_types=(kind,),
        action=Action.EXECUTE,
        at=at,
        outcome=outcome,
        participants=(user, authenticator),
        source=source,
    )
