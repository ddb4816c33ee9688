"""What a row of the table of FHIR types is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from reporting.fhir.database.records import SearchParameter, SearchType


class Interaction(StrEnum):
    """RESTful interactions (R4 http.html)."""

    READ = "read"
    VREAD = "vread"
    HISTORY_INSTANCE = "history-instance"
    HISTORY_TYPE = "history-type"
    SEARCH = "search-type"
    CREATE = "create"
    UPDATE = "update"


READABLE = (
    Interaction.READ,
    Interaction.VREAD,
    Interaction.HISTORY_INSTANCE,
    Interaction.HISTORY_TYPE,
    Interaction.SEARCH,
)
WRITABLE = (*READABLE, Interaction.CREATE, Interaction.UPDATE)


@dataclass(frozen=True, kw_only=True)
class ResourceType:
    """A resource type we serve."""

    name: str
    interactions: tuple[Interaction, ...]
    parameters: Mapping[str, SearchParameter]
    main_date: str = ""  # the date parameter ``_sort`` knows
    documentation: str = ""
    sort: Mapping[str, SearchParameter] = field(default_factory=dict)  # what ``_sort`` takes


def definition(name: str) -> str:
    """Canonical URL of a SearchParameter of the R4 registry."""
    return f"http://hl7.org/fhir/SearchParameter/{name}"


def token(name: str, number: int, *paths: str, system: str = "", doc: str = "") -> SearchParameter:
    """A token parameter in its sparse table."""
    return SearchParameter(
        name=name, type=SearchType.TOKEN, number=number, paths=paths, system=system, documentation=doc
    )


def coding(name: str, number: int, *paths: str, doc: str = "") -> SearchParameter:
    """A token parameter of Observation of which few codes are used: rows hold their numbers."""
    return SearchParameter(
        name=name,
        type=SearchType.TOKEN,
        number=number,
        column="o.codings",
        paths=paths,
        documentation=doc,
    )


def reference(
    name: str, number: int, *paths: str, targets: tuple[str, ...], doc: str = ""
) -> SearchParameter:
    """A reference parameter in its sparse table."""
    return SearchParameter(
        name=name, type=SearchType.REFERENCE, number=number, paths=paths, targets=targets, documentation=doc
    )


def date(name: str, number: int, *paths: str, doc: str = "", calendar: bool = False) -> SearchParameter:
    """A date parameter in its sparse table."""
    return SearchParameter(
        name=name,
        type=SearchType.DATE,
        number=number,
        paths=paths,
        documentation=doc,
        calendar=calendar,
    )


def string(name: str, number: int, *paths: str, doc: str = "") -> SearchParameter:
    """A string parameter in its sparse table."""
    return SearchParameter(name=name, type=SearchType.STRING, number=number, paths=paths, documentation=doc)


def uri(name: str, number: int, *paths: str, doc: str = "") -> SearchParameter:
    """A uri parameter in its sparse table."""
    return SearchParameter(name=name, type=SearchType.URI, number=number, paths=paths, documentation=doc)


def in_column(
    name: str,
    search_type: SearchType,
    column: str,
    *paths: str,
    targets: tuple[str, ...] = (),
    system: str = "",
    also: int = 0,
    doc: str = "",
) -> SearchParameter:
    """A parameter that a column of its own holds; ``also`` keeps what refers elsewhere, as it was sent."""
    return SearchParameter(
        name=name,
        type=search_type,
        column=column,
        paths=paths,
        targets=targets,
        system=system,
        also=also,
        documentation=doc,
    )


COMMON = (
    in_column("_id", SearchType.TOKEN, "b.id", "id", doc="Logical id"),
    in_column("_lastUpdated", SearchType.DATE, "b.last_updated", "meta.lastUpdated", doc="When last changed"),
)

PATIENT_ONLY = ("Patient",)
_ELSEWHERE = 11  # both parameters are about the same element
PATIENT_PARAMETERS = tuple(
    in_column(
        name,
        SearchType.REFERENCE,
        "b.patient",
        "subject",
        "patient",
        targets=PATIENT_ONLY,
        also=_ELSEWHERE,
    )
    for name in ("patient", "subject")
)


def _is_sortable(parameter: SearchParameter) -> bool:
    """Whether resources can be put in the order of a parameter's values."""
    if parameter.column == "o.value":
        return True
    kept = bool(parameter.number or parameter.column) and parameter.column != "o.codings"
    return kept and parameter.type in (SearchType.DATE, SearchType.STRING, SearchType.TOKEN, SearchType.URI)


def resource_type(
    name: str,
    interactions: tuple[Interaction, ...],
    *parameters: SearchParameter,
    main_date: str = "",
    doc: str = "",
) -> ResourceType:
    """One row of the table.

    Raises:
        ValueError: A parameter is given twice.
    """
    by_name: dict[str, SearchParameter] = {}
    for parameter in (*COMMON, *parameters):
        if parameter.name in by_name:
            raise ValueError(f"{name} has two search parameters {parameter.name!r}")
        by_name[parameter.name] = parameter
    return ResourceType(
        name=name,
        interactions=interactions,
        parameters=by_name,
        main_date=main_date,
        documentation=doc,
        sort={each.name: each for each in by_name.values() if _is_sortable(each)},
    )


PERFORMERS = ("Practitioner", "PractitionerRole", "Organization", "CareTeam", "Patient", "RelatedPerson")
