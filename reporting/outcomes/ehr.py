"""An operation as the EHR writes it: a FHIR Procedure made a case."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from reporting.identifiers import case_id
from reporting.outcomes.records import CaseSource, Laterality, ProcedureCase

_SNOMED = "http://snomed.info/sct"
_SIDES = {
    "7771000": Laterality.LEFT,
    "24028007": Laterality.RIGHT,
    "51440002": Laterality.BILATERAL,
    "260528009": Laterality.MIDLINE,
}
_PHENOTYPE = re.compile(r"\b(UCLP|BCLP|UCL|BCL|CLP|CL|CP)\b")
_DONE = "completed"


def case_of(procedure: Mapping[str, Any], patient: str, born_on: date | None) -> ProcedureCase | None:
    """Make a case of a Procedure; None while it has no code, or no day on which it was performed.

    Args:
        procedure: The resource.
        patient: Logical id of the Patient it is of.
        born_on: Of that Patient.
    """
    coding: Mapping[str, Any] = next(iter(procedure.get("code", {}).get("coding", [])), {})
    code = coding.get("code") or procedure.get("code", {}).get("text", "")
    performed_on = _day(procedure)
    if not code or performed_on is None:
        return None
    return ProcedureCase(
        case_id=case_id(CaseSource.EHR, procedure["id"]),
        version=0,
        source=CaseSource.EHR,
        reason="",
        author="ehr",
        patient=patient,
        procedure_id=procedure["id"],
        code_system=coding.get("system", ""),
        code=code,
        performed_on=performed_on,
        born_on=born_on,
        phenotype=_phenotype(procedure),
        syndrome=None,
        laterality=_laterality(procedure),
        site=_named(procedure.get("location", {})),
        surgeon=next((_named(each.get("actor", {})) for each in procedure.get("performer", [])), ""),
        severity_before=None,
        consent=True,
        active=procedure.get("status") == _DONE,
    )


def _day(procedure: Mapping[str, Any]) -> date | None:
    """Day of the operation; a month or a year is no day."""
    said = procedure.get("performedDateTime") or procedure.get("performedPeriod", {}).get("start", "")
    try:
        return date.fromisoformat(str(said)[:10])
    except ValueError:
        return None


def _codings(elements: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [coding for element in elements for coding in element.get("coding", [])]


def _laterality(procedure: Mapping[str, Any]) -> Laterality | None:
    sides = {
        _SIDES[coding["code"]]
        for coding in _codings(procedure.get("bodySite", []))
        if coding.get("system") == _SNOMED and coding.get("code") in _SIDES
    }
    return sides.pop() if len(sides) == 1 else None


def _phenotype(procedure: Mapping[str, Any]) -> str:
    """Of a cleft, where a reason names it in short."""
    reasons = procedure.get("reasonCode", [])
    texts = [reason.get("text", "") for reason in reasons]
    texts += [str(coding.get(key, "")) for coding in _codings(reasons) for key in ("code", "display")]
    found = {match.group(1) for each in texts for match in _PHENOTYPE.finditer(each)}
    return found.pop() if len(found) == 1 else ""


def _named(reference: Mapping[str, Any]) -> str:
    """What is known of who or where: the reference, which stays the same when a name changes."""
    said = (
        reference.get("reference") or reference.get("display") or reference.get("identifier", {}).get("value")
    )
    return str(said or "")
