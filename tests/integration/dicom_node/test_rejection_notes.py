"""Rejection notes: what they name is taken back everywhere, for good, and from nobody else."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, generate_uid

from dicom_node.acceptor.scp import Node
from reporting.fhir.builders.imaging import media_id
from reporting.identifiers import fhir_id, observation_id_of
from reporting.report import report, report_again
from service.config import Settings
from service.database import instances, ledger
from service.database.delivery import deliveries
from service.database.pool import Pool, transaction
from service.errors import RecordNotFoundError
from service.pipeline.again.retry import retry_instance
from service.pipeline.appraise import appraise
from service.pipeline.context import Context
from service.records import DeliveryState, InstanceState, LedgerEvent
from service.storage.local import InstanceStore
from tests import dicom_objects
from tests.dicom_objects import photograph
from tests.integration.dicom_node.rejecting import (
    QUALITY,
    RETENTION,
    SAFETY,
    WORKLIST,
    events,
    heatmap,
    held,
    item,
    note,
    observation,
    one_of,
    reported,
    resource,
    sent,
    state,
)
from tests.integration.reporting.judging import DESTINATIONS

_SUCCESS, _REJECTED, _NOT_FOLLOWED = 0x0000, 0xC003, 0xC004


@pytest.fixture
def context(settings: Settings, pool: Pool, store: InstanceStore) -> Context:
    configured = settings.model_copy(update={"destinations": DESTINATIONS[:1], "step_max_attempts": 1})
    return Context(settings=configured, pool=pool, store=store)


@pytest.mark.parametrize("title", [QUALITY, SAFETY, WORKLIST])
def test_a_note_takes_a_photograph_and_its_results_back(node: Node, context: Context, title: str) -> None:
    study = generate_uid()
    bad, good = one_of(study), one_of(study)
    assert (sent(node, bad), sent(node, good)) == (_SUCCESS, _SUCCESS)
    of_bad, of_good = reported(context, bad), reported(context, good)
    assert {str(bad.SOPInstanceUID), heatmap(of_bad)} <= held(context, study)
    rejecting = note(bad, title=title)
    assert sent(node, rejecting) == _SUCCESS
    assert state(context, bad) is InstanceState.WITHDRAWN
    assert observation(context, of_bad)["status"] == "entered-in-error"
    assert observation(context, of_good)["status"] == "final"
    for uid in (str(bad.SOPInstanceUID), heatmap(of_bad)):
        assert resource(context, "Media", media_id(uid))["status"] == "entered-in-error"
    whole = resource(context, "DiagnosticReport", fhir_id("DiagnosticReport", study))
    shown = [each["reference"] for each in whole["result"]]
    assert shown == [f"Observation/{observation_id_of(str(of_good.appraisal.appraisal_id))}"]
    assert whole["status"] in {"amended", "partial"}
    listed = resource(context, "ImagingStudy", fhir_id("ImagingStudy", study))
    uids = {i["uid"] for series in listed["series"] for i in series["instance"]}
    assert str(good.SOPInstanceUID) in uids
    assert not {str(bad.SOPInstanceUID), heatmap(of_bad)} & uids
    left = held(context, study)
    assert {str(good.SOPInstanceUID), heatmap(of_good)} <= left
    assert not {str(bad.SOPInstanceUID), heatmap(of_bad), str(rejecting.SOPInstanceUID)} & left
    with transaction(context.pool) as connection:
        sendings = {each.state for each in deliveries.for_instance(connection, of_bad.instance_id)}
    assert sendings == {DeliveryState.DEAD}
    assert events(context, bad.SOPInstanceUID)[-1] is LedgerEvent.WITHDRAWN
    assert events(context, rejecting.SOPInstanceUID)[-1] is LedgerEvent.NOTE_TAKEN


def test_all_of_a_study_taken_back_leaves_nothing_to_be_found(node: Node, context: Context) -> None:
    study = generate_uid()
    both = one_of(study), one_of(study)
    for each in both:
        assert sent(node, each) == _SUCCESS
        reported(context, each)
    assert held(context, study)
    assert sent(node, note(*both)) == _SUCCESS
    assert held(context, study) == set()
    for kind in ("DiagnosticReport", "ImagingStudy"):
        assert resource(context, kind, fhir_id(kind, study))["status"] == "entered-in-error"
    with transaction(context.pool) as connection:
        for table in ("held_study", "held_series", "held_pending"):
            assert connection.execute(f"SELECT FROM {table}").fetchall() == []


def test_what_was_taken_back_does_not_come_again(node: Node, context: Context) -> None:
    ds = photograph(transfer_syntax=ImplicitVRLittleEndian)
    assert sent(node, ds) == _SUCCESS
    rejecting = note(ds)
    assert sent(node, rejecting) == _SUCCESS
    assert sent(node, rejecting) == _SUCCESS  # the note again changes nothing
    again = dicom_objects.store(node.port, ds)
    assert (again.Status, again.ErrorComment) == (_REJECTED, "a rejection note took the instance back")
    ds.PatientID = "P2"
    assert sent(node, ds) == _REJECTED  # a correction comes under a UID of its own
    assert state(context, ds) is InstanceState.WITHDRAWN
    assert events(context, ds.SOPInstanceUID)[-2:] == [LedgerEvent.REFUSED] * 2
    other = note(ds, title=SAFETY)
    other.SOPInstanceUID = rejecting.SOPInstanceUID
    other.PatientID = "P1"
    assert sent(node, other) == 0xC001  # another note under the UID of the first


def test_a_note_may_come_first(node: Node, context: Context) -> None:
    mine, somebody_elses = photograph(patient_id="P1"), photograph(patient_id="P2")
    assert sent(node, note(mine, patient_id="P1")) == _SUCCESS
    assert sent(node, note(somebody_elses, patient_id="P1")) == _SUCCESS
    assert sent(node, mine) == _REJECTED
    assert sent(node, somebody_elses) == _SUCCESS
    assert state(context, somebody_elses) is InstanceState.RECEIVED


def test_photograph_and_note_at_the_same_moment(node: Node, context: Context) -> None:
    """The note is committed after the photograph was looked for, and before it is appraised."""
    ds = photograph()
    assert sent(node, note(ds)) == _SUCCESS
    with transaction(context.pool) as connection:
        connection.execute("CREATE TABLE later AS SELECT * FROM rejected_instance")
        connection.execute("DELETE FROM rejected_instance")
    assert sent(node, ds) == _SUCCESS
    with transaction(context.pool) as connection:
        connection.execute("INSERT INTO rejected_instance SELECT * FROM later")
        instance = instances.by_uid(connection, ds.SOPInstanceUID)
    assert instance is not None
    appraise(context, instance.instance_id)
    assert state(context, ds) is InstanceState.WITHDRAWN
    assert held(context, ds.StudyInstanceUID) == set()


def refused(node: Node, context: Context, rejecting: Dataset, reason: str) -> None:
    answer = dicom_objects.store(node.port, rejecting)
    assert (answer.Status, answer.ErrorComment) == (_NOT_FOLLOWED, reason[:64])
    with transaction(context.pool) as connection:
        line = ledger.entries(connection, rejecting.SOPInstanceUID)[-1]
    assert (line.event, line.detail["status"]) == (LedgerEvent.REFUSED, "0xC004")
    assert reason in line.detail["reason"]


def test_a_note_takes_nothing_from_another_patient(node: Node, context: Context) -> None:
    theirs, mine = photograph(patient_id="P2"), photograph(patient_id="P1")
    for each in (theirs, mine):
        assert sent(node, each) == _SUCCESS
    saved = reported(context, theirs)
    for rejecting in (
        note(theirs, patient_id="P1"),
        note(mine, theirs, patient_id="P1"),
        note(theirs, patient_id=""),
    ):
        refused(node, context, rejecting, "names an instance of another patient")
    assert state(context, theirs) is InstanceState.REPORTED
    assert state(context, mine) is InstanceState.RECEIVED
    assert observation(context, saved)["status"] == "final"
    issued = photograph(patient_id="P1")
    issued.IssuerOfPatientID = "HOSPITAL-A"
    assert sent(node, issued) == _SUCCESS
    refused(node, context, note(issued, issuer="HOSPITAL-B"), "names an instance of another patient")
    assert sent(node, note(issued)) == _SUCCESS  # says nothing else than the photograph


def _of_authority(ds: Dataset, universal_id: str, undefined: bool = False) -> Dataset:
    """Issued by an authority that only its universal ID names, (0010,0024)."""
    ds.IssuerOfPatientIDQualifiersSequence = [
        item(UniversalEntityID=universal_id, UniversalEntityIDType="ISO")
    ]
    ds["IssuerOfPatientIDQualifiersSequence"].is_undefined_length = undefined
    return ds


@pytest.mark.parametrize("undefined", [False, True])
def test_a_number_of_another_authority_is_another_patient(
    node: Node, context: Context, undefined: bool
) -> None:
    """Two numbers are alike, and their issuers are known by universal IDs alone."""
    ds = _of_authority(photograph(patient_id="P1"), "1.2.3.4", undefined)
    assert sent(node, ds) == _SUCCESS
    strangers = _of_authority(note(ds), "1.2.3.5", undefined)
    refused(node, context, strangers, "names an instance of another patient")
    refused(node, context, note(ds, issuer="HOSPITAL-B"), "names an instance of another patient")
    later = _of_authority(photograph(patient_id="P1"), "1.2.3.4", undefined)
    assert sent(node, _of_authority(note(later), "1.2.3.5", undefined)) == _SUCCESS
    assert sent(node, later) == _SUCCESS  # the note that came first is about somebody else
    assert state(context, ds) is state(context, later) is InstanceState.RECEIVED
    assert sent(node, _of_authority(note(ds), "1.2.3.4", undefined)) == _SUCCESS
    assert state(context, ds) is InstanceState.WITHDRAWN


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"title": RETENTION}, "how long photographs are kept is not decided by notes (113039)"),
        ({"title": "113000"}, "of key object selections, rejection notes alone are taken"),
        ({"scheme": "99ACME"}, "of key object selections, rejection notes alone are taken"),
    ],
)
def test_what_is_no_rejection_is_refused_with_its_reason(
    node: Node, context: Context, change: dict[str, str], reason: str
) -> None:
    ds = photograph()
    assert sent(node, ds) == _SUCCESS
    refused(node, context, note(ds, **change), reason)
    assert state(context, ds) is InstanceState.RECEIVED


def test_notes_that_name_things_amiss(node: Node, context: Context) -> None:
    ds = photograph()
    assert sent(node, ds) == _SUCCESS
    uid, study = str(ds.SOPInstanceUID), str(ds.StudyInstanceUID)
    refused(node, context, note(), "names 0 instances; 1 to 1000 are taken")
    other_class = note(("1.2.840.10008.5.1.4.1.1.7", uid, study))
    refused(node, context, other_class, "names an instance with another SOP class")
    elsewhere = note((str(ds.SOPClassUID), uid, str(generate_uid())))
    refused(node, context, elsewhere, "names an instance in another study")
    assert state(context, ds) is InstanceState.RECEIVED


def test_nothing_brings_back_what_was_taken_back(node: Node, context: Context) -> None:
    """Steps under way, reports made again, and an operator's retry."""
    ds = photograph()
    assert sent(node, ds) == _SUCCESS
    saved = reported(context, ds)
    assert sent(node, note(ds)) == _SUCCESS
    for step in (appraise, report, report_again):
        step(context, saved.instance_id)
    assert state(context, ds) is InstanceState.WITHDRAWN
    assert observation(context, saved)["status"] == "entered-in-error"
    assert held(context, ds.StudyInstanceUID) == set()
    with transaction(context.pool) as connection, pytest.raises(RecordNotFoundError):
        retry_instance(connection, saved.instance_id)
    with transaction(context.pool) as connection:
        assert deliveries.revive(connection, saved.instance_id) == []


def test_a_result_of_ours_that_is_rejected(node: Node, context: Context) -> None:
    """As by a reader who finds the heatmap wrong: the result is taken back, the photograph stays."""
    ds = photograph()
    assert sent(node, ds) == _SUCCESS
    saved = reported(context, ds)
    held(context, ds.StudyInstanceUID)
    capture = ("1.2.840.10008.5.1.4.1.1.7", heatmap(saved), str(ds.StudyInstanceUID))
    assert sent(node, note(capture)) == _SUCCESS
    assert observation(context, saved)["status"] == "entered-in-error"
    assert state(context, ds) is InstanceState.REPORTED
    assert held(context, ds.StudyInstanceUID) == {str(ds.SOPInstanceUID)}
    photo = resource(context, "Media", media_id(str(ds.SOPInstanceUID)))
    assert photo["status"] == "completed"


def test_many_at_once(node: Node, context: Context) -> None:
    """A note about a whole session; queries find the rest meanwhile."""
    study = generate_uid()
    taken = [one_of(study, size=(8, 8), seed=number) for number in range(40)]
    for each in taken:
        assert sent(node, each) == _SUCCESS
    assert sent(node, note(*taken[1:])) == _SUCCESS
    assert held(context, study) == {str(taken[0].SOPInstanceUID)}


def test_the_right_photograph_that_comes_after_is_reported(node: Node, context: Context) -> None:
    """As after an incorrect worklist entry: a new UID in the same study, of the same patient."""
    study = generate_uid()
    wrong, right = one_of(study), one_of(study, seed=1)
    assert sent(node, wrong) == _SUCCESS
    of_wrong = reported(context, wrong)
    assert sent(node, note(wrong, title=WORKLIST)) == _SUCCESS
    assert sent(node, right) == _SUCCESS
    of_right = reported(context, right)
    whole = resource(context, "DiagnosticReport", fhir_id("DiagnosticReport", study))
    shown = [each["reference"] for each in whole["result"]]
    assert shown == [f"Observation/{observation_id_of(str(of_right.appraisal.appraisal_id))}"]
    assert whole["status"] != "entered-in-error"
    listed = resource(context, "ImagingStudy", fhir_id("ImagingStudy", study))
    assert listed["status"] == "available"
    uids = {i["uid"] for series in listed["series"] for i in series["instance"]}
    assert str(right.SOPInstanceUID) in uids
    assert not {str(wrong.SOPInstanceUID), heatmap(of_wrong)} & uids
