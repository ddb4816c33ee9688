"""Who a patient is: the one place where outcomes ask which records are of one person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database import search as fhir_search
from reporting.fhir.database.records import Criterion, Search, TokenValue
from reporting.fhir.render import loads
from reporting.fhir.search_table import RESOURCE_TYPES
from reporting.identifiers import fhir_id
from service.config import Settings
from service.database.pool import Connection

_MOST_LINKS = 20  # Patients of one person


@dataclass(frozen=True, kw_only=True)
class Person:
    """One person, whatever Patients their records name."""

    patient: str  # logical id that stands for the person
    everyone: tuple[str, ...]  # logical ids whose records are theirs, that one among them
    born_on: date | None


def persons_of(connection: Connection, patients: Sequence[str]) -> list[Person]:
    """The persons of some Patients, each once.

    A merged Patient says ``replaced-by`` of the one that stays, or that one says ``replaces`` of it (R4
    Patient.link).
    """
    asked = sorted(set(patients))
    bodies = _bodies(connection, asked)
    referring = {each for each, _ in _referring(connection, asked)}
    found: dict[str, Person] = {}
    for patient in asked:
        if patient in referring or _links(bodies.get(patient, {})):
            person = _person(connection, patient)
        else:
            person = Person(patient=patient, everyone=(patient,), born_on=_born(bodies.get(patient, {})))
        found[person.patient] = person
    return list(found.values())


def _person(connection: Connection, patient: str) -> Person:
    """Follow every link from one Patient."""
    everyone, waiting = {patient}, [patient]
    replaced: set[str] = set()
    while waiting and len(everyone) <= _MOST_LINKS:
        bodies = _bodies(connection, waiting)
        pairs = [(each, kind, other) for each in waiting for kind, other in _links(bodies.get(each, {}))]
        pairs += [
            (other, kind, each)
            for each, other in _referring(connection, waiting)
            for kind, target in _links(_bodies(connection, [other]).get(other, {}))
            if target == each
        ]
        waiting = []
        for one, kind, other in pairs:
            replaced.add(one if kind == "replaced-by" else other)
            new = [each for each in (one, other) if each not in everyone]
            everyone.update(new)
            waiting += new
    stays = sorted(each for each in everyone if each not in replaced)
    standing = stays[0] if len(stays) == 1 else min(everyone)
    bodies = _bodies(connection, list(everyone))
    births = [day for each in (standing, *sorted(everyone)) if (day := _born(bodies.get(each, {})))]
    return Person(patient=standing, everyone=tuple(sorted(everyone)), born_on=births[0] if births else None)


def _bodies(connection: Connection, patients: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    stored = fhir_resources.read_many(connection, [("Patient", each) for each in patients])
    return {each.resource_id: loads(each.body) for each in stored}


def _links(resource: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Kind and logical id of each Patient that a Patient is merged with."""
    return [
        (link["type"], str(link["other"]["reference"]).removeprefix("Patient/"))
        for link in resource.get("link", [])
        if link.get("type") in ("replaced-by", "replaces")
        and str(link.get("other", {}).get("reference", "")).startswith("Patient/")
    ]


def _referring(connection: Connection, patients: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of a Patient and one that links to it."""
    number = RESOURCE_TYPES["Patient"].parameters["link"].number
    rows = connection.execute(
        "SELECT f.target_id, r.id FROM fhir_reference f JOIN fhir_resource r USING (resource_id)"
        " WHERE f.param = %s AND f.target_type = 'Patient' AND f.target_id = ANY(%s)",
        (number, list(patients)),
    )
    return [(row["target_id"], row["id"]) for row in rows]


def _born(resource: Mapping[str, Any]) -> date | None:
    """Day of birth; a year or a month is no day."""
    try:
        return date.fromisoformat(str(resource.get("birthDate", "")))
    except ValueError:
        return None


def patient_of_identifier(connection: Connection, issuer: str, value: str, settings: Settings) -> str:
    """Logical id of the Patient with an identifier; where there is none, the one a photograph would have.

    Args:
        connection: In a transaction.
        issuer: As in photographs (0010,0021); "" when they have none.
        value: Patient ID.
        settings: Uses ``fhir_identifier_systems``.
    """
    ours = fhir_id("Patient", issuer, value)
    system = settings.fhir_identifier_systems.get(issuer)
    if fhir_resources.read(connection, "Patient", ours) is not None or system is None:
        return ours
    wanted = Criterion(
        parameter=RESOURCE_TYPES["Patient"].parameters["identifier"],
        values=(TokenValue(system=system, code=value),),
    )
    search = Search(resource_type="Patient", criteria=(wanted,), count=2)
    found = fhir_search.search(connection, search).resources
    return found[0].resource_id if len(found) == 1 else ours
