"""What comes in from media and goes out to media, and the audit messages of it (PS3.15 A.5.3.4, A.5.3.5)."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from dicom_node.acceptor.scp import Node
from service.audit.trail import seal_pending
from service.config import Settings
from service.database import instances, ledger
from service.database.pool import Pool, transaction
from service.records import InstanceState, LedgerEvent
from service.storage.local import InstanceStore
from tests.dicom_objects import photograph, save
from tests.dicom_objects import store as send
from tests.integration.dicom_node.rejecting import note
from tests.integration.dicom_node.telling import run, told


def test_photographs_come_in_from_a_stick(
    settings: Settings, pool: Pool, store: InstanceStore, tmp_path: Path
) -> None:
    stick = tmp_path / "stick"
    (stick / "DCIM").mkdir(parents=True)
    sent = [photograph(seed=n) for n in range(3)]
    sent[1].StudyInstanceUID = sent[0].StudyInstanceUID
    for number, ds in enumerate(sent):
        save(ds, stick / "DCIM" / f"{number}")
    (stick / "notes.txt").write_text("not DICOM", encoding="utf-8")
    done = run(settings, "import", str(stick), "--medium", "usb", "--label", "camera 3", "--by", "nurse")
    assert done.returncode == 0, done.stderr
    assert [line.rpartition(": ")[2] for line in done.stdout.splitlines()] == [
        ds.SOPInstanceUID for ds in sent
    ]
    with transaction(pool) as connection:
        for ds in sent:
            assert [each.event.value for each in ledger.entries(connection, ds.SOPInstanceUID)] == [
                "received"
            ]
    first, second = told(pool, "110107")
    assert first.xpath("//@ParticipantObjectID") == [sent[0].StudyInstanceUID, "P1"]
    assert first.xpath("//SOPClass/Instance/@UID") == [str(ds.SOPInstanceUID) for ds in sent[:2]]
    assert second.xpath("//@ParticipantObjectID")[0] == sent[2].StudyInstanceUID
    assert first.xpath("//ActiveParticipant/@UserID") == ["nurse", "camera 3"]
    assert first.xpath("//MediaType/@csd-code") == ["110030"]
    assert first[0].get("EventActionCode") == "C"


def test_a_file_that_is_refused_is_said_and_not_told_as_imported(
    settings: Settings, pool: Pool, store: InstanceStore, tmp_path: Path
) -> None:
    whole, half = save(photograph(seed=1), tmp_path / "whole"), save(photograph(seed=2), tmp_path / "half")
    half.write_bytes(half.read_bytes()[:-100])
    done = run(settings, "import", str(whole), str(half))
    assert done.returncode == 1
    assert done.stdout.count("0xC000") == 1
    (only,) = told(pool, "110107")
    assert len(only.xpath("//SOPClass/Instance")) == 1
    assert only.xpath("//ActiveParticipant/@UserID")[1] == whole.as_uri()


def test_a_file_that_cannot_be_read_is_said_and_the_rest_comes_in(
    settings: Settings, pool: Pool, store: InstanceStore, tmp_path: Path
) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    (stick / "a.dcm").symlink_to("/proc/self/mem")  # its first bytes can be read by nobody
    save(photograph(), stick / "b.dcm")
    done = run(settings, "import", str(stick))
    assert done.returncode == 1
    assert "a.dcm: cannot be read: " in done.stdout
    assert len(told(pool, "110107")) == 1


def test_a_study_goes_out_as_it_is_stored(settings: Settings, node: Node, pool: Pool, tmp_path: Path) -> None:
    sent = [photograph(seed=n) for n in range(2)]
    for ds in sent:
        ds.StudyInstanceUID = sent[0].StudyInstanceUID
        ds.IssuerOfPatientID = "HOSPITAL"
        assert send(node.port, ds).Status == 0x0000
    to = tmp_path / "stick" / "study"
    arguments = ("export", str(sent[0].StudyInstanceUID), str(to), "--medium", "usb", "--by", "nurse")
    done = run(settings, *arguments)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == sorted(map(str, to.iterdir()))
    assert {dcmread(path).SOPInstanceUID for path in to.iterdir()} == {ds.SOPInstanceUID for ds in sent}
    (message,) = told(pool, "110106")
    assert message.xpath("//@ParticipantObjectID") == [sent[0].StudyInstanceUID, "P1^^^HOSPITAL"]
    assert message.xpath("//SOPClass/@NumberOfInstances") == ["2"]
    assert message.xpath("//ActiveParticipant/@UserID") == ["nurse", to.as_uri()]
    assert message[0].get("EventActionCode") == "R"
    before = {path: path.read_bytes() for path in to.iterdir()}
    again = run(settings, *arguments)
    assert (again.returncode, "exists" in again.stderr) == (1, True)
    assert {path: path.read_bytes() for path in to.iterdir()} == before


@pytest.mark.usefixtures("pool", "store")
def test_a_study_that_is_not_held_is_not_exported(settings: Settings, pool: Pool, tmp_path: Path) -> None:
    done = run(settings, "export", str(generate_uid()), str(tmp_path / "to"))
    assert done.returncode == 1
    assert told(pool, "110106") == []
    assert not (tmp_path / "to").exists()


def test_what_is_no_dicom_file_is_said(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("not DICOM", encoding="utf-8")
    picture = tmp_path / "photo.jpg"
    picture.write_bytes(b"\xff\xd8\xff\xd9")
    done = run(settings, "import", str(picture), str(tmp_path / "folder"))
    assert done.returncode == 1
    assert f"{picture}: is no DICOM file" in done.stdout
    assert f"{tmp_path / 'folder'}: holds no DICOM file" in done.stdout
    missing = run(settings, "import", str(tmp_path / "missing"))
    assert missing.returncode == 2
    assert f"{tmp_path / 'missing'}" in missing.stderr


def test_a_number_corrected_by_a_file_and_a_rejection_note_on_a_stick(
    settings: Settings, pool: Pool, store: InstanceStore, tmp_path: Path
) -> None:
    """Patient ID updates and rejections come as files too."""
    ds = photograph(patient_id="WRONG")
    assert run(settings, "import", str(save(ds, tmp_path / "0.dcm"))).returncode == 0
    ds.PatientID = "RIGHT"
    assert run(settings, "import", str(save(ds, tmp_path / "1.dcm"))).returncode == 0
    with transaction(pool) as connection:
        found = instances.by_uid(connection, ds.SOPInstanceUID)
    assert found is not None
    assert (found.patient_id, found.version) == ("RIGHT", 2)
    stranger = save(note(ds, patient_id="WRONG"), tmp_path / "2.dcm")
    refused = run(settings, "import", str(stranger))
    assert refused.returncode == 1
    assert "0xC004 names an instance of another patient" in refused.stdout + refused.stderr
    assert (
        run(settings, "import", str(save(note(ds, patient_id="RIGHT"), tmp_path / "3.dcm"))).returncode == 0
    )
    with transaction(pool) as connection:
        found = instances.by_uid(connection, ds.SOPInstanceUID)
        events = [each.event for each in ledger.entries(connection, ds.SOPInstanceUID)]
    assert found is not None
    assert found.state is InstanceState.WITHDRAWN
    assert events[-2:] == [LedgerEvent.CORRECTED, LedgerEvent.WITHDRAWN]
    seal_pending(pool, settings)
    (accessed,) = told(pool, "110103")
    assert accessed.find(".//EventIdentification").get("EventActionCode") == "D"
