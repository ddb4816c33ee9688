"""What a PACS sends is what is kept, and what results and FHIR say of it: text, times, identity, bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dsutils import encode

from dicom_node.acceptor.scp import Node
from reporting.fhir.builders.subject import patient_id
from reporting.fhir.database import resources as fhir_resources
from reporting.report import report
from reporting.source import default_zone, read_source
from service.config import Settings
from service.database import appraisals, instances
from service.database.delivery import deliveries
from service.database.pool import Pool, transaction
from service.peers import Destination
from service.pipeline.context import Context
from service.records import Instance, InstanceState
from service.storage.local import InstanceStore
from tests import dicom_objects
from tests.dicom_objects import send_raw
from tests.orthanc import Orthanc
from tests.unit.reporting.charsets import CHARSETS
from tests.unit.reporting.photographs import photograph, rejected
from tests.waiting import wait_until

WANTED = ("latin-1", "latin-2", "utf-8", "japanese", "korean", "gb18030")


@pytest.fixture
def context(settings: Settings, pool: Pool, store: InstanceStore) -> Context:
    pacs = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
    configured = settings.model_copy(update={"destinations": (pacs,), "timezone": "Europe/Berlin"})
    return Context(settings=configured, pool=pool, store=store)


@pytest.fixture
def orthanc(node: Node, tmp_path: Path) -> Iterator[Orthanc]:
    modalities = {"semblance": ("SEMBLANCE", "127.0.0.1", node.port)}
    with Orthanc(tmp_path / "orthanc", modalities) as running:
        yield running


def kept(context: Context, uid: str) -> Instance | None:
    with transaction(context.pool) as connection:
        return instances.by_uid(connection, uid)


def resource(context: Context, kind: str, resource_id: str) -> dict[str, Any]:
    with transaction(context.pool) as connection:
        stored = fhir_resources.read(connection, kind, resource_id)
    assert stored is not None
    return json.loads(stored.body)


def reported(context: Context, instance: Instance) -> Dataset:
    """Report a photograph that could not be judged; returns its structured report."""
    appraisal = replace(
        rejected().appraisal, sop_instance_uid=instance.sop_instance_uid, appraisal_id=uuid4()
    )
    with transaction(context.pool) as connection:
        appraisals.save(
            connection,
            instance_id=instance.instance_id,
            appraisal=appraisal,
            heatmap_sha256="",
            difference_map_sha256="",
        )
        instances.set_state(connection, instance.instance_id, InstanceState.APPRAISED)
    report(context, instance.instance_id)
    with transaction(context.pool) as connection:
        (delivery,) = deliveries.for_instance(connection, instance.instance_id)
    return dcmread(BytesIO(context.store.read(delivery.sha256)))


def patient_of(context: Context, instance: Instance) -> dict[str, Any]:
    source = read_source(context.store.read(instance.sha256), default_zone("Europe/Berlin"))
    return resource(context, "Patient", patient_id(source.identity))


@pytest.mark.peers("Orthanc")
def test_names_in_every_character_set_from_a_pacs_to_fhir(context: Context, orthanc: Orthanc) -> None:
    sent: dict[str, str] = {}
    for number, name in enumerate(WANTED, 1):
        charset, sent[name] = CHARSETS[name], f"2.25.10{number}"
        content = photograph(
            SpecificCharacterSet=charset.declared,
            PatientName=charset.patient_name,
            PatientID=charset.patient_id,
            IssuerOfPatientID=name,  # some have the same ID
            SOPInstanceUID=sent[name],
            StudyInstanceUID=f"2.25.20{number}",
            SeriesInstanceUID=f"2.25.30{number}",
        )
        orthanc.upload(content)
    orthanc.send("semblance", *orthanc.get("/instances"))
    for name in WANTED:
        charset = CHARSETS[name]
        instance = kept(context, sent[name])
        assert instance is not None
        assert instance.patient_id == charset.patient_id
        source = dcmread(BytesIO(context.store.read(instance.sha256)))
        result = reported(context, instance)
        assert result.get_item("PatientName").value == source.get_item("PatientName").value  # as encoded
        assert str(result.PatientName).rstrip("=") == charset.patient_name.rstrip("=")
        assert result.PatientID == charset.patient_id
        patient = patient_of(context, instance)
        expected = [part.split("^") for part in charset.patient_name.split("=") if part.strip("^")]
        assert [[each["family"], *each["given"]] for each in patient["name"]] == expected
        assert patient["identifier"][0]["value"] == charset.patient_id


def test_the_same_id_of_two_issuers_is_two_patients(context: Context, node: Node) -> None:
    patients = []
    for number, issuer in enumerate(("HOSPITAL-A", "HOSPITAL-B"), 1):
        ds = dcmread(BytesIO(photograph(
            IssuerOfPatientID=issuer, SOPInstanceUID=f"2.25.{number}", StudyInstanceUID=f"2.25.2{number}"
        )))  # fmt: skip
        assert dicom_objects.store(node.port, ds).Status == 0x0000
        instance = kept(context, ds.SOPInstanceUID)
        assert instance is not None
        assert instance.issuer_of_patient_id == issuer
        assert reported(context, instance).IssuerOfPatientID == issuer
        patients.append(patient_of(context, instance))
    one, other = patients
    assert one["id"] != other["id"]
    assert one["identifier"][0]["value"] == other["identifier"][0]["value"]
    assert one["identifier"][0]["system"] != other["identifier"][0]["system"]
    assert [each["identifier"][0]["assigner"]["display"] for each in patients] == ["HOSPITAL-A", "HOSPITAL-B"]


@pytest.mark.parametrize("systems", [{}, {"": "urn:oid:1.2.3"}])
def test_the_same_id_of_two_universal_issuers_is_two_patients(
    context: Context, node: Node, systems: dict[str, str]
) -> None:
    """Issuers named in (0010,0024) alone; a number without an issuer is a third patient's."""
    settings = context.settings.model_copy(update={"fhir_identifier_systems": systems})
    context = replace(context, settings=settings)
    patients = []
    for number, issuer in enumerate(("1.2.276.0.76", "1.2.276.0.77", ""), 1):
        qualifiers = Dataset()
        qualifiers.UniversalEntityID, qualifiers.UniversalEntityIDType = issuer, "ISO"
        ds = dcmread(BytesIO(photograph(
            IssuerOfPatientID=None, IssuerOfPatientIDQualifiersSequence=[qualifiers] if issuer else None,
            SOPInstanceUID=f"2.25.{number}", StudyInstanceUID=f"2.25.2{number}",
        )))  # fmt: skip
        assert dicom_objects.store(node.port, ds).Status == 0x0000
        instance = kept(context, ds.SOPInstanceUID)
        assert instance is not None
        reported(context, instance)
        patients.append(patient_of(context, instance))
    assert len({each["id"] for each in patients}) == 3
    assert [each["identifier"][0].get("system", "") for each in patients] == [
        "urn:oid:1.2.276.0.76", "urn:oid:1.2.276.0.77", systems.get("", "")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        ("+0530", datetime(2026, 3, 28, 20, 0, tzinfo=UTC)),
        ("-0330", datetime(2026, 3, 29, 5, 0, tzinfo=UTC)),
        (None, datetime(2026, 3, 29, 0, 30, tzinfo=UTC)),  # Berlin, before the clocks went forward
    ],
)
def test_every_time_is_in_the_photographs_zone(
    context: Context, node: Node, offset: str | None, expected: datetime
) -> None:
    ds = dcmread(BytesIO(photograph(TimezoneOffsetFromUTC=offset)))
    assert dicom_objects.store(node.port, ds).Status == 0x0000
    instance = kept(context, ds.SOPInstanceUID)
    assert instance is not None
    result = reported(context, instance)
    with transaction(context.pool) as connection:
        saved = appraisals.for_instance(connection, instance.instance_id)[0]
        rows = connection.execute(
            "SELECT type, fhir_text(template_id, body) AS body FROM fhir_resource"
        ).fetchall()
    bodies = {row["type"]: json.loads(row["body"]) for row in rows}
    derived = {
        "Observation": "effectiveDateTime",
        "DiagnosticReport": "effectiveDateTime",
        "ImagingStudy": "started",
        "Media": "createdDateTime",
    }
    for kind, name in derived.items():
        assert datetime.fromisoformat(bodies[kind][name]) == expected, kind
    source = read_source(context.store.read(instance.sha256), default_zone("Europe/Berlin"))
    zone = source.identity.acquired_at.tzinfo if source.identity.acquired_at else None
    here = saved.created_at.astimezone(zone)
    assert result.ContentDate == f"{here:%Y%m%d}"
    assert str(result.ContentTime).startswith(f"{here:%H%M%S}")
    assert result.get("TimezoneOffsetFromUTC") == offset


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_private_elements_and_unknown_vrs_are_kept_bit_for_bit(
    context: Context, node: Node, syntax: str
) -> None:
    ds = dicom_objects.photograph(transfer_syntax=ExplicitVRLittleEndian)
    encoded = encode(ds, syntax == ImplicitVRLittleEndian, True)
    assert encoded is not None
    strange = _strange_elements(implicit=syntax == ImplicitVRLittleEndian)
    position = encoded.index(struct.pack("<HH", 0x0010, 0x0010))  # before Patient's Name
    data_set = encoded[:position] + strange + encoded[position:]
    assert send_raw(node.port, ds, data_set=data_set, transfer_syntax=syntax) == 0x0000
    instance = kept(context, ds.SOPInstanceUID)
    assert instance is not None
    content = context.store.read(instance.sha256)
    assert content.endswith(data_set)
    assert len(content) - len(data_set) < 600  # the header before it
    assert instance.size_bytes == len(content)


def _strange_elements(*, implicit: bool) -> bytes:
    """A private block of odd bytes, a VR of the future, trailing padding of the wrong kind."""
    creator = struct.pack("<HH", 0x0009, 0x0010)
    odd, future = struct.pack("<HH", 0x0009, 0x1001), struct.pack("<HH", 0x0009, 0x1002)
    if implicit:
        return (
            creator + struct.pack("<I", 8) + b"SOMEONE\0"
            + odd + struct.pack("<I", 4) + b"\x00\xff\xfe\x01"
            + future + struct.pack("<I", 6) + b"  \0\0 \0"
        )  # fmt: skip
    return (
        creator + b"LO" + struct.pack("<H", 8) + b"SOMEONE\0"
        + odd + b"UN\0\0" + struct.pack("<I", 4) + b"\x00\xff\xfe\x01"
        + future + b"ZZ\xab\xcd" + struct.pack("<I", 6) + b"  \0\0 \0"
    )  # fmt: skip


@pytest.mark.peers("Orthanc")
def test_a_pacs_that_sends_other_pixels_under_a_known_uid_is_told(context: Context, orthanc: Orthanc) -> None:
    first = dcmread(BytesIO(photograph()))
    changed = dcmread(BytesIO(photograph(PatientID="SOMEBODY-ELSE", jpeg=False)))
    changed.PixelData = bytes(len(changed.PixelData))
    port = context_port(orthanc)
    assert dicom_objects.store(port, first).Status == 0x0000
    buffer = BytesIO()
    changed.save_as(buffer, enforce_file_format=True)
    orthanc_id = orthanc.upload(buffer.getvalue())
    answer = orthanc.client.post("/modalities/semblance/store", content=json.dumps(orthanc_id).encode())
    assert answer.status_code >= 400
    wait_until(lambda: quarantined(context) == 1, timeout_s=20, what="the quarantine")
    instance = kept(context, first.SOPInstanceUID)
    assert instance is not None
    assert instance.patient_id == first.PatientID


def context_port(orthanc: Orthanc) -> int:
    return int(orthanc.configuration["DicomModalities"]["semblance"][2])


def quarantined(context: Context) -> int:
    with transaction(context.pool) as connection:
        return instances.quarantined(connection)
