"""The same SOP Instance UID again: another encoding, a corrected header, other pixels."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from dicom_node.intake.group_commit import GroupCommit
from dicom_node.intake.ingest import Ingest
from dicom_node.intake.journal import Journal
from dicom_node.intake.stow import StowReceiver
from reporting.dicomweb.app import dicomweb_app
from reporting.holdings.index import catch_up
from reporting.http.server import make_api
from service.config import Settings
from service.database import instances, ledger, outbox, versions
from service.database.pool import Pool, transaction
from service.records import InstanceState, LedgerEvent
from service.storage.local import InstanceStore
from tests.command import semblance
from tests.dicom_objects import photograph
from tests.integration.reporting.dicomweb.conftest import Http, part10

Send = Callable[[Dataset], int]


@pytest.fixture
def send(settings: Settings, pool: Pool, store: InstanceStore) -> Iterator[Send]:
    """Hands an object in by STOW-RS, which goes the way of C-STORE; answers the HTTP status."""
    api = make_api(settings.model_copy(update={"api_port": 8080}))
    commit = GroupCommit(settings)
    ingest = Ingest(settings=settings, store=store, pool=pool, commit=commit, journal=Journal(pool))
    http = Http(dicomweb_app(api, StowReceiver(api.settings, ingest).begin))

    def run(ds: Dataset) -> int:
        body = b"--B\r\nContent-Type: application/dicom\r\n\r\n" + part10(ds) + b"\r\n--B--\r\n"
        kind = 'multipart/related; type="application/dicom"; boundary=B'
        return http.post("/dicom-web/studies", content=body, headers={"content-type": kind}).status_code

    yield run  # type: ignore[misc]
    commit.close()
    api.close()


def native(**attributes: object) -> Dataset:
    ds = photograph(patient_id="A", transfer_syntax=ExplicitVRLittleEndian)
    for name, value in attributes.items():
        setattr(ds, name, value)
    return ds


def events(pool: Pool, ds: Dataset) -> list[LedgerEvent]:
    with transaction(pool) as connection:
        return [each.event for each in ledger.entries(connection, ds.SOPInstanceUID)]


def version(pool: Pool, ds: Dataset) -> int:
    with transaction(pool) as connection:
        found = instances.by_uid(connection, ds.SOPInstanceUID)
    assert found is not None
    return found.version


def quarantine(pool: Pool) -> list[str]:
    with transaction(pool) as connection:
        return [str(each.quarantine_id) for each in versions.quarantined(connection)]


@pytest.mark.parametrize("syntax", [JPEGLSLossless, RLELossless, ImplicitVRLittleEndian])
def test_another_lossless_encoding_is_the_same_photograph(send: Send, pool: Pool, syntax: str) -> None:
    ds = native()
    assert send(ds) == 200
    other = deepcopy(ds)
    if syntax == ImplicitVRLittleEndian:
        other.file_meta.TransferSyntaxUID = syntax  # type: ignore[assignment]
    else:
        other.compress(syntax, generate_instance_uid=False)
    assert send(other) == 200
    assert send(other) == 200  # and known from then on
    assert send(ds) == 200
    assert version(pool, ds) == 1
    with transaction(pool) as connection:
        assert versions.quarantined(connection) == []
        assert len(outbox.take_due(connection, 10)) == 1
    assert events(pool, ds)[-2:] == [LedgerEvent.RECEIVED_AGAIN] * 2


@pytest.mark.peers("dcmdjpeg")
def test_a_jpeg_that_dcmtk_decompressed_is_the_same_photograph(
    send: Send, pool: Pool, tmp_path: Path
) -> None:
    ds = photograph()
    assert send(ds) == 200
    (tmp_path / "jpeg.dcm").write_bytes(part10(ds))
    program = shutil.which("dcmdjpeg")
    assert program is not None
    subprocess.run([program, "jpeg.dcm", "plain.dcm"], cwd=tmp_path, check=True)
    assert send(dcmread(tmp_path / "plain.dcm")) == 200
    assert version(pool, ds) == 1


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("AccessionNumber", "ACC-2"),
        ("PatientID", "B"),
        ("PatientName", "Roe^Ann"),
        ("PatientBirthDate", "20190101"),
    ],
)
def test_a_corrected_header_is_a_new_version(
    send: Send, pool: Pool, store: InstanceStore, attribute: str, value: str
) -> None:
    ds = native()
    assert send(ds) == 200
    with transaction(pool) as connection:
        outbox.delete(connection, [each.outbox_id for each in outbox.take_due(connection, 10)])
    corrected = deepcopy(ds)
    setattr(corrected, attribute, value)
    assert send(corrected) == 200
    assert version(pool, ds) == 2
    assert send(ds) == 200  # what was before does not come back
    assert version(pool, ds) == 2
    with transaction(pool) as connection:
        found = instances.by_uid(connection, ds.SOPInstanceUID)
        (due,) = outbox.take_due(connection, 10)
        (before,) = connection.execute("SELECT sha256, patient_id, version FROM instance_version").fetchall()
    assert found is not None
    assert (due.task, due.subject_id) == ("appraise", str(found.instance_id))
    assert found.state is InstanceState.RECEIVED
    assert found.patient_id == corrected.PatientID
    assert (before["patient_id"], before["version"]) == ("A", 1)
    assert store.contains(before["sha256"])
    assert events(pool, ds)[-3:] == [
        LedgerEvent.QUARANTINED, LedgerEvent.CORRECTED, LedgerEvent.RECEIVED_AGAIN
    ]  # fmt: skip


def test_the_index_follows_a_correction(send: Send, pool: Pool, store: InstanceStore) -> None:
    ds = native()
    assert send(ds) == 200
    assert catch_up(pool, store, 60)
    corrected = deepcopy(ds)
    corrected.PatientID = "B"
    assert send(corrected) == 200
    assert catch_up(pool, store, 60)
    with transaction(pool) as connection:
        rows = connection.execute(
            "SELECT attributes #>> '{00100020,Value,0}' AS number FROM held_study"
        ).fetchall()
        held = connection.execute("SELECT count(*) AS n FROM held_instance").fetchone()
    assert [row["number"] for row in rows] == ["B"]
    assert held is not None
    assert held["n"] == 1


def changed_pixel(ds: Dataset) -> Dataset:
    other = deepcopy(ds)
    pixels = bytearray(other.PixelData)
    pixels[100] ^= 1
    other.PixelData = bytes(pixels)
    return other


def test_other_pixels_are_quarantined_until_somebody_decides(
    send: Send,
    pool: Pool,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ds = native()
    assert send(ds) == 200
    other, third = changed_pixel(ds), changed_pixel(changed_pixel(ds))
    third.PixelData = bytes(reversed(third.PixelData))
    assert send(other) == 409
    assert send(third) == 409
    assert version(pool, ds) == 1
    monkeypatch.setenv("SEMBLANCE_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("SEMBLANCE_STORAGE_DIR", str(settings.storage_dir))
    capsys.readouterr()
    assert semblance("quarantine", "list", "--output", "json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [each["sop_instance_uid"] for each in listed] == [ds.SOPInstanceUID] * 2
    assert not any(each["is_earlier"] for each in listed)
    numbers = [str(each["quarantine_id"]) for each in listed]
    assert semblance("quarantine", "discard", numbers[0], "--reason", "test", "--by", "ann") == 0
    assert semblance("quarantine", "accept", numbers[1], "--reason", "right", "--by", "ann") == 0
    assert semblance("quarantine", "accept", numbers[1], "--reason", "again") == 1
    assert semblance("quarantine", "list") == 0
    assert "nothing is in quarantine" in capsys.readouterr().out
    assert version(pool, ds) == 2
    assert send(other) == 200
    with transaction(pool) as connection:
        lines = ledger.entries(connection, ds.SOPInstanceUID)
    decided = [each.detail for each in lines if each.event is LedgerEvent.QUARANTINE_ENDED]
    assert [(each["resolution"], each["by"]) for each in decided] == [
        ("discarded", "ann"), ("accepted", "ann")
    ]  # fmt: skip


def test_another_class_of_object_is_quarantined_and_accepted_as_such(
    send: Send, pool: Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = native()
    assert send(ds) == 200
    capture = deepcopy(ds)
    capture.SOPClassUID = capture.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    assert send(capture) == 409
    monkeypatch.setenv("SEMBLANCE_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("SEMBLANCE_STORAGE_DIR", str(settings.storage_dir))
    (number,) = quarantine(pool)
    assert semblance("quarantine", "accept", number, "--reason", "right") == 0
    with transaction(pool) as connection:
        found = instances.by_uid(connection, ds.SOPInstanceUID)
    assert found is not None
    assert (found.version, found.sop_class_uid) == (2, SecondaryCaptureImageStorage)


def test_an_earlier_patient_again_is_a_question(
    send: Send, pool: Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The correction may have been the mistake, or an old copy is sent: nobody can tell but a person."""
    ds = native()
    assert send(ds) == 200
    corrected = deepcopy(ds)
    corrected.PatientID = "B"
    assert send(corrected) == 200
    assert send(corrected) == 200
    assert quarantine(pool) == []
    monkeypatch.setenv("SEMBLANCE_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("SEMBLANCE_STORAGE_DIR", str(settings.storage_dir))
    for again, patient, version_now in ((ds, "A", 3), (corrected, "B", 4)):
        assert send(again) == 200
        assert send(again) == 200
        (number,) = quarantine(pool)
        assert semblance("quarantine", "accept", number, "--reason", "right") == 0
        assert quarantine(pool) == []
        with transaction(pool) as connection:
            found = instances.by_uid(connection, ds.SOPInstanceUID)
        assert found is not None
        assert (found.patient_id, found.version) == (patient, version_now)
    assert send(ds) == 200
    (number,) = quarantine(pool)
    with transaction(pool) as connection:
        assert [each.is_earlier for each in versions.quarantined(connection)] == [True]
    assert semblance("quarantine", "discard", number, "--reason", "an old copy") == 0
    assert send(ds) == 200
    assert quarantine(pool) == []
    assert version(pool, ds) == 4


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless], ids=lambda uid: uid.keyword)
def test_an_earlier_patient_in_another_encoding_is_a_question_too(
    send: Send, pool: Pool, settings: Settings, monkeypatch: pytest.MonkeyPatch, syntax: str
) -> None:
    ds = native()
    assert send(ds) == 200
    corrected = deepcopy(ds)
    corrected.PatientID = "B"
    assert send(corrected) == 200
    again = deepcopy(ds)
    again.compress(syntax, generate_instance_uid=False)
    for _ in range(2):
        assert send(again) == 200
        with transaction(pool) as connection:
            found = instances.by_uid(connection, ds.SOPInstanceUID)
        assert found is not None
        assert (found.patient_id, found.version) == ("B", 2)
        (number,) = quarantine(pool)
    with transaction(pool) as connection:
        events = [each.event for each in ledger.entries(connection, ds.SOPInstanceUID)]
    assert events.count(LedgerEvent.RECEIVED_AGAIN) == 2
    monkeypatch.setenv("SEMBLANCE_DATABASE_URL", settings.database_url)
    monkeypatch.setenv("SEMBLANCE_STORAGE_DIR", str(settings.storage_dir))
    assert semblance("quarantine", "accept", number, "--reason", "A was right") == 0
    with transaction(pool) as connection:
        found = instances.by_uid(connection, ds.SOPInstanceUID)
    assert found is not None
    assert (found.patient_id, found.version) == ("A", 3)


def test_an_earlier_header_of_the_same_patient_in_another_encoding_changes_nothing(
    send: Send, pool: Pool
) -> None:
    ds = native(AccessionNumber="ACC-1")
    corrected = deepcopy(ds)
    corrected.AccessionNumber = "ACC-2"
    again = deepcopy(ds)
    again.compress(RLELossless, generate_instance_uid=False)
    for each in (ds, corrected, again, again):
        assert send(each) == 200
    assert quarantine(pool) == []
    assert version(pool, ds) == 2


def test_what_cannot_be_decoded_is_not_taken_for_the_same(send: Send, pool: Pool) -> None:
    ds = native()
    assert send(ds) == 200
    broken = deepcopy(ds)
    broken.compress(JPEGLSLossless, generate_instance_uid=False)
    broken.PixelData = broken.PixelData[:200] + b"\0" * (len(broken.PixelData) - 200)
    assert send(broken) == 409
    assert version(pool, ds) == 1
