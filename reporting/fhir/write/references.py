"""References of what clients write: what they are here, and which of them are to nothing that is known.

A reference by our own URL becomes a relative one. One by the EHR's URL or by identifier alone is given the
resource of ours that it means. What means nothing here stays as it was sent, is found by exactly that, and
the answer says so; when its patient comes to be known, it is given to them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reporting.fhir.database import persons as fhir_persons
from reporting.fhir.database import references as fhir_references
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database.records import Saved
from reporting.fhir.extract import REFERENCE, tokens_of
from reporting.fhir.outcome import FhirProblemError, Issue, IssueType
from reporting.fhir.render import draft_of, loads
from reporting.fhir.search_table import RESOURCE_TYPES
from reporting.fhir.site import Site
from service.database.pool import Connection

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:\S+\Z")
_ABOUT_PATIENTS = ("subject", "patient")  # elements that put a resource in a patient's compartment
_MOST_NAMED = 100  # resources with one identifier that are looked at
_OWNERS = {"Procedure": "subject"}  # types clients write that are nothing without their patient


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A resource whose references were looked at."""

    resource: dict[str, Any]
    notes: tuple[Issue, ...]  # references to what is not known here, and what others became


@dataclass(kw_only=True)
class _Settling:
    """Looks at every reference of one resource."""

    connection: Connection
    site: Site
    issuers: Mapping[str, str]  # identifier system by Issuer of Patient ID
    planned: Collection[tuple[str, str]]  # (type, id) of what is saved in the same transaction
    contained: Mapping[str, Mapping[str, Any]]
    notes: list[Issue]

    def value(self, value: Any, path: str) -> Any:
        """An element with its references settled."""
        if isinstance(value, list):
            return [self.value(inner, f"{path}[{place}]") for place, inner in enumerate(value)]
        if not isinstance(value, dict):
            return value
        made = {key: self.value(inner, f"{path}.{key}") for key, inner in value.items()}
        name = path.rpartition(".")[2].partition("[")[0]
        if isinstance(made.get("reference"), str):
            return self._literal(made, name, path)
        if _is_logical(made, name):
            return self._logical(made, name, path)
        return made

    def _literal(self, element: dict[str, Any], name: str, path: str) -> dict[str, Any]:
        text = self.site.relative(element["reference"])
        if text.startswith("#"):
            return self._contained(element, name, path) if name in _ABOUT_PATIENTS else element
        made = {**element, "reference": text}
        target = self.site.ehr_target(text)
        if target is not None and target[0] in RESOURCE_TYPES:
            found = self._of_ehr(*target)
            if found is not None:
                self._note(f"{text} is {found} here", f"{path}.reference")
                return {**made, "reference": found}
        match = REFERENCE.match(text)
        if match is None and not _ABSOLUTE.match(text):
            raise FhirProblemError(
                422, IssueType.VALUE, "a reference is Type/id, #id or a URL", f"{path}.reference"
            )
        if match is None or not self._is_known((match["type"], match["id"])):
            by_identifier = self._logical_target(element, name) if match is None else None
            if by_identifier is not None:
                self._note(f"{text} is {by_identifier} here, by its identifier", f"{path}.reference")
                return {**made, "reference": by_identifier}
            if match is None or match["type"] in RESOURCE_TYPES:
                self._unknown(text, f"{path}.reference")
        return made

    def _is_known(self, target: tuple[str, str]) -> bool:
        return target in self.planned or bool(fhir_references.existing(self.connection, [target]))

    def _of_ehr(self, resource_type: str, resource_id: str, system: str) -> str | None:
        if system:
            return self._identified(resource_type, system, resource_id)
        return f"{resource_type}/{resource_id}" if self._is_known((resource_type, resource_id)) else None

    def _identified(self, resource_type: str, system: str, value: str) -> str | None:
        """The one resource, or person, that has an identifier; None where there is none, or more than one."""
        number = RESOURCE_TYPES[resource_type].parameters["identifier"].number
        found = fhir_references.with_identifier(
            self.connection, resource_type, number, (system, value), _MOST_NAMED
        )
        if resource_type == "Patient":  # several may be one person
            found = sorted(set(fhir_persons.persons_of(self.connection, found).values()))
        return f"{resource_type}/{found[0]}" if len(found) == 1 else None

    def _logical(self, element: dict[str, Any], name: str, path: str) -> dict[str, Any]:
        found = self._logical_target(element, name)
        if found is None:
            identifier = element["identifier"]
            self._unknown(
                f"{identifier.get('system', '')}|{identifier.get('value', '')}", f"{path}.identifier"
            )
            return element
        return {"reference": found, **element}

    def _logical_target(self, element: Mapping[str, Any], name: str) -> str | None:
        identifier = element.get("identifier")
        resource_type = element.get("type", "Patient" if name in _ABOUT_PATIENTS else "")
        if not isinstance(identifier, dict) or "identifier" not in _parameters_of(resource_type):
            return None
        system, value = self._system(identifier), identifier.get("value")
        return self._identified(resource_type, system, value) if system and isinstance(value, str) else None

    def _system(self, identifier: Mapping[str, Any]) -> str:
        """System of an identifier; of its assigner, where it has none and that is an issuer known here."""
        assigner = identifier.get("assigner")
        named = assigner.get("display", "") if isinstance(assigner, dict) else ""
        return str(identifier.get("system") or self.issuers.get(str(named), ""))

    def _contained(self, element: dict[str, Any], name: str, path: str) -> dict[str, Any]:
        """A patient within the resource: the one of ours with the same identifier."""
        inner = self.contained.get(element["reference"].removeprefix("#"), {})
        for identifier in inner.get("identifier", []):
            found = self._logical_target({"identifier": identifier, "type": "Patient"}, name)
            if found is not None:
                self._note(f"{element['reference']} is {found} here", f"{path}.reference")
                return {**element, "reference": found, "identifier": identifier}
        text = "a contained patient has the identifier of one that is known here, or nobody would find this"
        raise FhirProblemError(422, IssueType.NOT_FOUND, text, f"{path}.reference")

    def _unknown(self, text: str, path: str) -> None:
        self._note(f"{text} is nothing that is known here; it is found as it was sent", path, "warning")

    def _note(self, text: str, path: str, severity: str = "information") -> None:
        code = IssueType.NOT_FOUND if severity == "warning" else IssueType.INFORMATIONAL
        self.notes.append(Issue(code=code, diagnostics=text, expression=path, severity=severity))


def _parameters_of(resource_type: object) -> Mapping[str, object]:
    row = RESOURCE_TYPES.get(resource_type) if isinstance(resource_type, str) else None
    return row.parameters if row is not None else {}


def _is_logical(element: Mapping[str, Any], name: str) -> bool:
    """Whether an element is a Reference by identifier alone."""
    identifier = element.get("identifier")
    others = set(element) - {"id", "extension", "type", "identifier", "display", "_type", "_display"}
    return isinstance(identifier, dict) and not others and ("type" in element or name in _ABOUT_PATIENTS)


def settle(
    connection: Connection,
    resource: dict[str, Any],
    site: Site,
    issuers: Mapping[str, str],
    planned: Collection[tuple[str, str]] = (),
) -> Settled:
    """Look at the references of a valid resource that a client writes.

    Args:
        connection: In the transaction that saves it.
        resource: Valid R4.
        site: Of this server: its own URLs, and those of the EHR.
        issuers: ``Settings.fhir_identifier_systems``.
        planned: (type, id) of what is saved in the same transaction.

    Raises:
        FhirProblemError: 422: a reference is none, or whose the resource is is not said.
    """
    resource_type = resource["resourceType"]
    _check_owner(resource, site)
    settling = _Settling(
        connection=connection,
        site=site,
        issuers=issuers,
        planned=planned,
        contained={str(inner.get("id")): inner for inner in resource.get("contained", [])},
        notes=[],
    )
    kept = {key: value for key, value in resource.items() if key == "contained"}
    made = settling.value({k: v for k, v in resource.items() if k != "contained"}, resource_type)
    return Settled(resource={**made, **kept}, notes=tuple(settling.notes))


def _check_owner(resource: Mapping[str, Any], site: Site) -> None:
    name = _OWNERS.get(resource["resourceType"])
    if name is None:
        return
    element = resource.get(name, {})
    where = f"{resource['resourceType']}.{name}"
    if "reference" not in element and "identifier" not in element:
        raise FhirProblemError(
            422, IssueType.REQUIRED, "a patient is named by a reference or an identifier", where
        )
    match = REFERENCE.match(site.relative(str(element.get("reference", "#"))))
    if match is not None and match["type"] != "Patient":
        text = f"what is of a {match['type']} is not kept here: only of a Patient"
        raise FhirProblemError(422, IssueType.NOT_SUPPORTED, text, f"{where}.reference")


def _identifiers(resource: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for identifier in resource.get("identifier", []):
        yield from tokens_of(identifier, "")


def _urls(patient_id: str, identifiers: Collection[tuple[str, str]], site: Site) -> Iterator[str]:
    """URLs under which the EHR knows a patient."""
    for base, system in site.ehr_urls.items():
        if not system:
            yield f"{base.rstrip('/')}/Patient/{patient_id}"
        for theirs, value in identifiers:
            if system and theirs == system:
                yield f"{base.rstrip('/')}/Patient/{value}"


def claim(
    connection: Connection,
    resource: Mapping[str, Any],
    site: Site,
    issuers: Mapping[str, str],
    *,
    author: str,
) -> list[Saved]:
    """Give a Patient who was just saved what waits for somebody with their identifiers.

    Args:
        connection: In the transaction that saved them.
        resource: The Patient.
        site: Of this server.
        issuers: ``Settings.fhir_identifier_systems``.
        author: Who writes.

    Returns:
        What is now theirs, in a new version each.
    """
    identifiers = set(_identifiers(resource))
    urls = list(_urls(resource["id"], identifiers, site))
    identifiers |= {("", value) for system, value in identifiers if system in issuers.values()}
    number = RESOURCE_TYPES["Procedure"].parameters["subject"].also
    drafts = []
    for stored in fhir_references.waiting(connection, number, sorted(identifiers), urls):
        settled = settle(connection, loads(stored.body), site, issuers)
        draft = draft_of(settled.resource, site=site)
        if draft.index.patient is not None:
            drafts.append(draft)
    return fhir_resources.save(connection, drafts, author=author) if drafts else []
