"""A rejection note that was sent by mistake: what it took back comes again, and nothing else does."""

from __future__ import annotations

import json

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from dicom_node.acceptor.scp import Node
from reporting.fhir.builders.imaging import media_id
from reporting.fhir.corrections.lifting import Lifted, lift
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.render import loads
from reporting.fhir.write.withdrawal import withdraw
from reporting.identifiers import fhir_id, observation_id_of
from reporting.report import report, report_again
from service.audit.from_ledger import messages
from service.config import Settings
from service.database import ledger, outbox
from service.database.delivery import deliveries
from service.database.pool import Pool, transaction
from service.database.sealing import seals
from service.errors import RecordNotFoundError
from service.pipeline.attempt import Outcome, attempt
from service.pipeline.context import Context
from service.pipeline.progress import appraised as close_appraisal
from service.records import DeliveryState, InstanceState, LedgerEvent, SavedAppraisal
from service.steps import APPRAISE, REPORT
from service.storage.local import InstanceStore
from tests import dicom_objects
from tests.command import semblance
from tests.dicom_objects import photograph
from tests.integration.dicom_node.rejecting import (
    SAFETY,
    events,
    heatmap,
    held,
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


def lifted(context: Context, rejecting: Dataset) -> Lifted:
    with transaction(context.pool) as connection:
        return lift(
            connection, rejecting.SOPInstanceUID, who="ann", reason="a mistake", settings=context.settings
        )


def reported_again(context: Context, saved: SavedAppraisal) -> None:
    """Have a photograph whose pixels were appraised go on from there, as the appraisal finds it."""
    with transaction(context.pool) as connection:
        close_appraisal(connection, saved.instance_id, LedgerEvent.APPRAISED, {})
    assert attempt(context, REPORT, report, saved.instance_id) is Outcome.DONE


def results_in_report(context: Context, study: str) -> list[str]:
    whole = resource(context, "DiagnosticReport", fhir_id("DiagnosticReport", study))
    return [each["reference"] for each in whole.get("result", [])]


def test_what_a_note_took_back_comes_again(node: Node, context: Context) -> None:
    study = generate_uid()
    mine, other = one_of(study), one_of(study)
    assert (sent(node, mine), sent(node, other)) == (_SUCCESS, _SUCCESS)
    saved, of_other = reported(context, mine), reported(context, other)
    rejecting = note(mine)
    assert sent(node, rejecting) == _SUCCESS
    assert held(context, study) >= {str(other.SOPInstanceUID), heatmap(of_other)}

    assert lifted(context, rejecting) == Lifted(restored=(str(mine.SOPInstanceUID),), still_back=())
    assert state(context, mine) is InstanceState.RECEIVED
    assert str(mine.SOPInstanceUID) in held(context, study)
    with transaction(context.pool) as connection:
        waiting = [(each.task, each.subject_id) for each in outbox.take_due(connection, 100)]
    assert (APPRAISE.task, str(saved.instance_id)) in waiting

    reported_again(context, saved)
    assert observation(context, saved)["status"] == "amended"
    assert observation(context, of_other)["status"] == "final"
    now, before = heatmap(saved, 2), heatmap(saved, 1)
    for uid, status in (
        (str(mine.SOPInstanceUID), "completed"), (now, "completed"), (before, "entered-in-error")
    ):  # fmt: skip
        assert resource(context, "Media", media_id(uid))["status"] == status
    assert f"Observation/{observation_id_of(str(saved.appraisal.appraisal_id))}" in results_in_report(
        context, study
    )
    listed = resource(context, "ImagingStudy", fhir_id("ImagingStudy", study))
    uids = {i["uid"] for series in listed["series"] for i in series["instance"]}
    assert {str(mine.SOPInstanceUID), now, str(other.SOPInstanceUID)} <= uids
    assert before not in uids
    found = held(context, study)
    assert {str(mine.SOPInstanceUID), now, heatmap(of_other)} <= found
    assert before not in found
    with transaction(context.pool) as connection:
        due = {
            each.sop_instance_uid: each.state
            for each in deliveries.for_instance(connection, saved.instance_id)
        }
    assert (due[now], due[before]) == (DeliveryState.PENDING, DeliveryState.DEAD)
    assert LedgerEvent.RESTORED in events(context, mine.SOPInstanceUID)
    assert events(context, rejecting.SOPInstanceUID)[-1] is LedgerEvent.NOTE_LIFTED


def test_a_whole_study_comes_again(node: Node, context: Context) -> None:
    study = generate_uid()
    both = [one_of(study), one_of(study)]
    saved = []
    for each in both:
        assert sent(node, each) == _SUCCESS
        saved.append(reported(context, each))
    rejecting = note(*both)
    assert sent(node, rejecting) == _SUCCESS
    lifted(context, rejecting)
    for appraisal in saved:
        reported_again(context, appraisal)
    for kind, status in (("DiagnosticReport", "amended"), ("ImagingStudy", "available")):
        assert resource(context, kind, fhir_id(kind, study))["status"] == status
    assert len(results_in_report(context, study)) == 2


def test_what_was_refused_because_of_the_note_is_taken(node: Node, context: Context) -> None:
    ds = photograph()
    rejecting = note(ds)
    assert sent(node, rejecting) == _SUCCESS
    assert sent(node, ds) == _REJECTED
    assert lifted(context, rejecting) == Lifted(restored=(), still_back=())
    assert sent(node, ds) == _SUCCESS
    assert state(context, ds) is InstanceState.RECEIVED


def test_a_photograph_that_was_not_reported_yet_goes_on(node: Node, context: Context) -> None:
    ds = photograph()
    assert sent(node, ds) == _SUCCESS
    rejecting = note(ds)
    assert sent(node, rejecting) == _SUCCESS
    lifted(context, rejecting)
    saved = reported(context, ds)
    assert observation(context, saved)["status"] == "final"
    assert state(context, ds) is InstanceState.REPORTED


def test_a_lifted_note_stays_lifted(node: Node, context: Context) -> None:
    ds = photograph()
    assert sent(node, ds) == _SUCCESS
    rejecting = note(ds)
    assert sent(node, rejecting) == _SUCCESS
    lifted(context, rejecting)
    with pytest.raises(RecordNotFoundError, match="stands and can be lifted"):
        lifted(context, rejecting)
    again = dicom_objects.store(node.port, rejecting)
    assert (again.Status, again.ErrorComment) == (
        _NOT_FOLLOWED, "the note was lifted here; a new one is followed"
    )  # fmt: skip
    assert state(context, ds) is InstanceState.RECEIVED
    assert sent(node, note(ds)) == _SUCCESS
    assert state(context, ds) is InstanceState.WITHDRAWN


def test_another_note_goes_on_counting(node: Node, context: Context) -> None:
    ds = photograph()
    assert sent(node, ds) == _SUCCESS
    saved = reported(context, ds)
    first, second = note(ds), note(ds, title=SAFETY)
    assert (sent(node, first), sent(node, second)) == (_SUCCESS, _SUCCESS)
    assert lifted(context, first) == Lifted(restored=(), still_back=(str(ds.SOPInstanceUID),))
    assert state(context, ds) is InstanceState.WITHDRAWN
    assert sent(node, ds) == _REJECTED
    assert lifted(context, second).restored == (str(ds.SOPInstanceUID),)
    reported_again(context, saved)
    assert observation(context, saved)["status"] == "amended"


def test_somebody_elses_early_note_holds_nothing_back(node: Node, context: Context) -> None:
    """One that named the photograph before it came, for a patient whose it is not."""
    ds = photograph(patient_id="P2")
    assert sent(node, note(ds, patient_id="P1")) == _SUCCESS
    assert sent(node, ds) == _SUCCESS
    theirs = note(ds, patient_id="P2")
    assert sent(node, theirs) == _SUCCESS
    assert lifted(context, theirs).restored == (str(ds.SOPInstanceUID),)
    assert sent(node, ds) == _SUCCESS


@pytest.mark.parametrize("by_hand_first", [True, False])
def test_what_somebody_withdrew_by_hand_stays_so(
    node: Node, context: Context, *, by_hand_first: bool
) -> None:
    ds = photograph()
    assert sent(node, ds) == _SUCCESS
    saved = reported(context, ds)
    rejecting = note(ds)

    def by_hand() -> None:
        with transaction(context.pool) as connection:
            withdraw(
                connection,
                observation_id_of(str(saved.appraisal.appraisal_id)),
                reason="of somebody else",
                who="ben",
                settings=context.settings,
            )

    if by_hand_first:
        by_hand()
    assert sent(node, rejecting) == _SUCCESS
    if not by_hand_first:
        by_hand()
    assert lifted(context, rejecting).restored == (str(ds.SOPInstanceUID),)
    reported_again(context, saved)
    assert observation(context, saved)["status"] == "entered-in-error"
    assert resource(context, "Media", media_id(str(ds.SOPInstanceUID)))["status"] == "completed"
    assert held(context, ds.StudyInstanceUID) == {str(ds.SOPInstanceUID)}  # and no heatmap of it
    with transaction(context.pool) as connection:
        sendings = {each.state for each in deliveries.for_instance(connection, saved.instance_id)}
    assert sendings == {DeliveryState.DEAD}


def test_a_result_that_was_rejected_by_mistake(node: Node, context: Context) -> None:
    ds = photograph()
    assert sent(node, ds) == _SUCCESS
    saved = reported(context, ds)
    held(context, ds.StudyInstanceUID)
    capture = ("1.2.840.10008.5.1.4.1.1.7", heatmap(saved), str(ds.StudyInstanceUID))
    first, second = note(capture), note(capture, title=SAFETY)
    assert (sent(node, first), sent(node, second)) == (_SUCCESS, _SUCCESS)
    assert lifted(context, first) == Lifted(restored=(), still_back=(str(ds.SOPInstanceUID),))
    assert state(context, ds) is InstanceState.REPORTED
    assert lifted(context, second).restored == (str(ds.SOPInstanceUID),)
    reported_again(context, saved)
    assert observation(context, saved)["status"] == "amended"
    assert {str(ds.SOPInstanceUID), heatmap(saved, 2)} <= held(context, ds.StudyInstanceUID)


def test_a_result_rejected_while_its_photograph_is_back(node: Node, context: Context) -> None:
    """Whichever note is lifted first: the result comes again with the last."""
    ds = photograph()
    assert sent(node, ds) == _SUCCESS
    saved = reported(context, ds)
    held(context, ds.StudyInstanceUID)
    of_photograph = note(ds)
    of_result = note(("1.2.840.10008.5.1.4.1.1.7", heatmap(saved), str(ds.StudyInstanceUID)))
    assert (sent(node, of_photograph), sent(node, of_result)) == (_SUCCESS, _SUCCESS)
    assert lifted(context, of_photograph).restored == (str(ds.SOPInstanceUID),)
    reported_again(context, saved)
    assert observation(context, saved)["status"] == "entered-in-error"
    assert held(context, ds.StudyInstanceUID) == {str(ds.SOPInstanceUID)}
    assert lifted(context, of_result).restored == (str(ds.SOPInstanceUID),)
    reported_again(context, saved)
    assert observation(context, saved)["status"] == "amended"


def test_a_note_between_the_lifting_and_the_report_is_followed(node: Node, context: Context) -> None:
    ds = photograph()
    assert sent(node, ds) == _SUCCESS
    saved = reported(context, ds)
    rejecting = note(ds)
    assert sent(node, rejecting) == _SUCCESS
    lifted(context, rejecting)
    capture = ("1.2.840.10008.5.1.4.1.1.7", heatmap(saved), str(ds.StudyInstanceUID))
    of_result = note(capture)
    assert sent(node, of_result) == _SUCCESS
    reported_again(context, saved)
    assert observation(context, saved)["status"] == "entered-in-error"
    report_again(context, saved.instance_id)
    assert observation(context, saved)["status"] == "entered-in-error"


def test_the_command_says_what_it_did_and_is_audited(
    node: Node,
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ds = photograph()
    assert sent(node, ds) == _SUCCESS
    saved = reported(context, ds)
    rejecting = note(ds)
    uid, name = str(ds.SOPInstanceUID), str(rejecting.SOPInstanceUID)
    monkeypatch.setenv("SEMBLANCE_DATABASE_URL", context.settings.database_url)
    monkeypatch.setenv("SEMBLANCE_STORAGE_DIR", str(context.settings.storage_dir))
    capsys.readouterr()
    assert semblance("rejections", "list") == 0
    assert capsys.readouterr().out == "no rejection note was followed\n"
    assert sent(node, rejecting) == _SUCCESS
    capsys.readouterr()
    assert semblance("rejections", "list", "--output", "json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["note"], row["title"], row["names"], row["withdrawn"]) == (name, "113001", 1, 1)
    assert row["lifted_at"] is None
    assert semblance("rejections", "lift", "1.2.3", "--reason", "x") == 1
    assert semblance("rejections", "lift", name, "--reason", "wrong study", "--by", "ann") == 0
    assert f"{uid} is appraised and issued again" in capsys.readouterr().out
    assert semblance("rejections", "list", "--output", "json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["lifted_by"], row["lifted_at"] is None) == ("ann", False)

    with transaction(context.pool) as connection:
        line = next(e for e in ledger.entries(connection, uid) if e.event is LedgerEvent.RESTORED)
        rows = [each.ledger for each in seals.pending(connection, 1000)]
        audited = fhir_resources.history(connection, "AuditEvent", None, count=100)
    assert (line.detail["note"], line.detail["by"], line.detail["reason"]) == (name, "ann", "wrong study")
    told = messages([each for each in rows if each and each.event == LedgerEvent.RESTORED], context.settings)
    assert [(each.action, each.participants[0].user_id) for each in told] == [("U", "ann")]
    target = f"Observation/{observation_id_of(str(saved.appraisal.appraisal_id))}"
    bodies = [loads(each.body) for each in audited]
    ours = [b for b in bodies if b.get("outcomeDesc") == "to be issued again"]
    assert [each["entity"][1]["what"]["reference"] for each in ours] == [target]
    assert ours[0]["agent"][0]["who"]["identifier"]["value"] == "ann"
