"""What a grant takes away from a search, as criteria."""

from __future__ import annotations

from collections.abc import Sequence

from reporting.fhir.access import Grant, Principal
from reporting.fhir.database.records import (
    ChainValue,
    Criterion,
    HasValue,
    ReferenceValue,
    SearchParameter,
    SearchType,
)
from reporting.fhir.outcome import FhirProblemError, IssueType
from reporting.fhir.search.search_request import parse
from reporting.fhir.search_table import RESOURCE_TYPES
from reporting.fhir.site import Site

_COMPARTMENT = SearchParameter(
    name="patient", type=SearchType.REFERENCE, column="b.patient", targets=("Patient",)
)


def restriction(
    resource_type: str, grant: Grant, site: Site
) -> tuple[tuple[Criterion, ...], tuple[tuple[Criterion, ...], ...]]:
    """Criteria that must all hold, and alternatives of which one must."""
    criteria: tuple[Criterion, ...] = ()
    if grant.patients is not None:
        criteria = (of_patients(resource_type, grant.patients),)
    alternatives = tuple(
        parse(resource_type, pairs, strict=True, site=site).search.criteria for pairs in grant.alternatives
    )
    return criteria, alternatives


def of_patients(resource_type: str, patients: Sequence[str]) -> Criterion:
    """That a resource is in the compartment of one of some Patients."""
    hot = RESOURCE_TYPES[resource_type].parameters.get("patient")
    parameter = hot if resource_type == "Observation" and hot is not None else _COMPARTMENT
    values = tuple(ReferenceValue(target_types=("Patient",), target_id=each) for each in patients)
    return Criterion(parameter=parameter, values=values)


def may_chain(principal: Principal, criteria: Sequence[Criterion]) -> None:
    """Check that a client may search every type its chained parameters ask about.

    Raises:
        FhirProblemError: 403: it would learn of resources that it may not see.
    """
    for criterion in criteria:
        for value in criterion.values:
            if isinstance(value, ChainValue):
                if not principal.may_all(value.target_type, "s"):
                    raise _not_all(value.target_type, criterion.parameter.name)
                may_chain(principal, (value.criterion,))
            elif isinstance(value, HasValue):
                # who refers to a shared resource may be another patient's: not for a patient's token
                if not principal.may_all(value.source_type, "s") or (
                    principal.grant(value.source_type, "s").patients is not None
                ):
                    raise _not_all(value.source_type, "_has")
                may_chain(principal, (value.criterion,))


def _not_all(resource_type: str, name: str) -> FhirProblemError:
    return FhirProblemError(
        403, IssueType.FORBIDDEN, f"no scope grants all of {resource_type}", f"http.{name}"
    )
