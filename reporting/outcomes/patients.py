"""Who a patient is: the one place where outcomes ask which records are of one person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from reporting.fhir.database import persons
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database.records import Criterion, Search, TokenValue
from reporting.fhir.database.searching import search as fhir_search
from reporting.fhir.render import loads
from reporting.fhir.search_table import RESOURCE_TYPES
from reporting.identifiers import fhir_id
from service.config import Settings
from service.database.pool import Connection


@dataclass(frozen=True, kw_only=True)
class Person:
    """One person, whatever Patients their records name."""

    patient: str  # logical id that stands for the person
    everyone: tuple[str, ...]  # logical ids whose records are theirs, that one among them
    born_on: date | None


def persons_standing(connection: Connection, patients: Sequence[str]) -> list[str]:
    """Logical ids of the Patients that stand for the persons of some."""
    return sorted(set(persons.persons_of(connection, patients).values()))


def persons_of(connection: Connection, patients: Sequence[str]) -> list[Person]:
    """The persons of some Patients, each once: merged and linked Patients are one."""
    asked = sorted(set(patients))
    standing = persons.persons_of(connection, asked)
    members = persons.members_of(connection, asked)
    bodies = _bodies(connection, sorted({each for group in members.values() for each in group} | {*asked}))
    found: dict[str, Person] = {}
    for patient in asked:
        person, everyone = standing[patient], members[patient]
        births = [day for each in (person, *everyone) if (day := _born(bodies.get(each, {})))]
        found[person] = Person(patient=person, everyone=everyone, born_on=births[0] if births else None)
    return list(found.values())


def _bodies(connection: Connection, patients: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    stored = fhir_resources.read_many(connection, [("Patient", each) for each in patients])
    return {each.resource_id: loads(each.body) for each in stored}


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
