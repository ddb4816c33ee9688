"""One audit message, and its XML by the schema of DICOM PS3.15 section A.5.1."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from service.audit.codes import (
    AccessPoint,
    Action,
    Code,
    EventId,
    EventType,
    MediaType,
    ObjectIdType,
    ObjectRole,
    ObjectType,
    Outcome,
    Role,
)

# What XML 1.0 (section 2.2) has no place for.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, kw_only=True)
class AuditSource:
    """Who reports."""

    source_id: str  # AuditSourceID
    enterprise_site_id: str = ""  # AuditEnterpriseSiteID; "" leaves it out


@dataclass(frozen=True, kw_only=True)
class Participant:
    """A person, process or node that takes part in an event."""

    user_id: str
    is_requestor: bool
    role: Role | None = None
    ae_title: str = ""  # in AlternativeUserID, as PS3.15 section A.5.2.2 asks
    user_name: str = ""
    network_access_point: str = ""
    access_point_type: AccessPoint = AccessPoint.IP_ADDRESS
    medium: MediaType | None = None


@dataclass(frozen=True, kw_only=True)
class SopClassCount:
    """So many instances of one SOP class."""

    sop_class_uid: str  # "" when not known
    number_of_instances: int
    sop_instance_uids: tuple[str, ...] = ()  # named where that is of use


@dataclass(frozen=True, kw_only=True)
class ParticipantObject:
    """What an event is about."""

    object_id: str
    id_type: ObjectIdType
    object_type: ObjectType
    role: ObjectRole | None = None
    name: str = ""
    query: bytes | None = None  # in place of the name
    details: Mapping[str, bytes] = field(default_factory=dict)
    sop_classes: tuple[SopClassCount, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AuditMessage:
    """One event."""

    event_id: EventId
    action: Action
    at: datetime  # aware
    outcome: Outcome
    participants: tuple[Participant, ...]
    source: AuditSource
    event_types: tuple[EventType, ...] = ()
    outcome_description: str = ""
    objects: tuple[ParticipantObject, ...] = ()

    def xml(self) -> str:
        """The message as XML, without a declaration: it goes into UTF-8 text."""
        root = ET.Element("AuditMessage")
        self._event(root)
        for participant in self.participants:
            _participant(root, participant)
        _source(root, self.source)
        for each in self.objects:
            _object(root, each)
        return ET.tostring(root, encoding="unicode", short_empty_elements=True)

    def _event(self, root: ET.Element) -> None:
        moment = self.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        event = ET.SubElement(
            root,
            "EventIdentification",
            EventActionCode=self.action.value,
            EventDateTime=moment,
            EventOutcomeIndicator=str(self.outcome.value),
        )
        _code(event, "EventID", self.event_id.code)
        for kind in self.event_types:
            _code(event, "EventTypeCode", kind.code)
        if self.outcome_description:
            ET.SubElement(event, "EventOutcomeDescription").text = _clean(self.outcome_description)


def _clean(text: str) -> str:
    return _NOT_XML.sub("?", text)


def _code(parent: ET.Element, name: str, code: Code) -> ET.Element:
    return ET.SubElement(
        parent,
        name,
        {"csd-code": code.value, "codeSystemName": code.scheme, "originalText": code.meaning},
    )


def _participant(root: ET.Element, participant: Participant) -> None:
    attributes = {
        "UserID": _clean(participant.user_id),
        "UserIsRequestor": "true" if participant.is_requestor else "false",
    }
    if participant.ae_title:
        attributes["AlternativeUserID"] = _clean(f"AETITLES={participant.ae_title}")
    if participant.user_name:
        attributes["UserName"] = _clean(participant.user_name)
    if participant.network_access_point:
        attributes["NetworkAccessPointID"] = _clean(participant.network_access_point)
        attributes["NetworkAccessPointTypeCode"] = participant.access_point_type.value
    element = ET.SubElement(root, "ActiveParticipant", attributes)
    if participant.role is not None:
        _code(element, "RoleIDCode", participant.role.code)
    if participant.medium is not None:
        _code(ET.SubElement(element, "MediaIdentifier"), "MediaType", participant.medium.code)


def _source(root: ET.Element, source: AuditSource) -> None:
    attributes = {"AuditSourceID": _clean(source.source_id)}
    if source.enterprise_site_id:
        attributes["AuditEnterpriseSiteID"] = _clean(source.enterprise_site_id)
    element = ET.SubElement(root, "AuditSourceIdentification", attributes)
    ET.SubElement(element, "AuditSourceTypeCode", {"csd-code": "4"})  # application server process


def _object(root: ET.Element, each: ParticipantObject) -> None:
    attributes = {
        "ParticipantObjectID": _clean(each.object_id),
        "ParticipantObjectTypeCode": each.object_type.value,
    }
    if each.role is not None:
        attributes["ParticipantObjectTypeCodeRole"] = each.role.value
    element = ET.SubElement(root, "ParticipantObjectIdentification", attributes)
    _code(element, "ParticipantObjectIDTypeCode", each.id_type.code)
    if each.query is None:
        ET.SubElement(element, "ParticipantObjectName").text = _clean(each.name)
    else:
        ET.SubElement(element, "ParticipantObjectQuery").text = _base64(each.query)
    for kind, value in each.details.items():
        ET.SubElement(element, "ParticipantObjectDetail", type=kind, value=_base64(value))
    if each.sop_classes:
        _description(element, each.sop_classes)


def _description(element: ET.Element, sop_classes: tuple[SopClassCount, ...]) -> None:
    description = ET.SubElement(element, "ParticipantObjectDescription")
    for row in sop_classes:
        attributes = {"NumberOfInstances": str(row.number_of_instances)}
        if row.sop_class_uid:
            attributes["UID"] = row.sop_class_uid
        sop_class = ET.SubElement(description, "SOPClass", attributes)
        for uid in row.sop_instance_uids:
            ET.SubElement(sop_class, "Instance", UID=_clean(uid))


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")
