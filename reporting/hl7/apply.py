"""What an ADT message says, written into the Patients the way an EHR would write it by FHIR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reporting.fhir.database import persons as fhir_persons
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.elements import reference
from reporting.fhir.persons.changing import save_patients
from reporting.fhir.persons.grouping import REPLACED_BY, REPLACES
from reporting.fhir.render import draft_of, loads
from reporting.fhir.site import Site
from reporting.fhir.valid.validate import check
from reporting.hl7.adt import Announcement, Event, Number
from reporting.identifiers import own_patient_id
from service.database.pool import Connection
from service.errors import AnnouncementError, FhirError

Resource = dict[str, Any]


def apply(connection: Connection, said: Announcement, site: Site) -> tuple[str, ...]:
    """Write an announcement into the Patients; the same one twice changes nothing.

    Args:
        connection: In a transaction, which the caller commits before it acknowledges.
        said: The announcement.
        site: Of this server.

    Returns:
        Logical ids of the Patients it is about.

    Raises:
        AnnouncementError: It contradicts itself, or what it says is no valid Patient.
    """
    fhir_persons.lock(connection)
    patient = _described(_patient(connection, said.numbers), said)
    changed = [patient]
    if said.event is Event.MERGE:
        for prior in _priors(connection, said):
            if prior["id"] != patient["id"]:
                changed[0] = _replacing(changed[0], prior["id"])
                changed.append(_replaced(prior, patient["id"]))
    try:
        for resource in changed:
            check(resource)
        drafts = [draft_of(resource, site=site) for resource in changed]
        save_patients(connection, drafts, author=f"HL7 {said.sender}", site=site)
    except FhirError as exc:
        raise AnnouncementError(f"what it says is no valid Patient: {exc}") from exc
    return tuple(str(resource["id"]) for resource in changed)


def _patient(connection: Connection, numbers: Sequence[Number]) -> Resource:
    """The Patient that has one of the numbers, or a new one of the first of them.

    Of several it is the first that no other stands for: an update of a survivor may name its old numbers too.
    """
    known = list(filter(None, (_known(connection, number) for number in numbers)))
    persons = fhir_persons.persons_of(connection, [str(each["id"]) for each in known])
    alone = [each for each in known if persons[each["id"]] == each["id"]]
    return next(iter([*alone, *known]), None) or _made_of(numbers)


def _priors(connection: Connection, said: Announcement) -> list[Resource]:
    """The Patients that a merge replaces: all that have one of the prior numbers, or a new one."""
    found: dict[str, Resource] = {}
    unknown = []
    for number in said.prior:
        known = _known(connection, number)
        if known is not None:
            found.setdefault(str(known["id"]), known)
        elif number not in said.numbers:
            unknown.append(number)
    if unknown:
        first = next(iter(found.values()), None)
        made = _made_of(unknown) if first is None else _with_numbers(first, unknown)
        found[str(made["id"])] = made
    return list(found.values())


def _known(connection: Connection, number: Number) -> Resource | None:
    """The Patient that has a number, what the EHR wrote before what was made of photographs."""
    own = own_patient_id(number.key, number.value, "")
    claimants = fhir_persons.claimants(connection, [(number.system, number.value)])
    written = [each for each in claimants if fhir_persons.author_of(connection, each) != "semblance"]
    for resource_id in (*written, *claimants, own):
        stored = fhir_resources.read_for_update(connection, "Patient", resource_id)
        if stored is not None:
            return dict(loads(stored.body))
    return None


def _made_of(numbers: Sequence[Number]) -> Resource:
    first = numbers[0]
    return {
        "resourceType": "Patient",
        "id": own_patient_id(first.key, first.value, ""),
        "identifier": [_identifier(number) for number in numbers],
    }


def _identifier(number: Number) -> Resource:
    made: Resource = {"value": number.value}
    if number.system:
        made["system"] = number.system
    if number.issuer:
        made["assigner"] = {"display": number.issuer}
    return made


def _with_numbers(patient: Resource, numbers: Sequence[Number]) -> Resource:
    """The Patient with numbers, those it has as they are."""
    known = {
        (str(each.get("system", "")), str(each.get("value", ""))) for each in patient.get("identifier", [])
    }
    new = [each for each in numbers if (each.system, each.value) not in known]
    return {**patient, "identifier": [*patient.get("identifier", []), *map(_identifier, new)]}


def _described(patient: Resource, said: Announcement) -> Resource:
    """The Patient with the numbers and demographics that are said."""
    described = _with_numbers(patient, said.numbers)
    if said.family or said.given:
        text = " ".join((*said.given, said.family)).strip()
        name: Resource = {"text": text}
        if said.family:
            name["family"] = said.family
        if said.given:
            name["given"] = list(said.given)
        described["name"] = [name]
    if said.birth_date:
        described["birthDate"] = said.birth_date
    if said.gender:
        described["gender"] = said.gender
    return described


def _linked(patient: Resource, kind: str, other: str) -> Resource:
    """The Patient with a link to another, and without one the other way round."""
    opposite = {REPLACES: REPLACED_BY, REPLACED_BY: REPLACES}[kind]
    target = f"Patient/{other}"
    kept = [
        link
        for link in patient.get("link", [])
        if not (link.get("other", {}).get("reference") == target and link.get("type") in (kind, opposite))
    ]
    return {**patient, "link": [*kept, {"other": reference("Patient", other), "type": kind}]}


def _replacing(patient: Resource, prior: str) -> Resource:
    survivor = {key: value for key, value in patient.items() if key != "active"}
    return {**_linked(survivor, REPLACES, prior), "active": True}


def _replaced(patient: Resource, survivor: str) -> Resource:
    return {**_linked(patient, REPLACED_BY, survivor), "active": False}
