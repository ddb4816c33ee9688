"""Pairs follow photographs, operations, results, merges and decisions by themselves."""

from __future__ import annotations

from datetime import date

import psycopg
import pytest

from reporting.fhir.write.withdrawal import withdraw
from reporting.identifiers import change_id, observation_id_of
from reporting.outcomes.by_uid import change_by_uid
from reporting.outcomes.database import pairs, photograph_tables
from reporting.outcomes.observation import observation_id
from service.config import Settings
from service.database import reappraisals
from service.database.pool import Pool, transaction
from service.errors import OutcomeError
from service.pipeline.context import Context
from service.records import Region, RejectionReason
from service.storage.local import InstanceStore
from tests.integration.reporting.outcomes.clinic import SYMMETRY, Clinic, days, patient_of, worse

OPERATED = date(2023, 5, 10)


@pytest.fixture
def clinic(settings: Settings, pool: Pool, store: InstanceStore) -> Clinic:
    return Clinic(Context(settings=settings, pool=pool, store=store))


def _pair(clinic: Clinic, patient: str = "P-001", gain: float = 0.75) -> tuple[int, int]:
    before = clinic.photograph(patient, OPERATED - days(10), 1.0)
    after = clinic.photograph(patient, OPERATED + days(365), 1.0 + gain)
    return before, after


def test_a_photograph_on_either_side_of_an_operation_makes_a_change(clinic: Clinic) -> None:
    _pair(clinic)
    clinic.operate("P-001", OPERATED)
    clinic.settle()
    (face,) = clinic.faces()
    assert face["window_name"] == "12 months"
    assert face["change"] == pytest.approx(0.75)
    assert (face["verdict"], face["is_primary"]) == ("better", True)
    assert face["change_id"] == change_id(face["before_appraisal"], face["after_appraisal"])
    assert face["surgeon"] == "Practitioner/s1"
    states = clinic.states()
    assert states["12 months"] == ("paired", "")
    assert states["6 months"] == ("missing-after", "")
    assert states["18 years"] == ("not-due", "")


def test_its_observation_is_derived_from_both_and_part_of_the_procedure(clinic: Clinic) -> None:
    _pair(clinic)
    clinic.operate("P-001", OPERATED)
    clinic.settle()
    (face,) = clinic.faces()
    found = clinic.observation(observation_id(face["change_id"], face["case_id"], "12 months"))
    assert found["partOf"] == [{"reference": "Procedure/op-1"}]
    assert found["derivedFrom"] == [
        {"reference": f"Observation/{observation_id_of(str(face[side]))}"}
        for side in ("before_appraisal", "after_appraisal")
    ]
    assert float(found["valueQuantity"]["value"]) == pytest.approx(0.75)
    assert found["interpretation"][0]["coding"][0]["code"] == "B"
    assert {c["code"]["coding"][0]["code"] for c in found["component"]} == {"c-nose", "c-upper-lip"}


def test_new_photographs_and_operations_update_pairs_by_themselves(clinic: Clinic) -> None:
    clinic.operate("P-001", OPERATED)
    clinic.settle()
    assert clinic.states()["12 months"] == ("missing-before", "")
    clinic.photograph("P-001", OPERATED - days(60), 0.8)
    clinic.photograph("P-001", OPERATED + days(365), 1.5)
    clinic.settle()
    (first,) = clinic.faces()
    clinic.photograph("P-001", OPERATED - days(5), 1.0)  # later, still before: it takes the place
    clinic.settle()
    (second,) = clinic.faces()
    (gone,) = clinic.faces(valid=False)
    assert (gone["change_id"], gone["why_not"]) == (first["change_id"], "superseded")
    assert second["before"] == pytest.approx(1.0)
    name = observation_id(first["change_id"], first["case_id"], "12 months")
    assert clinic.observation(name)["status"] == "entered-in-error"


def test_a_moved_operation_moves_its_pairs(clinic: Clinic) -> None:
    _pair(clinic)
    clinic.operate("P-001", OPERATED)
    clinic.settle()
    clinic.operate("P-001", OPERATED - days(20))
    clinic.settle()
    assert clinic.faces() == []  # no photograph is before it any more
    assert clinic.states()["12 months"] == ("missing-before", "")
    versions = clinic.rows("SELECT version, reason FROM procedure_case ORDER BY version")
    assert [row["version"] for row in versions] == [1, 2]
    assert versions[1]["reason"]


def test_an_operation_entered_in_error_takes_its_changes_out(clinic: Clinic) -> None:
    _pair(clinic)
    clinic.operate("P-001", OPERATED)
    clinic.settle()
    clinic.operate("P-001", OPERATED, status="entered-in-error")
    clinic.settle()
    assert {row["why_not"] for row in clinic.faces(valid=False)} == {"case-withdrawn"}
    assert clinic.states()["12 months"][0] == "withdrawn"


def test_everything_made_twice_changes_nothing(clinic: Clinic) -> None:
    _pair(clinic)
    clinic.operate("P-001", OPERATED)
    clinic.settle()
    kept = ("SELECT * FROM photograph_role ORDER BY 1", "SELECT * FROM outcome_change ORDER BY 1, 3, 4")
    before = [clinic.rows(query) for query in kept]
    clinic.rows("INSERT INTO outcome_touched (patient) VALUES (%s) RETURNING 1", patient_of("P-001"))
    clinic.settle()
    again = [clinic.rows(query) for query in kept]
    assert before == again


def test_a_withdrawn_result_takes_its_change_out(clinic: Clinic) -> None:
    _pair(clinic)
    clinic.operate("P-001", OPERATED)
    clinic.settle()
    (face,) = clinic.faces()
    with transaction(clinic.context.pool) as connection:
        name = observation_id_of(str(face["after_appraisal"]))
        withdraw(connection, name, reason="another patient", who="tester", settings=clinic.context.settings)
    clinic.settle()
    assert [row["why_not"] for row in clinic.faces(valid=False)] == ["withdrawn"]
    assert clinic.states()["12 months"] == ("withdrawn", "")
    name = observation_id(face["change_id"], face["case_id"], "12 months")
    assert clinic.observation(name)["status"] == "entered-in-error"
    history = clinic.rows("SELECT valid, why_not FROM outcome_validity WHERE region = 'face'")
    assert history == [{"valid": False, "why_not": "withdrawn"}]
    with transaction(clinic.context.pool) as connection:
        counted = photograph_tables.counts(connection, date.min, date.max)
    assert (counted.known, counted.judged, counted.withdrawn, counted.no_consent) == (2, 2, 1, 0)


def test_results_of_two_methods_wait_until_both_have_the_newer_one(clinic: Clinic) -> None:
    before = clinic.photograph("P-001", OPERATED - days(10), 1.0, method=SYMMETRY)
    clinic.photograph("P-001", OPERATED + days(365), 2.0)
    clinic.operate("P-001", OPERATED)
    clinic.settle()
    assert clinic.faces() == []
    assert clinic.states()["12 months"] == ("not-comparable", "other-method")
    with transaction(clinic.context.pool) as connection:
        (progress,) = reappraisals.progress(connection)
    assert (progress.requested, progress.done) == (1, 0)
    clinic.judge(before, 1.2)  # as the worker does
    with transaction(clinic.context.pool) as connection:
        reappraisals.mark_done(connection, before, progress.phase)
        connection.execute(
            "INSERT INTO outbox (task, queue, subject_id) VALUES ('report-again', 'report', %s)", (before,)
        )
    clinic.settle()
    (face,) = clinic.faces()
    assert (face["before"], face["after"]) == (1.2, 2.0)
    kept = clinic.rows("SELECT method_name FROM appraisal WHERE instance_id = %s ORDER BY 1", before)
    assert [row["method_name"] for row in kept] == ["default", "symmetry"]


def test_the_best_photograph_of_a_window_is_taken(clinic: Clinic) -> None:
    clinic.photograph("P-001", OPERATED - days(10), 1.0)
    clinic.photograph("P-001", OPERATED + days(350), 1.9, quality=worse())
    best = clinic.photograph("P-001", OPERATED + days(380), 1.5)
    clinic.operate("P-001", OPERATED)
    clinic.settle()
    (face,) = clinic.faces()
    assert face["after"] == 1.5
    (role,) = clinic.rows("SELECT * FROM photograph_role WHERE window_name = '12 months'")
    assert (role["instance_id"], role["reason"]) == (best, "best of 2 by quality")


def test_two_alike_are_a_conflict_that_a_person_decides(clinic: Clinic) -> None:
    clinic.photograph("P-001", OPERATED - days(10), 1.0)
    one = clinic.photograph("P-001", OPERATED + days(350), 1.9)
    clinic.photograph("P-001", OPERATED + days(380), 1.5)
    clinic.operate("P-001", OPERATED)
    clinic.settle()
    assert clinic.faces() == []
    assert clinic.states()["12 months"] == ("undecided", "equal-quality")
    with transaction(clinic.context.pool) as connection:
        (conflict,) = pairs.open_conflicts(connection)
        pairs.decide(
            connection,
            case_id=conflict.case_id,
            window=conflict.window,
            instance_id=one,
            reason="smiles",
            author="nurse",
        )
        connection.execute("INSERT INTO outcome_touched (patient) VALUES (%s)", (conflict.patient,))
    clinic.settle()
    (face,) = clinic.faces()
    assert face["after"] == 1.9
    with transaction(clinic.context.pool) as connection:
        assert pairs.open_conflicts(connection) == []


def test_a_header_against_the_date_and_an_impossible_date_are_conflicts(clinic: Clinic) -> None:
    clinic.photograph("P-001", OPERATED - days(10), 1.0, StudyDescription="Cleft lip, post-op")
    clinic.photograph("P-001", OPERATED + days(365), 1.5, PatientBirthDate="20300101")
    clinic.operate("P-001", OPERATED)
    clinic.settle()
    with transaction(clinic.context.pool) as connection:
        kinds = {each.kind.value for each in pairs.open_conflicts(connection)}
    assert kinds == {"hint-against-date", "impossible-date"}
    assert clinic.faces() == []


def test_rejected_photographs_are_counted_by_reason(clinic: Clinic) -> None:
    clinic.photograph("P-001", OPERATED - days(10), 1.0)
    clinic.photograph("P-001", OPERATED + days(365), 0, rejected=RejectionReason.BLURRED)
    clinic.operate("P-001", OPERATED)
    clinic.settle()
    assert clinic.states()["12 months"] == ("rejected", "blurred")


def test_a_region_that_was_not_scored_gives_no_change_of_its_own(clinic: Clinic) -> None:
    clinic.photograph("P-001", OPERATED - days(10), 1.0, scores={Region.NOSE: None})
    clinic.photograph("P-001", OPERATED + days(365), 1.5)
    clinic.operate("P-001", OPERATED)
    clinic.settle()
    (nose,) = clinic.rows("SELECT * FROM outcome_change WHERE region = 'nose'")
    assert (nose["valid"], nose["why_not"], nose["change"]) == (False, "not-scored", None)
    assert clinic.states()["12 months"] == ("paired", "")


def test_the_pairs_of_a_merged_patient_do_not_split(clinic: Clinic) -> None:
    clinic.photograph("P-001", OPERATED - days(10), 1.0)
    clinic.photograph("P-002", OPERATED + days(365), 1.5)
    clinic.operate("P-001", OPERATED)
    clinic.settle()
    assert clinic.faces() == []
    clinic.write(
        {
            "resourceType": "Patient", "id": patient_of("P-001"),
            "link": [{"other": {"reference": f"Patient/{patient_of('P-002')}"}, "type": "replaced-by"}],
        }
    )  # fmt: skip
    clinic.settle()
    (face,) = clinic.faces()
    assert face["change"] == pytest.approx(0.5)
    assert face["patient"] == patient_of("P-002")


def test_what_was_decided_cannot_be_rewritten(clinic: Clinic) -> None:
    _pair(clinic)
    clinic.operate("P-001", OPERATED)
    clinic.settle()
    for query in (
        "UPDATE outcome_change SET change = 9",
        "DELETE FROM outcome_change",
        "TRUNCATE outcome_change",
        "UPDATE procedure_case SET surgeon = 'x'",
        "DELETE FROM photograph_role",
        "UPDATE phase SET reason = 'x'",
    ):
        with pytest.raises(psycopg.errors.RaiseException), transaction(clinic.context.pool) as connection:
            connection.execute(query.encode())


def _uid(clinic: Clinic, instance_id: int) -> str:
    (row,) = clinic.rows("SELECT sop_instance_uid FROM instance WHERE instance_id = %s", instance_id)
    return str(row["sop_instance_uid"])


def _by_uid(clinic: Clinic, before: int, after: int) -> str:
    with transaction(clinic.context.pool) as connection:
        uids = (_uid(clinic, before), _uid(clinic, after))
        _, found, basis = change_by_uid(connection, *uids, clinic.context.settings)
    assert "photographs" in basis
    return next(each.verdict.value for each in found if each.region is Region.FACE)


def test_a_change_by_uids_and_every_refusal(clinic: Clinic) -> None:
    before, after = _pair(clinic)
    assert _by_uid(clinic, before, after) == "better"
    other = clinic.photograph("P-002", OPERATED + days(365), 1.5)
    older = clinic.photograph("P-001", OPERATED + days(365), 1.5, method=SYMMETRY)
    rejected = clinic.photograph("P-001", OPERATED + days(400), 0, rejected=RejectionReason.YAW)
    for pair, said in (
        ((after, before), "not taken before"),
        ((before, other), "two patients"),
        ((before, older), "two methods"),
        ((before, rejected), "rejected"),
    ):
        with pytest.raises(OutcomeError, match=said):
            _by_uid(clinic, *pair)
    (row,) = clinic.rows("SELECT appraisal_id FROM appraisal WHERE instance_id = %s", after)
    with transaction(clinic.context.pool) as connection:
        name = observation_id_of(str(row["appraisal_id"]))
        withdraw(connection, name, reason="x", who="tester", settings=clinic.context.settings)
    with pytest.raises(OutcomeError, match="taken back"):
        _by_uid(clinic, before, after)
