"""Studies close by announcement or quiet, open again for what comes late, and their report says so."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import pytest

from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.valid.definitions import STUDY_COMPLETENESS
from reporting.identifiers import fhir_id
from reporting.report import report, report_study
from service.config import Settings
from service.database import appraisals, instances, ledger, outbox, studies
from service.database.delivery import commitments
from service.database.delivery.commitments import SopReference
from service.database.pool import Pool, transaction
from service.database.studies import Study
from service.pipeline.completeness import close_quiet, note_announced, note_received
from service.pipeline.context import Context
from service.pipeline.publishing import publish_due
from service.pipeline.sweeper import sweep
from service.records import InstanceState, LedgerEvent, NewInstance, StudyState
from service.steps import APPRAISE, REPORT_STUDY, Queue
from service.storage.local import InstanceStore
from tests.records import offered
from tests.unit.reporting.photographs import STUDY_UID, photograph, rejected

CLASS = "1.2.840.10008.5.1.4.1.1.77.1.4"


@dataclass(frozen=True, kw_only=True)
class Clinic:
    """A node's database, driven step by step."""

    context: Context

    def receive(self, uid: str, study: str = STUDY_UID) -> int:
        """Receive a photograph and have the relay note it."""
        stored = self.context.store.put(photograph(SOPInstanceUID=uid, StudyInstanceUID=study))
        with transaction(self.context.pool) as connection:
            _, instance_id = instances.receive(
                connection,
                NewInstance(
                    sop_instance_uid=uid,
                    sop_class_uid=CLASS,
                    study_instance_uid=study,
                    series_instance_uid="1.2.3.4",
                    transfer_syntax_uid="1.2.840.10008.1.2.4.50",
                    patient_id="P",
                    issuer_of_patient_id="",
                    calling_ae_title="CAMERA",
                    called_ae_title="SEMBLANCE",
                    peer_address="127.0.0.1",
                    sha256=stored.sha256,
                    size_bytes=stored.size_bytes,
                ),
            )
        with transaction(self.context.pool) as connection:
            note_received(connection, [instance_id])
        return instance_id

    def announce(self, *uids: str, transaction_uid: str = "2.25.1") -> None:
        """Have the sender ask for storage commitment."""
        with transaction(self.context.pool) as connection:
            commitments.add(
                connection,
                transaction_uid=transaction_uid,
                requester_ae_title="CAMERA",
                requester_address="127.0.0.1",
                references=[SopReference(sop_class_uid=CLASS, sop_instance_uid=uid) for uid in uids],
            )
            note_announced(connection, self.context.settings, uids)

    def fall_quiet(self) -> None:
        """Let the quiet time pass, and have the sweeper look."""
        with transaction(self.context.pool) as connection:
            connection.execute("UPDATE study SET last_received_at = last_received_at - interval '1 hour'")
            connection.execute("UPDATE instance SET received_at = received_at - interval '1 hour'")
        close_quiet(self.context.pool, self.context.settings)

    def report(self, instance_id: int) -> None:
        """Appraise (reject) and report a photograph."""
        with transaction(self.context.pool) as connection:
            sop_instance_uid = instances.get(connection, instance_id).sop_instance_uid
            appraisal = replace(rejected().appraisal, sop_instance_uid=sop_instance_uid, appraisal_id=uuid4())
            appraisals.save(
                connection,
                instance_id=instance_id,
                appraisal=appraisal,
                heatmap_sha256="",
                difference_map_sha256="",
            )
            instances.set_state(connection, instance_id, InstanceState.APPRAISED)
        report(self.context, instance_id)

    def run_errands(self) -> int:
        """Bring the reports up to date that were asked for; returns how many."""
        with transaction(self.context.pool) as connection:
            asked = [each for each in outbox.take_due(connection, 100) if each.task == REPORT_STUDY.task]
            outbox.delete(connection, [each.outbox_id for each in asked])
        for each in asked:
            report_study(self.context, int(each.subject_id))
        return len(asked)

    def study(self, uid: str = STUDY_UID) -> Study:
        """The study as it is now."""
        with transaction(self.context.pool) as connection:
            found = studies.find(connection, uid)
        assert found is not None
        return found

    def diagnostic_report(self) -> dict[str, Any]:
        """The study's report as it is served."""
        with transaction(self.context.pool) as connection:
            stored = fhir_resources.read(
                connection, "DiagnosticReport", fhir_id("DiagnosticReport", STUDY_UID)
            )
        assert stored is not None
        return json.loads(stored.body)


@pytest.fixture
def clinic(settings: Settings, pool: Pool, store: InstanceStore) -> Clinic:
    configured = settings.model_copy(update={"timezone": "Europe/Berlin"})
    return Clinic(context=Context(settings=configured, pool=pool, store=store))


def said(resource: dict[str, Any]) -> dict[str, list[Any]]:
    """What a report says of its study's completeness."""
    (found,) = [each for each in resource["extension"] if each["url"] == STUDY_COMPLETENESS]
    values: dict[str, list[Any]] = {}
    for part in found["extension"]:
        (value,) = (part[key] for key in part if key.startswith("value"))
        values.setdefault(part["url"], []).append(value)
    return values


def test_nothing_announced_closes_by_quiet_and_what_comes_late_opens_again(clinic: Clinic) -> None:
    clinic.receive("2.25.11")
    close_quiet(clinic.context.pool, clinic.context.settings)
    assert clinic.study().state is StudyState.OPEN
    clinic.fall_quiet()
    assert clinic.study().state is StudyState.QUIET
    clinic.receive("2.25.12")
    assert (clinic.study().state, clinic.study().reopened) == (StudyState.OPEN, 1)


class Heard:
    """A broker that takes every message."""

    def __init__(self) -> None:
        self.messages: list[outbox.OutboxMessage] = []

    def publish(self, message: outbox.OutboxMessage) -> None:
        self.messages.append(message)

    def depth(self, _queue: Queue) -> int:
        return len(self.messages)


def test_the_relay_opens_studies_closes_them_and_has_them_reported(clinic: Clinic) -> None:
    pool, settings, broker = clinic.context.pool, clinic.context.settings, Heard()
    with transaction(pool) as connection:
        _, instance_id = instances.receive(connection, offered("2.25.11"))
    publish_due(pool, broker)
    assert clinic.study("1.2.3.4").state is StudyState.OPEN
    hasty = settings.model_copy(update={"study_quiet_s": 1e-6})
    assert sweep(pool, broker, hasty) == 1
    assert clinic.study("1.2.3.4").state is StudyState.QUIET
    publish_due(pool, broker)
    assert [(each.task, each.subject_id) for each in broker.messages] == [
        (APPRAISE.task, str(instance_id)),
        (REPORT_STUDY.task, str(instance_id)),
    ]


def test_a_message_sent_again_opens_nothing(clinic: Clinic) -> None:
    instance_id = clinic.receive("2.25.11")
    clinic.fall_quiet()
    with transaction(clinic.context.pool) as connection:
        note_received(connection, [instance_id])
    assert (clinic.study().state, clinic.study().reopened) == (StudyState.QUIET, 0)


def test_the_announced_closes_at_once(clinic: Clinic) -> None:
    for uid in ("2.25.11", "2.25.12"):
        clinic.receive(uid)
    clinic.announce("2.25.11", "2.25.12")
    assert (clinic.study().state, clinic.study().missing) == (StudyState.COMPLETE, ())


def test_an_announcement_before_the_photographs_closes_with_the_last(clinic: Clinic) -> None:
    clinic.announce("2.25.11", "2.25.12")
    clinic.receive("2.25.11")
    assert (clinic.study().state, clinic.study().missing) == (StudyState.OPEN, ("2.25.12",))
    clinic.receive("2.25.12")
    assert clinic.study().state is StudyState.COMPLETE


def test_what_is_missing_is_flagged_and_its_late_arrival_mends_it(clinic: Clinic) -> None:
    clinic.receive("2.25.11")
    clinic.announce("2.25.11", "2.25.12", "2.25.13")
    assert clinic.study().state is StudyState.OPEN
    clinic.fall_quiet()
    assert (clinic.study().state, clinic.study().missing) == (StudyState.INCOMPLETE, ("2.25.12", "2.25.13"))
    with transaction(clinic.context.pool) as connection:
        (entry,) = ledger.entries(connection, "2.25.12")
        assert [each.study_instance_uid for each in studies.with_missing(connection)] == [STUDY_UID]
    assert (entry.event, dict(entry.detail)) == (LedgerEvent.MISSING, {"study_instance_uid": STUDY_UID})
    clinic.receive("2.25.12")
    assert (clinic.study().state, clinic.study().missing) == (StudyState.OPEN, ("2.25.13",))
    clinic.receive("2.25.13")
    assert (clinic.study().state, clinic.study().missing) == (StudyState.COMPLETE, ())


def test_more_than_was_announced_waits_for_quiet(clinic: Clinic) -> None:
    clinic.receive("2.25.11")
    clinic.announce("2.25.11")
    clinic.receive("2.25.12")
    assert clinic.study().state is StudyState.OPEN
    clinic.fall_quiet()
    assert clinic.study().state is StudyState.COMPLETE


def test_an_announcement_after_the_study_closed_is_heard(clinic: Clinic) -> None:
    clinic.receive("2.25.11")
    clinic.fall_quiet()
    clinic.announce("2.25.11", "2.25.12")
    assert (clinic.study().state, clinic.study().missing) == (StudyState.INCOMPLETE, ("2.25.12",))


def test_an_announcement_over_studies_flags_each(clinic: Clinic) -> None:
    clinic.receive("2.25.11")
    clinic.receive("2.25.21", study="2.25.2")
    clinic.announce("2.25.11", "2.25.21", "2.25.31")
    clinic.fall_quiet()
    assert clinic.study().missing == clinic.study("2.25.2").missing == ("2.25.31",)


def test_the_report_is_partial_until_the_study_is_whole(clinic: Clinic) -> None:
    clinic.report(clinic.receive("2.25.11"))
    assert clinic.diagnostic_report()["status"] == "partial"
    assert said(clinic.diagnostic_report())["state"] == ["open"]
    clinic.fall_quiet()
    assert clinic.run_errands() == 1
    assert clinic.diagnostic_report()["status"] == "final"
    assert said(clinic.diagnostic_report()) == {"state": ["quiet"], "missingInstances": [0]}
    assert clinic.study().reported_revision == clinic.study().revision


def test_the_report_names_what_is_missing_and_what_came_late(clinic: Clinic) -> None:
    clinic.report(clinic.receive("2.25.11"))
    clinic.announce("2.25.11", "2.25.12")
    clinic.fall_quiet()
    clinic.run_errands()
    found = clinic.diagnostic_report()
    assert found["status"] == "final"
    assert said(found) == {
        "state": ["incomplete"],
        "missingInstances": [1],
        "missing": ["urn:oid:2.25.12"],
    }
    late = clinic.receive("2.25.12")
    clinic.report(late)
    found = clinic.diagnostic_report()
    assert found["status"] == "appended"
    assert said(found) == {"state": ["complete"], "missingInstances": [0]}
    assert len(found["result"]) == 2


def test_a_report_waits_for_results_that_are_on_their_way(clinic: Clinic) -> None:
    first, second = clinic.receive("2.25.11"), clinic.receive("2.25.12")
    clinic.announce("2.25.11", "2.25.12")
    assert clinic.study().state is StudyState.COMPLETE
    clinic.report(first)
    assert clinic.diagnostic_report()["status"] == "partial"
    clinic.report(second)
    assert clinic.diagnostic_report()["status"] == "final"


def test_a_report_that_fell_behind_is_asked_for_again(clinic: Clinic) -> None:
    clinic.receive("2.25.11")
    clinic.fall_quiet()
    assert clinic.run_errands() == 1  # there is no report yet: it stays behind
    impatient = replace(
        clinic.context, settings=clinic.context.settings.model_copy(update={"stall_after_s": 1e-6})
    )
    assert close_quiet(clinic.context.pool, clinic.context.settings) == 0
    assert close_quiet(impatient.pool, impatient.settings) == 1
