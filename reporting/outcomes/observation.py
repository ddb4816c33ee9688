"""The FHIR Observation of a change: derivedFrom both results, partOf the Procedure."""

from __future__ import annotations

from uuid import UUID

from reporting.fhir.builders.device import device_id
from reporting.fhir.elements import (
    ASSERTED_BY_AI,
    DATA_ABSENT_REASON,
    INTERPRETATION,
    OBSERVATION_CATEGORY,
    URI_SYSTEM,
    Element,
    codeable,
    coded,
    date_time,
    issued,
    quantity,
    reference,
    without_empty,
)
from reporting.identifiers import fhir_id, observation_id_of
from reporting.outcomes.database.changes import StoredChange
from reporting.outcomes.records import ProcedureCase, RegionOutcome
from reporting.terminology import CHANGE, FACE, REGION_CHANGES, SCORE_UNIT
from service.appraisal.change import Verdict
from service.records import Region

_SAID = {Verdict.BETTER: ("B", "Better"), Verdict.WORSE: ("W", "Worse")}


def observation_id(change_id: UUID, case_id: UUID, window: str) -> str:
    """Logical id."""
    return fhir_id("Observation", "change", str(change_id), str(case_id), window)


def build_change(stored: StoredChange, *, case: ProcedureCase, patient: str, organisation: str) -> Element:
    """Make the Observation.

    Args:
        stored: The change as it is kept.
        case: The operation, as it is known now.
        patient: Logical id of the Patient.
        organisation: Who performs.
    """
    face = next((each for each in stored.regions if each.region is Region.FACE), None)
    others = [each for each in stored.regions if each.region is not Region.FACE]
    return without_empty(
        {
            "resourceType": "Observation",
            "id": observation_id(stored.change_id, stored.case_id, stored.window),
            "meta": {"security": [ASSERTED_BY_AI]},
            "identifier": [{"system": URI_SYSTEM, "value": f"urn:uuid:{stored.change_id}"}],
            "partOf": [reference("Procedure", case.procedure_id)] if case.procedure_id else None,
            "status": "final",
            "category": [coded(OBSERVATION_CATEGORY, "imaging", "Imaging")],
            "code": codeable(CHANGE),
            "subject": reference("Patient", patient),
            "effectiveDateTime": date_time(stored.followed_at, stored.followed_on),
            "issued": issued(stored.created_at),
            "performer": [{"type": "Organization", "display": organisation}],
            **(_value(face) if face else {}),
            "note": [{"text": f"{stored.window} after the operation of {case.performed_on}"}],
            "bodySite": codeable(FACE),
            "method": {"text": stored.method},
            "device": reference("Device", device_id(stored.method_identity)),
            "derivedFrom": [
                reference("Observation", observation_id_of(str(each)))
                for each in (stored.before_appraisal, stored.after_appraisal)
            ],
            "component": [
                without_empty({"code": codeable(REGION_CHANGES[each.region]), **_value(each)})
                for each in others
            ],
        }
    )


def _value(outcome: RegionOutcome) -> Element:
    """Change, what it says, and what it has to go beyond; or that it is not known."""
    if outcome.change is None:
        return {"dataAbsentReason": coded(DATA_ABSENT_REASON, "not-performed", "Not Performed")}
    made: Element = {"valueQuantity": quantity(outcome.change, SCORE_UNIT)}
    if outcome.verdict in _SAID:
        made["interpretation"] = [coded(INTERPRETATION, *_SAID[outcome.verdict])]
    smallest = outcome.smallest_detectable
    if smallest is not None:
        made["referenceRange"] = [
            {
                "low": quantity(-smallest, SCORE_UNIT),
                "high": quantity(smallest, SCORE_UNIT),
                "text": "smallest detectable change of this region alone; "
                "the verdict allows for the number of regions",
            }
        ]
    return made
