"""A corrected photograph's results: amended, moved to whose they are, sent anew."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

import pytest

from reporting.fhir.builders.imaging import media_id
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.render import loads
from reporting.holdings.index import catch_up
from reporting.identifiers import ResultKind, fhir_id, result_uid
from reporting.report import report
from service.config import Settings
from service.database import appraisals, instances, versions
from service.database.delivery import deliveries
from service.database.pool import Pool, transaction
from service.database.versions import Version
from service.pipeline.attempt import Outcome, attempt
from service.pipeline.context import Context
from service.pipeline.progress import appraised as close_appraisal
from service.records import DeliveryState, LedgerEvent, SavedAppraisal
from service.steps import REPORT
from service.storage.local import InstanceStore
from tests.integration.reporting.judging import DESTINATIONS, judge, keep_png
from tests.unit.reporting.photographs import SERIES_UID, SOP_UID, STUDY_UID, appraised, photograph

A, B = fhir_id("Patient", "HOSPITAL-A", "P-001"), fhir_id("Patient", "HOSPITAL-A", "P-002")


@pytest.fixture
def context(settings: Settings, pool: Pool, store: InstanceStore) -> Context:
    configured = settings.model_copy(
        update={"destinations": DESTINATIONS[:1], "timezone": "Europe/Berlin", "step_max_attempts": 1}
    )
    return Context(settings=configured, pool=pool, store=store)


def reported(context: Context) -> tuple[int, SavedAppraisal]:
    saved = appraised(heatmap_sha256=keep_png(context.store))
    instance_id = judge(context, saved)
    assert attempt(context, REPORT, report, instance_id) is Outcome.DONE
    return instance_id, saved


def correct(context: Context, instance_id: int, **attributes: Any) -> None:
    """Give a photograph another header, as intake does, and have its appraisal found the same."""
    stored = context.store.put(photograph(**attributes))
    version = Version(
        sha256=stored.sha256,
        size_bytes=stored.size_bytes,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.77.1.4",
        transfer_syntax_uid="1.2.840.10008.1.2.4.50",
        study_instance_uid=attributes.get("StudyInstanceUID", STUDY_UID),
        series_instance_uid=SERIES_UID,
        patient_id=attributes.get("PatientID", "P-001"),
        issuer_of_patient_id="HOSPITAL-A",
    )
    with transaction(context.pool) as connection:
        versions.replace(connection, instance_id, version, {})
        close_appraisal(connection, instance_id, LedgerEvent.APPRAISED, {})
    assert attempt(context, REPORT, report, instance_id) is Outcome.DONE


def read(context: Context, resource_type: str, resource_id: str) -> tuple[dict[str, Any], str | None]:
    with transaction(context.pool) as connection:
        stored = fhir_resources.read(connection, resource_type, resource_id)
    assert stored is not None
    return loads(stored.body), stored.patient


def heatmap(saved: SavedAppraisal, version: int) -> str:
    return result_uid(saved.appraisal.appraisal_id, ResultKind.SECONDARY_CAPTURE, version)


def observation(saved: SavedAppraisal) -> str:
    return fhir_id("Observation", str(saved.appraisal.appraisal_id))


def test_a_corrected_accession_number_amends_the_results(context: Context) -> None:
    instance_id, saved = reported(context)
    correct(context, instance_id, AccessionNumber="ACC-78")
    found, patient = read(context, "Observation", observation(saved))
    assert (found["status"], patient) == ("amended", A)
    assert found["basedOn"][0]["identifier"]["value"] == "ACC-78"
    assert found["meta"]["versionId"] == "2"
    whole, _ = read(context, "DiagnosticReport", fhir_id("DiagnosticReport", STUDY_UID))
    assert whole["status"] == "amended"
    shown = [each["link"]["reference"] for each in whole["media"]]
    assert shown == [f"Media/{media_id(heatmap(saved, 2))}"]
    assert read(context, "Media", media_id(heatmap(saved, 1)))[0]["status"] == "entered-in-error"
    study, _ = read(context, "ImagingStudy", fhir_id("ImagingStudy", STUDY_UID))
    uids = {i["uid"] for series in study["series"] for i in series["instance"]}
    assert {SOP_UID, heatmap(saved, 2)} <= uids
    assert heatmap(saved, 1) not in uids
    with transaction(context.pool) as connection:
        sent = {
            each.sop_instance_uid: each.state for each in deliveries.for_instance(connection, instance_id)
        }
    assert sent[heatmap(saved, 1)] is DeliveryState.DEAD
    assert sent[heatmap(saved, 2)] is DeliveryState.PENDING


def test_a_corrected_patient_moves_the_results(context: Context) -> None:
    instance_id, saved = reported(context)
    assert catch_up(context.pool, context.store, 60)
    correct(context, instance_id, PatientID="P-002")
    found, patient = read(context, "Observation", observation(saved))
    assert (found["status"], found["subject"]["reference"], patient) == ("amended", f"Patient/{B}", B)
    first, owner = read(context, "DiagnosticReport", fhir_id("DiagnosticReport", STUDY_UID))
    assert (first["status"], owner) == ("entered-in-error", A)
    assert "result" not in first
    second, owner = read(context, "DiagnosticReport", fhir_id("DiagnosticReport", STUDY_UID, B))
    assert (owner, second["result"][0]["reference"]) == (B, f"Observation/{observation(saved)}")
    assert (
        read(context, "ImagingStudy", fhir_id("ImagingStudy", STUDY_UID))[0]["status"] == "entered-in-error"
    )
    assert catch_up(context.pool, context.store, 60)
    with transaction(context.pool) as connection:
        held = connection.execute("SELECT DISTINCT patient FROM held_instance").fetchall()
        conflicts = connection.execute("SELECT FROM patient_conflict WHERE resolved_at IS NULL").fetchall()
    assert [row["patient"] for row in held] == [B]
    assert conflicts == []  # nothing of the first patient is left in the study


def test_running_the_report_again_changes_nothing(context: Context) -> None:
    instance_id, saved = reported(context)
    correct(context, instance_id, AccessionNumber="ACC-78")
    before = read(context, "Observation", observation(saved))
    with transaction(context.pool) as connection:
        instances.set_state(connection, instance_id, REPORT.begins_in)
    assert attempt(context, REPORT, report, instance_id) is Outcome.DONE
    assert read(context, "Observation", observation(saved)) == before


def test_results_of_replaced_pixels_are_taken_back(context: Context) -> None:
    instance_id, saved = reported(context)
    with transaction(context.pool) as connection:
        other = appraised(heatmap_sha256=saved.heatmap_sha256)
        new = replace(other.appraisal, appraisal_id=uuid5(UUID(int=9), "new"), pixel_sha256="cd" * 32)
        appraisals.save(
            connection,
            instance_id=instance_id,
            appraisal=new,
            heatmap_sha256=saved.heatmap_sha256,
            difference_map_sha256=saved.difference_map_sha256,
        )
        appraisals.supersede_others(connection, instance_id, new.pixel_sha256)
    correct(context, instance_id, InstanceNumber=8)
    assert read(context, "Observation", observation(saved))[0]["status"] == "entered-in-error"
    now, _ = read(context, "Observation", fhir_id("Observation", str(new.appraisal_id)))
    assert now["status"] == "final"
