"""Audit messages against the schema of PS3.15, the codes of PS3.16, and hostile text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from pydicom.sr.codedict import codes
from pydicom.uid import VLPhotographicImageStorage

from service.audit import events
from service.audit.codes import Action, EventId, EventType, MediaType, ObjectIdType, Outcome, Role
from service.audit.message import AuditMessage, AuditSource, Participant, SopClassCount
from tests.audit import faults

AT = datetime(2026, 3, 1, 12, 30, 15, 123456, timezone(timedelta(hours=2)))
SOURCE = AuditSource(source_id="SEMBLANCE", enterprise_site_id="Clinic")
CAMERA = events.node("CAMERA", "10.1.2.3", role=Role.SOURCE, is_requestor=True)
NODE = events.node("SEMBLANCE", "node.hospital.example", role=Role.DESTINATION, is_requestor=False)
OBJECTS = (
    events.study(
        "1.2.3",
        [
            SopClassCount(
                sop_class_uid=VLPhotographicImageStorage,
                number_of_instances=2,
                sop_instance_uids=("1.2.3.1", "1.2.3.2"),
            )
        ],
    ),
    events.patient("4711", "HOSPITAL"),
)
MESSAGES: dict[str, AuditMessage] = {
    "application activity": events.message(
        EventId.APPLICATION_ACTIVITY, AT, SOURCE, kind=EventType.APPLICATION_START, participants=(NODE,)
    ),
    "audit log used": events.message(
        EventId.AUDIT_LOG_USED,
        AT,
        SOURCE,
        participants=(CAMERA,),
        objects=(events.security_log("semblance:audit"),),
    ),
    "begin transferring": events.message(
        EventId.BEGIN_TRANSFERRING, AT, SOURCE, participants=(CAMERA, NODE), objects=OBJECTS
    ),
    "accessed": events.message(
        EventId.INSTANCES_ACCESSED, AT, SOURCE, action=Action.READ, participants=(NODE,), objects=OBJECTS
    ),
    "transferred": events.message(
        EventId.INSTANCES_TRANSFERRED,
        AT,
        SOURCE,
        action=Action.CREATE,
        participants=(CAMERA, NODE),
        objects=OBJECTS,
    ),
    "not transferred": events.message(
        EventId.INSTANCES_TRANSFERRED,
        AT,
        SOURCE,
        action=Action.READ,
        participants=(CAMERA, NODE),
        objects=OBJECTS,
        outcome=Outcome.MINOR_FAILURE,
        description="disk low",
    ),
    "study deleted": events.message(EventId.STUDY_DELETED, AT, SOURCE, objects=OBJECTS, participants=(NODE,)),
    "export": events.message(
        EventId.EXPORT,
        AT,
        SOURCE,
        objects=OBJECTS,
        participants=(NODE, events.media("https://ehr.example", MediaType.URI, Role.DESTINATION_MEDIA)),
    ),
    "import": events.message(
        EventId.IMPORT,
        AT,
        SOURCE,
        objects=OBJECTS,
        participants=(NODE, events.media("disc 7", MediaType.CD, Role.SOURCE_MEDIA)),
    ),
    "network entry": events.message(
        EventId.NETWORK_ENTRY, AT, SOURCE, kind=EventType.ATTACH, participants=(NODE,)
    ),
    "query": events.message(
        EventId.QUERY,
        AT,
        SOURCE,
        participants=(CAMERA, NODE),
        objects=(
            events.asked("1.2.840.10008.5.1.4.1.2.2.1", b"\x08\0\x52\0CS\x06\0STUDY ", "1.2.840.10008.1.2.1"),
        ),
    ),
    "security alert": events.message(
        EventId.SECURITY_ALERT,
        AT,
        SOURCE,
        kind=EventType.NODE_AUTHENTICATION,
        participants=(NODE, CAMERA),
        description="calling AE title not recognised",
        outcome=Outcome.SERIOUS_FAILURE,
        objects=(events.alerted("10.1.2.3", "calling AE title not recognised"),),
    ),
    "user authentication": events.message(
        EventId.USER_AUTHENTICATION,
        AT,
        SOURCE,
        kind=EventType.LOGIN,
        outcome=Outcome.SUCCESS,
        participants=(CAMERA, NODE),
    ),
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_every_message_follows_the_schema(message: AuditMessage) -> None:
    assert faults(message.xml()) == []


def test_every_kind_of_event_has_its_message() -> None:
    assert {message.event_id for message in MESSAGES.values()} == set(EventId)


@pytest.mark.parametrize(
    ("broken", "by"),
    [
        ('EventOutcomeIndicator="0"', 'EventOutcomeIndicator="1"'),
        ('EventDateTime="2026', 'EventDateTime="yesterday'),
        ("csd-code", "code"),
        ('UserIsRequestor="true"', ""),
        ("<EventID", "<Event"),
    ],
)
def test_the_schema_finds_what_is_wrong(broken: str, by: str) -> None:
    xml = MESSAGES["transferred"].xml()
    assert broken in xml
    assert faults(
        xml.replace(broken, by).replace("</EventID", f"</{'Event' if by == '<Event' else 'EventID'}")
    )


def test_time_is_universal_and_to_the_millisecond() -> None:
    assert 'EventDateTime="2026-03-01T10:30:15.123Z"' in MESSAGES["transferred"].xml()
    assert AT.astimezone(UTC).hour == 10


def test_a_patient_is_named_by_number_and_issuer_alone() -> None:
    xml = etree.fromstring(MESSAGES["transferred"].xml())
    (patient,) = xml.xpath("//*[@ParticipantObjectTypeCodeRole='1']")
    assert patient.get("ParticipantObjectID") == "4711^^^HOSPITAL"
    assert (patient.findtext("ParticipantObjectName") or "") == ""


def test_instances_are_counted_and_named() -> None:
    xml = etree.fromstring(MESSAGES["transferred"].xml())
    assert xml.xpath("//SOPClass/@NumberOfInstances") == ["2"]
    assert xml.xpath("//SOPClass/Instance/@UID") == ["1.2.3.1", "1.2.3.2"]


def test_codes_and_meanings_are_those_of_the_standard() -> None:
    """PS3.16 as pydicom has it, context groups 400 to 405."""
    known = {
        (code.value, code.meaning)
        for group in (codes.cid400, codes.cid401, codes.cid402, codes.cid403, codes.cid404, codes.cid405)
        for code in group.concepts.values()
    }
    ours = [each.code for of in (EventId, EventType, Role, ObjectIdType, MediaType) for each in of]
    assert [c for c in ours if c.scheme == "DCM" and (c.value, c.meaning) not in known] == []


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40), st.binary(max_size=40))
def test_no_text_from_outside_breaks_a_message(text: str, query: bytes) -> None:
    alert = events.message(
        EventId.SECURITY_ALERT,
        AT,
        SOURCE,
        kind=EventType.NODE_AUTHENTICATION,
        participants=(Participant(user_id=text, is_requestor=False, user_name=text, ae_title=text),),
        description=text,
        outcome=Outcome.SERIOUS_FAILURE,
        objects=(events.alerted(text, text),),
    )
    asked = events.message(
        EventId.QUERY, AT, SOURCE, participants=(CAMERA,), objects=(events.asked("1.2.3", query, ""),)
    )
    assert faults(alert.xml()) == []
    assert faults(asked.xml()) == []


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("10.0.0.1", "2"),
        ("::1", "2"),
        ("fe80::1", "2"),
        ("pacs.hospital.example", "1"),
        ("10pacs", "1"),
        ("https://pacs.example/dicom-web", "5"),
    ],
)
def test_addresses_and_names_are_told_apart(address: str, kind: str) -> None:
    assert events.access_point_type(address) == kind
