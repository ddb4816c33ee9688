"""What a grant takes away from a search, as criteria."""

from __future__ import annotations

from reporting.fhir.access import Grant
from reporting.fhir.search_request import parse
from reporting.fhir.search_table import RESOURCE_TYPES
from service.database.fhir_records import Criterion, ReferenceValue, SearchParameter, SearchType

_COMPARTMENT = SearchParameter(
    name="patient", type=SearchType.REFERENCE, column="b.patient", targets=("Patient",)
)


def restriction(
    resource_type: str, grant: Grant, base_url: str
) -> tuple[tuple[Criterion, ...], tuple[tuple[Criterion, ...], ...]]:
    """Criteria that must all hold, and alternatives of which one must."""
    criteria: tuple[Criterion, ...] = ()
    if grant.patient is not None:
        hot = RESOURCE_TYPES[resource_type].parameters.get("patient")
        parameter = hot if resource_type == "Observation" and hot is not None else _COMPARTMENT
        value = ReferenceValue(target_types=("Patient",), target_id=grant.patient)
        criteria = (Criterion(parameter=parameter, values=(value,)),)
    alternatives = tuple(
        parse(resource_type, pairs, strict=True, base_url=base_url).search.criteria
        for pairs in grant.alternatives
    )
    return criteria, alternatives
