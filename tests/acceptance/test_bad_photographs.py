"""What cameras send that is not quite a photograph: the ledger of each ends with its results delivered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_node.readers import READERS
from reporting.identifiers import fhir_id
from service.database import appraisals
from service.database.pool import transaction
from service.records import Appraisal, InstanceState, LedgerEvent, RejectionReason
from tests import photographs
from tests.stack import RunningStack

NAMES = {
    "ISO_IR 100": "Äneas^Rüdiger",
    "ISO_IR 144": "Юстов^Юрий",
    "ISO_IR 192": "Wałęsa^Łucja=山田^太郎",
    "\\ISO 2022 IR 87": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "\\ISO 2022 IR 149": "Hong^Gildong=洪^吉洞=홍^길동",
    "GB18030": "Wang^XiaoDong=王^小东",
}


def carried_through(stack: RunningStack, sent: FileDataset, judged: LedgerEvent) -> Appraisal:
    """Send a photograph and see it delivered: every step once and in order. Returns what was made of it."""
    uid = sent.SOPInstanceUID
    assert stack.send(sent) == 0
    stack.wait_for(uid, InstanceState.DELIVERED)
    events = stack.events(uid)
    assert events[:3] == [LedgerEvent.RECEIVED, judged, LedgerEvent.REPORTED]
    assert set(events[3:]) == {LedgerEvent.DELIVERED}
    assert stack.dead_letters() == []
    with transaction(stack.pool) as connection:
        (saved,) = appraisals.for_instance(connection, stack.instance(uid).instance_id)
    return saved.appraisal


def results_in_pacs(stack: RunningStack, sent: FileDataset) -> list[FileDataset]:
    return [dcmread(path) for path in Path(stack.facts.pacs_directory, sent.StudyInstanceUID).iterdir()]


def observation(stack: RunningStack, appraisal: Appraisal) -> dict[str, object]:
    url = f"{stack.facts.fhir_url}/Observation/{fhir_id('Observation', str(appraisal.appraisal_id))}"
    answer = httpx.get(url)
    assert answer.status_code == 200
    found: dict[str, object] = answer.json()
    return found


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (photographs.undecodable, RejectionReason.UNDECODABLE),
        (photographs.faceless, RejectionReason.NO_FACE),
        (photographs.three_faces, RejectionReason.SEVERAL_FACES),
        (photographs.twelve_bit_in_name_only, RejectionReason.UNDECODABLE),
    ],
)
def test_a_photograph_that_cannot_be_judged_is_a_result(
    stack: RunningStack, make: Callable[[], FileDataset], reason: RejectionReason
) -> None:
    sent = make()
    appraisal = carried_through(stack, sent, LedgerEvent.REJECTED)
    assert appraisal.reasons == (reason,)
    assert appraisal.score is None
    (rejected,) = [
        entry for entry in stack.ledger(sent.SOPInstanceUID) if entry.event is LedgerEvent.REJECTED
    ]
    assert rejected.detail["reasons"] == reason.value
    served = observation(stack, appraisal)
    assert "dataAbsentReason" in served
    assert "valueQuantity" not in served
    assert SecondaryCaptureImageStorage not in {each.SOPClassUID for each in results_in_pacs(stack, sent)}


@pytest.mark.parametrize(
    "make",
    [photographs.sixteen_bit, photographs.palette, photographs.monochrome, photographs.printers_colours],
)
def test_pixels_of_another_kind_are_appraised(stack: RunningStack, make: Callable[[], FileDataset]) -> None:
    """Nearly as the same face in 8-bit colour is."""
    plain = carried_through(stack, photographs.photograph(), LedgerEvent.APPRAISED)
    appraisal = carried_through(stack, make(), LedgerEvent.APPRAISED)
    assert appraisal.score == pytest.approx(plain.score, abs=0.5)


@pytest.mark.parametrize("sop_class_uid", READERS)
def test_every_class_that_is_accepted_is_appraised(stack: RunningStack, sop_class_uid: str) -> None:
    sent = photographs.of_class(sop_class_uid)
    appraisal = carried_through(stack, sent, LedgerEvent.APPRAISED)
    assert appraisal.score is not None
    (capture,) = [
        each for each in results_in_pacs(stack, sent) if each.SOPClassUID == SecondaryCaptureImageStorage
    ]
    (source,) = capture.SourceImageSequence
    assert source.ReferencedSOPClassUID == sop_class_uid
    assert source.ReferencedSOPInstanceUID == sent.SOPInstanceUID


def test_a_photograph_without_patient_id(stack: RunningStack) -> None:
    """Results are made and nobody is invented."""
    sent = photographs.without_patient_id()
    appraisal = carried_through(stack, sent, LedgerEvent.APPRAISED)
    assert stack.instance(sent.SOPInstanceUID).patient_id == ""
    results = results_in_pacs(stack, sent)
    assert SecondaryCaptureImageStorage in {each.SOPClassUID for each in results}
    assert {each.PatientID for each in results} <= {"", None}
    assert observation(stack, appraisal)["status"] == "final"


@pytest.mark.parametrize(("character_set", "name"), NAMES.items())
def test_a_name_in_another_script(stack: RunningStack, character_set: str, name: str) -> None:
    sent = photographs.named(character_set, name)
    carried_through(stack, sent, LedgerEvent.APPRAISED)
    results = results_in_pacs(stack, sent)
    assert SecondaryCaptureImageStorage in {each.SOPClassUID for each in results}
    for each in results:
        assert each.PatientName == name
        assert each.PatientID == sent.PatientID
        assert each.SpecificCharacterSet == sent.SpecificCharacterSet
    patients = httpx.get(f"{stack.facts.fhir_url}/Patient", params={"identifier": sent.PatientID}).json()
    (patient,) = patients["entry"]
    families = {each.get("family") for each in patient["resource"]["name"]}
    assert str(sent.PatientName.family_name) in families
