"""Ledger and audit messages: from a real association to a real syslog server, and what tampering shows."""

from __future__ import annotations

import threading
from base64 import b64decode
from collections.abc import Iterator
from io import BytesIO
from uuid import UUID

import psycopg
import pytest
from lxml import etree
from psycopg.types.json import Jsonb
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom.dsutils import decode
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from dicom_node.acceptor.scp import Node
from dicom_node.readers import VERIFICATION
from service.audit.from_ledger import MAKERS
from service.audit.trail import Fault, seal_pending, verify
from service.audit.transfers import record_begin
from service.config import Settings
from service.database import instances, ledger
from service.database.pool import Pool, transaction
from service.database.sealing import seals
from service.database.sealing.seals import Head
from service.peers import AdmittedPeer, Destination
from service.records import Delivery, DeliveryState, LedgerEvent
from service.stack.waiting import wait_until
from service.storage.local import InstanceStore
from tests import dicom_objects
from tests.audit import kept, kinds, received
from tests.dicom_objects import associate, photograph
from tests.nodes import running


@pytest.fixture
def node(settings: Settings, pool: Pool, store: InstanceStore) -> Iterator[Node]:
    with running(settings, pool, store) as started:
        yield started


def look(pool: Pool, checkpoint: Head | None = None) -> tuple[Fault, ...]:
    with transaction(pool) as connection:
        return verify(connection, checkpoint).faults


def test_what_a_camera_sends_is_told_from_association_to_receipt(
    node: Node, pool: Pool, settings: Settings
) -> None:
    sent = [photograph(seed=i) for i in range(3)]
    for ds in sent:
        ds.StudyInstanceUID = sent[0].StudyInstanceUID
        ds.IssuerOfPatientID = "HOSPITAL"
    association = associate(node.port)
    assert [association.send_c_store(ds).Status for ds in (*sent, sent[0])] == [0] * 4
    association.release()
    wait_until(lambda: chain(pool, sent[0].SOPInstanceUID)[0] == "associated", timeout_s=30, what="its line")
    seal_pending(pool, settings)
    found = kept(pool)
    assert sorted(kinds(found)) == [
        ("DICOM Instances Transferred", "0"),
        ("DICOM Instances Transferred", "0"),
        ("Security Alert", "0"),
    ]
    new, again = [each for each in found if each.find(".//EventID").get("csd-code") == "110104"]
    assert (new[0].get("EventActionCode"), again[0].get("EventActionCode")) == ("C", "R")
    assert new.xpath("//SOPClass/@NumberOfInstances") == ["3"]
    assert new.xpath("//SOPClass/Instance/@UID") == [str(ds.SOPInstanceUID) for ds in sent]
    assert new.xpath("//@ParticipantObjectID") == [sent[0].StudyInstanceUID, "P1^^^HOSPITAL"]
    assert new.xpath("//ActiveParticipant/@AlternativeUserID") == ["AETITLES=CAMERA", "AETITLES=SEMBLANCE"]
    assert "Doe" not in etree.tostring(new, encoding="unicode")  # a name is not asked for


def chain(pool: Pool, uid: str) -> list[str]:
    with transaction(pool) as connection:
        return [entry.event.value for entry in ledger.chain(connection, uid)]


def test_an_echo_alone_leaves_no_line(settings: Settings, pool: Pool, store: InstanceStore) -> None:
    with running(settings, pool, store) as node:
        association = associate(node.port, (VERIFICATION, ImplicitVRLittleEndian))
        assert association.send_c_echo().Status == 0
        association.release()
    with transaction(pool) as connection:
        assert ledger.latest(connection, 1) == []


def test_refusals_are_alerts_with_who_and_why(settings: Settings, pool: Pool, store: InstanceStore) -> None:
    closed = settings.model_copy(update={"dicom_admitted_peers": (AdmittedPeer(ae_title="OTHER"),)})
    with running(closed, pool, store) as node:
        assert associate(node.port).is_rejected
    bad = photograph()
    del bad.StudyInstanceUID
    with running(settings, pool, store) as node:
        assert dicom_objects.store(node.port, bad).Status == 0xA900
    seal_pending(pool, settings)
    alerts = [each for each in kept(pool) if each[0].get("EventOutcomeIndicator") == "8"]
    assert kinds(alerts) == [("Security Alert", "8")] * 2
    rejected, refused = alerts
    assert "Calling AE title not recognised" in (rejected.findtext(".//EventOutcomeDescription") or "")
    assert "study_instance_uid is missing" in (refused.findtext(".//EventOutcomeDescription") or "")
    assert rejected.xpath("//ActiveParticipant/@AlternativeUserID")[-1] == "AETITLES=CAMERA"
    assert rejected.xpath("//@ParticipantObjectID") == ["127.0.0.1"]


def test_what_becomes_of_a_photograph_is_told(pool: Pool, settings: Settings) -> None:
    destination = Destination(name="pacs", ae_title="PACS", host="pacs.example", port=104)
    chosen = settings.model_copy(update={"destinations": (destination,)})
    received(pool, "1.2.3")
    details = {
        LedgerEvent.APPRAISED: {},
        LedgerEvent.REPORTED: {},
        LedgerEvent.DELIVERY_FAILED: {"destination": "pacs", "result": "2.25.1", "error": "no association"},
        LedgerEvent.DELIVERED: {"destination": "pacs", "result": "2.25.1"},
        LedgerEvent.COMMITTED: {"destination": "pacs", "result": "2.25.1"},
        LedgerEvent.QUARANTINED: {"calling_ae_title": "CAMERA"},
    }
    with transaction(pool) as connection:
        instance = instances.by_uid(connection, "1.2.3")
        assert instance is not None
        for event, detail in details.items():
            ledger.append(
                connection, event, instance_id=instance.instance_id, sop_instance_uid="1.2.3", detail=detail
            )
    seal_pending(pool, chosen)
    found = kept(pool)
    assert kinds(found) == [
        ("DICOM Instances Transferred", "0"),
        ("DICOM Instances Accessed", "0"),
        ("DICOM Instances Accessed", "0"),
        ("DICOM Instances Transferred", "4"),
        ("DICOM Instances Transferred", "0"),
        ("DICOM Instances Transferred", "8"),
    ]
    assert [each[0].get("EventActionCode") for each in found] == ["C", "R", "C", "R", "R", "R"]
    sent = found[4]
    assert sent.xpath("//ActiveParticipant[2]/@NetworkAccessPointID") == ["pacs.example"]
    assert sent.xpath("//Instance/@UID") == ["2.25.1"]


def test_a_query_is_told_with_its_identifier(settings: Settings, pool: Pool, store: InstanceStore) -> None:
    asked = Dataset()
    asked.QueryRetrieveLevel, asked.PatientID, asked.StudyInstanceUID = "STUDY", "P1", ""
    known = settings.model_copy(update={"dicom_query_ae_titles": ("CAMERA",)})
    with running(known, pool, store) as node:
        assert dicom_objects.store(node.port, photograph()).Status == 0
        association = associate(
            node.port, (StudyRootQueryRetrieveInformationModelFind, ImplicitVRLittleEndian), calling="CAMERA"
        )
        answers = list(association.send_c_find(asked, StudyRootQueryRetrieveInformationModelFind))
        association.release()
    assert [status.Status for status, _ in answers] == [0xFF00, 0x0000]
    (query,) = [each for each in kept(pool) if each.find(".//EventID").get("csd-code") == "110112"]
    identifier = BytesIO(b64decode(query.findtext(".//ParticipantObjectQuery") or ""))
    assert b64decode(query.xpath("//ParticipantObjectDetail/@value")[0]).decode() == ImplicitVRLittleEndian
    assert decode(identifier, True, True).PatientID == "P1"
    assert query.xpath("//@ParticipantObjectID") == [StudyRootQueryRetrieveInformationModelFind]
    assert query.xpath("//ActiveParticipant/@AlternativeUserID") == ["AETITLES=CAMERA", "AETITLES=SEMBLANCE"]


def test_a_delivery_is_told_before_it_is_attempted(pool: Pool, settings: Settings) -> None:
    received(pool, "1.2.3")
    with transaction(pool) as connection:
        instance = instances.by_uid(connection, "1.2.3")
        assert instance is not None
        delivery = Delivery(
            delivery_id=1, instance_id=instance.instance_id, appraisal_id=UUID(int=1), destination="pacs",
            sop_class_uid="1.2.840.10008.5.1.4.1.1.7", sop_instance_uid="2.25.7", sha256="",
            state=DeliveryState.PENDING, attempts=0, next_attempt_at=instance.received_at, last_error="",
        )  # fmt: skip
        pacs = Destination(name="pacs", ae_title="PACS", host="pacs.example", port=104)
        record_begin(connection, delivery, settings.model_copy(update={"destinations": (pacs,)}))
    (begun,) = kept(pool)
    assert kinds([begun]) == [("Begin Transferring DICOM Instances", "0")]
    assert begun.xpath("//Instance/@UID") == ["2.25.7"]
    assert begun.xpath("//ActiveParticipant/@AlternativeUserID") == ["AETITLES=SEMBLANCE", "AETITLES=PACS"]


def test_every_event_of_the_ledger_has_its_message_or_a_reason_not_to() -> None:
    without = {
        LedgerEvent.COMMITTED,  # annex A.5 has none
        LedgerEvent.RETRIED,
        LedgerEvent.DEAD,
        LedgerEvent.MISSING,
        LedgerEvent.QUERIED,  # made where the identifier is known
        LedgerEvent.KEPT,  # told as received
        LedgerEvent.RESULT_WITHDRAWN,  # a FHIR AuditEvent
        LedgerEvent.NOTE_TAKEN,  # what it took back is told
        LedgerEvent.NOTE_LIFTED,  # what comes again is told
        # Of whose a photograph is: in the ledger and as FHIR AuditEvents; annex A.5 has none.
        LedgerEvent.CORRECTED,
        LedgerEvent.QUARANTINE_ENDED,
        LedgerEvent.PATIENTS_MIXED,
        LedgerEvent.PATIENTS_SORTED,
        LedgerEvent.PATIENT_LINKED,
        LedgerEvent.PATIENT_UNLINKED,
        # Of the dashboard: in the ledger and as FHIR AuditEvents.
        LedgerEvent.SEARCHED,
        LedgerEvent.ACTED,
        LedgerEvent.EXPORTED,
    }
    assert set(MAKERS) | without == set(LedgerEvent)
    assert not set(MAKERS) & without


def test_a_line_gives_its_messages_once_though_several_relays_look(pool: Pool, settings: Settings) -> None:
    received(pool, *(f"1.2.{i}" for i in range(30)))
    threads = [threading.Thread(target=seal_pending, args=(pool, settings)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: not seal_pending(pool, settings), timeout_s=30, what="everything to be sealed")
    assert sum(int(n) for each in kept(pool) for n in each.xpath("//SOPClass/@NumberOfInstances")) == 30
    assert look(pool) == ()


@pytest.mark.parametrize(
    "detail",
    [
        {"occurred_at": "yesterday"},
        {"occurred_at": "0001-01-01T00:00:00+14:00"},  # before the first year in UTC
        {"calling_ae_title": 7},
        {"association": ["one", "two"]},
        ["a", "list"],
        "text",
    ],
)
def test_a_line_no_message_can_be_made_of_does_not_stop_the_chain(
    pool: Pool, settings: Settings, detail: object
) -> None:
    received(pool, "1.2.1")
    with psycopg.connect(settings.database_url) as connection:
        row = connection.execute(
            "INSERT INTO ledger (sop_instance_uid, event, detail) VALUES ('1.2.9', 'received', %s)"
            " RETURNING ledger_id",
            (Jsonb(detail),),
        ).fetchone()
    assert row is not None
    received(pool, "1.2.2")
    seal_pending(pool, settings)
    assert not seal_pending(pool, settings) or not seal_pending(pool, settings)
    found = kept(pool)
    assert sorted(kinds(found)) == [
        ("DICOM Instances Transferred", "0"),
        ("Security Alert", "8"),
    ]
    assert {uid for each in found for uid in each.xpath("//Instance/@UID")} == {"1.2.1", "1.2.2"}
    (said,) = (text for each in found for text in each.xpath("//EventOutcomeDescription/text()"))
    assert said == f"ledger line {row[0]} (received): no audit message can be made of it"
    with transaction(pool) as connection:
        verdict = verify(connection)
    assert (verdict.waiting, verdict.faults) == (0, ())


def test_long_studies_become_several_messages_of_bounded_size(pool: Pool, settings: Settings) -> None:
    received(pool, *(f"1.2.826.0.1.3680043.8.498.{i:038d}" for i in range(120)))
    seal_pending(pool, settings)
    found = kept(pool)
    assert [each.xpath("//SOPClass/@NumberOfInstances") for each in found] == [["100"], ["20"]]
    assert all(len(etree.tostring(each)) < 32_768 for each in found)  # PS3.15 section A.6


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger SET event = 'received'",
        "DELETE FROM ledger",
        "TRUNCATE ledger CASCADE",
        "UPDATE audit_message SET outcome = 0",
        "DELETE FROM audit_message",
        "TRUNCATE audit_message",
        "UPDATE seal SET digest = ''",
        "DELETE FROM seal",
        "TRUNCATE seal",
    ],
)
def test_the_database_refuses_changes(pool: Pool, settings: Settings, statement: str) -> None:
    received(pool, "1.2.3")
    seal_pending(pool, settings)
    with (
        psycopg.connect(settings.database_url) as connection,
        pytest.raises(psycopg.errors.RaiseException, match="append-only"),
    ):
        connection.execute(statement)


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        ("UPDATE ledger SET sop_instance_uid = '6.6.6' WHERE ledger_id = 2", ("ledger", 2, "changed")),
        ("UPDATE ledger SET detail = '{}' WHERE ledger_id = 1", ("ledger", 1, "changed")),
        ("UPDATE ledger SET at = at + interval '1 us' WHERE ledger_id = 1", ("ledger", 1, "changed")),
        ("DELETE FROM ledger WHERE ledger_id = 3", ("ledger", 3, "deleted")),
        ("UPDATE audit_message SET message = replace(message, '1.2.1', '6.6.6')", ("audit", 1, "changed")),
        ("UPDATE seal SET digest = sha256('x') WHERE position = 2", ("ledger", 2, "changed")),
        ("DELETE FROM seal WHERE position = 1", ("seal", 1, "missing")),
        ("DELETE FROM seal WHERE position = 7", ("seal", 7, "the chain ends before the checkpoint")),
        ("DELETE FROM seal_pending", ("ledger", 4, "never sealed")),
    ],
)
def test_what_is_changed_behind_the_triggers_shows(
    pool: Pool, settings: Settings, tampering: str, found: tuple[str, int, str]
) -> None:
    received(pool, "1.2.1", "1.2.2", "1.2.3")
    seal_pending(pool, settings)
    seal_pending(pool, settings)
    with transaction(pool) as connection:
        checkpoint = seals.head(connection)
    assert checkpoint.position == 7  # three lines, three photographs, one message
    received(pool, "1.2.4")  # not sealed yet
    assert look(pool, checkpoint) == ()
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")  # as a superuser can: no triggers
        connection.execute(tampering)
    source, row_id, what = found
    assert Fault(source=source, row_id=row_id, what=what) in look(pool, checkpoint)


def test_a_chain_made_anew_is_not_the_one_that_was_noted(pool: Pool, settings: Settings) -> None:
    """Whoever may change everything can seal it again; not so that an old checkpoint fits."""
    received(pool, "1.2.1", "1.2.2")
    seal_pending(pool, settings)
    with transaction(pool) as connection:
        checkpoint = seals.head(connection)
    with psycopg.connect(settings.database_url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE ledger SET detail = '{}' WHERE ledger_id = 1")
        connection.execute("DELETE FROM seal")
        connection.execute("DELETE FROM seal_pending")
        connection.execute("INSERT INTO seal_pending SELECT 'ledger', ledger_id FROM ledger")
        connection.execute("INSERT INTO seal_pending SELECT 'instance', instance_id, '1' FROM instance")
    seal_pending(pool, settings)
    found = look(pool, checkpoint)
    assert Fault(source="seal", row_id=checkpoint.position, what="not the checkpoint's digest") in found
