"""The FHIR Observation of a change: derivedFrom both results, partOf the Procedure."""

from __future__ import annotations

from datetime import datetime
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
from reporting.identifiers import fhir_id
from reporting.outcomes.records import ProcedureCase, RegionOutcome, ResultSide, Window
from reporting.terminology import CHANGE, FACE, REGION_CHANGES, SCORE_UNIT
from service.appraisal.change import Verdict
from service.records import Region

_SAID = {Verdict.BETTER: ("B", "Better"), Verdict.WORSE: ("W", "Worse")}


def observation_id(change_id: UUID, case_id: UUID, window: str) -> str:
    """Logical id."""
    return fhir_id("Observation", "change", str(change_id), str(case_id), window)


def build_change(
    *,
    change_id: UUID,
    case: ProcedureCase,
    window: Window,
    before: ResultSide,
    after: ResultSide,
    outcomes: tuple[RegionOutcome, ...],
    organisation: str,
    made_at: datetime,
) -> Element:
    """Make the Observation.

    Args:
        change_id: Of both appraisals.
        case: The operation.
        window: That the later photograph was taken in.
        before: The result before the operation.
        after: The one after it.
        outcomes: Of the regions.
        organisation: Who performs.
        made_at: When the change was found, aware.
    """
    face = next((each for each in outcomes if each.region is Region.FACE), None)
    others = [each for each in outcomes if each.region is not Region.FACE]
    return without_empty(
        {
            "resourceType": "Observation",
            "id": observation_id(change_id, case.case_id, window.name),
            "meta": {"security": [ASSERTED_BY_AI]},
            "identifier": [{"system": URI_SYSTEM, "value": f"urn:uuid:{change_id}"}],
            "partOf": [reference("Procedure", case.procedure_id)] if case.procedure_id else None,
            "status": "final",
            "category": [coded(OBSERVATION_CATEGORY, "imaging", "Imaging")],
            "code": codeable(CHANGE),
            "subject": reference("Patient", case.patient),
            "effectiveDateTime": date_time(after.acquired_at, after.acquired_on),
            "issued": issued(made_at),
            "performer": [{"type": "Organization", "display": organisation}],
            **(_value(face) if face else {}),
            "note": [{"text": f"{window.name} after the operation of {case.performed_on}"}],
            "bodySite": codeable(FACE),
            "method": {"text": f"{after.appraisal.method.name} {after.appraisal.method.version}"},
            "device": reference("Device", device_id(after.appraisal.method)),
            "derivedFrom": [
                reference("Observation", before.observation_id),
                reference("Observation", after.observation_id),
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
