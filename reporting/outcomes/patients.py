"""Who a patient is: the one place where outcomes ask which records are of one person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database import search as fhir_search
from reporting.fhir.database.records import Criterion, Search, TokenValue
from reporting.fhir.render import loads
from reporting.fhir.search_table import RESOURCE_TYPES
from reporting.identifiers import fhir_id
from service.config import Settings
from service.database.pool import Connection

_MOST_LINKS = 20  # of merges one after the other


def person_of(connection: Connection, patient: str) -> tuple[str, tuple[str, ...]]:
    """The logical id that stands for a person, and every id whose records are theirs.

    A merged Patient says ``replaced-by`` of the one that stays, and that one ``replaces`` of it (R4 Patient.link).
    """
    seen = [patient]
    current = patient
    for _ in range(_MOST_LINKS):
        onward = _linked(connection, current, "replaced-by")
        if not onward or onward[0] in seen:
            break
        current = onward[0]
        seen.append(current)
    waiting, everyone = [current], {*seen}
    while waiting and len(everyone) < _MOST_LINKS:
        for other in (*_linked(connection, waiting[0], "replaces"), *_replaced_by(connection, waiting[0])):
            if other not in everyone:
                everyone.add(other)
                waiting.append(other)
        waiting = waiting[1:]
    return current, tuple(sorted(everyone))


def _linked(connection: Connection, patient: str, kind: str) -> list[str]:
    stored = fhir_resources.read(connection, "Patient", patient)
    return [] if stored is None else _links(loads(stored.body), kind)


def _links(resource: Mapping[str, Any], kind: str) -> list[str]:
    others = [link["other"].get("reference", "") for link in resource.get("link", []) if link["type"] == kind]
    return [other.removeprefix("Patient/") for other in others if other.startswith("Patient/")]


def _replaced_by(connection: Connection, patient: str) -> list[str]:
    """Patients that say they are replaced by this one."""
    number = RESOURCE_TYPES["Patient"].parameters["link"].number
    found = fhir_search.referring(connection, [("Patient", patient)], "Patient", number, _MOST_LINKS)
    return [each.resource_id for each in found if patient in _links(loads(each.body), "replaced-by")]


def patient_of_identifier(connection: Connection, issuer: str, value: str, settings: Settings) -> str:
    """Logical id of the Patient with an identifier; the one a photograph of them would have when there is none.

    Args:
        connection: In a transaction.
        issuer: As in photographs (0010,0021); "" when they have none.
        value: Patient ID.
        settings: Uses ``fhir_identifier_systems``.
    """
    ours = fhir_id("Patient", issuer, value)
    if fhir_resources.read(connection, "Patient", ours) is not None:
        return ours
    system = settings.fhir_identifier_systems.get(issuer)
    if system is None:
        return ours
    wanted = Criterion(
        parameter=RESOURCE_TYPES["Patient"].parameters["identifier"],
        values=(TokenValue(system=system, code=value),),
    )
    found = fhir_search.search(
        connection, Search(resource_type="Patient", criteria=(wanted,), count=2)
    ).resources
    return found[0].resource_id if len(found) == 1 else ours
