"""What a client may do: SMART scopes as permissions on types, and as search constraints.

SMART App Launch 2.x: ``(system|patient)/(Type|*).(cruds letters)[?search constraints]``; version 1's
``.read``, ``.write`` and ``.*`` are understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl

from reporting.fhir.outcome import FhirProblemError, IssueType
from reporting.fhir.search_table import IN_PATIENT_COMPARTMENT, RESOURCE_TYPES

_SCOPE = re.compile(
    r"(?P<level>system|patient)/(?P<type>[A-Za-z]+|\*)\.(?P<access>[a-z*]+)(?:\?(?P<query>.+))?$"
)
_VERSION_1 = {"read": "rs", "write": "cud", "*": "cruds"}
# Definitions and catalogues hold no patient data.
_WRITES = "cud"  # no patient's token writes: what a Patient says decides whose photographs are whose
_SHARED = ("CodeSystem", "ValueSet", "StructureDefinition", "OperationDefinition", "Device", "Practitioner")


@dataclass(frozen=True, kw_only=True)
class Scope:
    """One granted scope."""

    patient_level: bool
    resource_type: str  # or "*"
    access: frozenset[str]  # letters of cruds
    constraints: tuple[tuple[str, str], ...] = ()  # search parameters a resource must match

    def covers(self, resource_type: str, access: str) -> bool:
        """Whether it grants an access to a type."""
        return self.resource_type in ("*", resource_type) and access in self.access


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What a principal may see of a type: any alternative that holds admits a resource."""

    patients: tuple[str, ...] | None  # only the compartments of these Patients of one person; None for all
    alternatives: tuple[tuple[tuple[str, str], ...], ...]  # search parameters; empty: no constraint


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Who asks."""

    client_id: str
    scopes: tuple[Scope, ...]
    patient: str | None = None  # logical id of the patient context of ``patient/`` scopes
    patients: tuple[str, ...] = ()  # every Patient of that one's person, when it is known
    user: str = ""  # fhirUser, where an external issuer says

    def grant(self, resource_type: str, access: str) -> Grant:
        """What it may see of a type.

        Raises:
            FhirProblemError: 403: nothing.
        """
        covering = [
            scope
            for scope in self.scopes
            if scope.covers(resource_type, access) and not (scope.patient_level and access in _WRITES)
        ]
        if not covering:
            raise FhirProblemError(
                403,
                IssueType.FORBIDDEN,
                f"no scope grants {access!r} on {resource_type}",
                "http.authorization",
            )
        system = [scope for scope in covering if not scope.patient_level]
        chosen = system or covering
        patients = None if system else self._person(resource_type)
        if any(not scope.constraints for scope in chosen):
            return Grant(patients=patients, alternatives=())
        return Grant(patients=patients, alternatives=tuple(scope.constraints for scope in chosen))

    def _person(self, resource_type: str) -> tuple[str, ...] | None:
        """The Patients whose compartments a patient's token opens; None for a type that is everybody's.

        Raises:
            FhirProblemError: 403: the type is in no patient's compartment.
        """
        if resource_type in _SHARED:
            return None
        if resource_type not in IN_PATIENT_COMPARTMENT:
            raise FhirProblemError(
                403,
                IssueType.FORBIDDEN,
                f"{resource_type} is in no patient's compartment",
                "http.authorization",
            )
        return self.patients or ((self.patient,) if self.patient is not None else ())

    def may_all(self, resource_type: str, access: str) -> bool:
        """Whether it may see all of a type that its patient context reaches, with no search constraint."""
        return self.may(resource_type, access) and not self.grant(resource_type, access).alternatives

    def may(self, resource_type: str, access: str) -> bool:
        """Whether it may see anything of a type."""
        try:
            self.grant(resource_type, access)
        except FhirProblemError:
            return False
        return True


def parse_scopes(text: str) -> tuple[Scope, ...]:
    """Parse a scope string; what is not a scope on resources is left out."""
    scopes = []
    for word in text.split():
        match = _SCOPE.match(word)
        if match is None or (match["type"] != "*" and match["type"] not in RESOURCE_TYPES):
            continue
        letters = _VERSION_1.get(match["access"], match["access"])
        if not set(letters) <= set("cruds"):
            continue
        scopes.append(
            Scope(
                patient_level=match["level"] == "patient",
                resource_type=match["type"],
                access=frozenset(letters),
                constraints=tuple(parse_qsl(match["query"] or "")),
            )
        )
    return tuple(scopes)


EVERYTHING = Principal(
    client_id="local",
    scopes=(Scope(patient_level=False, resource_type="*", access=frozenset("cruds")),),
)

NOBODY = Principal(client_id="", scopes=())
