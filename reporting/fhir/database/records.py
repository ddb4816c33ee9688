"""Records of FHIR resources, their search columns and searches, as the database modules take them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum


class SearchType(StrEnum):
    """Types of search parameters (FHIR R4 search, section 3.1.1.4) that we serve."""

    TOKEN = "token"  # noqa: S105 - a search type
    REFERENCE = "reference"
    DATE = "date"
    STRING = "string"
    QUANTITY = "quantity"
    URI = "uri"
    COMPOSITE = "composite"


@dataclass(frozen=True, kw_only=True)
class TokenEntry:
    """A token search value of a resource."""

    param: int
    system: str  # "" when the value has none
    code: str


@dataclass(frozen=True, kw_only=True)
class ReferenceEntry:
    """A reference search value of a resource."""

    param: int
    target_type: str  # "" for an absolute URL
    target_id: str


@dataclass(frozen=True, kw_only=True)
class DateEntry:
    """A date search value: the half-open interval its precision or period spans."""

    param: int
    low: datetime  # aware
    high: datetime  # aware, exclusive


@dataclass(frozen=True, kw_only=True)
class StringEntry:
    """A string search value of a resource."""

    param: int
    value: str
    folded: str  # without case and accents


@dataclass(frozen=True, kw_only=True)
class ComponentEntry:
    """One measured component of an Observation."""

    code_system: str
    code: str
    value: Decimal | None
    value_unit: str | None  # UCUM code


@dataclass(frozen=True, kw_only=True)
class ObservationColumns:
    """The hot search columns of an Observation."""

    patient: str | None  # logical id
    code_system: str
    code: str
    status: str
    device: str | None  # logical id
    effective: datetime
    effective_high: datetime  # exclusive, at most two days after effective
    value: Decimal | None
    value_unit: str | None  # UCUM code


@dataclass(frozen=True, kw_only=True)
class SearchIndex:
    """Everything a resource can be found by."""

    patient: str | None = None  # logical id of the Patient compartment
    occurred: datetime | None = None  # lower bound of the type's main date
    tokens: tuple[TokenEntry, ...] = ()
    references: tuple[ReferenceEntry, ...] = ()
    dates: tuple[DateEntry, ...] = ()
    strings: tuple[StringEntry, ...] = ()
    observation: ObservationColumns | None = None
    components: tuple[ComponentEntry, ...] = ()
    codings: tuple[TokenEntry, ...] = ()  # of an Observation: tokens that few codes are used for


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A resource to save; its version and lastUpdated are set between prefix and suffix when saved."""

    resource_type: str
    resource_id: str  # logical id
    prefix: str  # JSON text up to and including the opening of meta
    suffix: str  # JSON text after meta.lastUpdated
    index: SearchIndex
    only_if_absent: bool = False  # leave a current version as it is
    expected_version: int | None = None  # of the current version (If-Match); None for any

    @property
    def content_sha256(self) -> bytes:
        """Digest of what a new version would change."""
        return hashlib.sha256(f"{self.prefix}\x00{self.suffix}".encode()).digest()

    def body(self, version_id: int, last_updated: datetime) -> str:
        """Render the exact text to serve."""
        return f'{self.prefix}"versionId":"{version_id}","lastUpdated":"{instant(last_updated)}"{self.suffix}'


@dataclass(frozen=True, kw_only=True)
class StoredResource:
    """One version of a resource."""

    row_id: int  # of the current version's row; 0 for a superseded version
    resource_type: str
    resource_id: str
    version_id: int
    last_updated: datetime
    patient: str | None
    body: str


class SaveOutcome(StrEnum):
    """What saving a draft did."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A saved draft."""

    outcome: SaveOutcome
    resource: StoredResource


# --- searches


class Comparator(StrEnum):
    """Prefixes of ordered values (FHIR R4 search, section 3.1.1.5.2)."""

    EQ = "eq"
    NE = "ne"
    GT = "gt"
    LT = "lt"
    GE = "ge"
    LE = "le"
    SA = "sa"
    EB = "eb"
    AP = "ap"


class Modifier(StrEnum):
    """Modifiers of search parameters (section 3.1.1.5.1)."""

    NONE = ""
    MISSING = "missing"
    NOT = "not"
    EXACT = "exact"
    CONTAINS = "contains"
    IDENTIFIER = "identifier"


@dataclass(frozen=True, kw_only=True)
class SearchParameter:
    """One search parameter of one resource type; see ``reporting.fhir.search_table``."""

    name: str
    type: SearchType
    number: int = 0  # in the sparse tables; stable for ever; 0 when kept in a column
    paths: tuple[str, ...] = ()  # where in the resource its values are
    column: str = ""  # of the hot table or of fhir_resource, "" when sparse
    targets: tuple[str, ...] = ()  # resource types a reference may point to
    system: str = ""  # code system of a plain code
    parts: tuple[str, ...] = ()  # parameters a composite is made of
    definition: str = ""  # canonical URL of the SearchParameter
    documentation: str = ""
    also: int = 0  # beside a column: number in the sparse tables of references that are no id of ours
    calendar: bool = False  # of dates: days of the calendar, the same in every zone


@dataclass(frozen=True, kw_only=True)
class TokenValue:
    """``[system]|[code]``."""

    system: str | None  # None: any system; "": none
    code: str | None  # None: any code of the system


@dataclass(frozen=True, kw_only=True)
class ReferenceValue:
    """A reference to search for."""

    target_types: tuple[str, ...]  # empty for an absolute URL
    target_id: str


@dataclass(frozen=True, kw_only=True)
class DateValue:
    """A date to compare with, as the half-open interval its precision spans."""

    comparator: Comparator
    low: datetime
    high: datetime


@dataclass(frozen=True, kw_only=True)
class QuantityValue:
    """A number to compare with; low..high is the interval its precision spans."""

    comparator: Comparator
    value: Decimal
    low: Decimal
    high: Decimal
    unit: str | None = None  # UCUM code


@dataclass(frozen=True, kw_only=True)
class StringValue:
    """Text to search for."""

    text: str
    folded: str


@dataclass(frozen=True, kw_only=True)
class MissingValue:
    """Whether the element is to be missing."""

    missing: bool


@dataclass(frozen=True, kw_only=True)
class CompositeValue:
    """``code$value``."""

    code: TokenValue
    value: QuantityValue


@dataclass(frozen=True, kw_only=True)
class ChainValue:
    """A search on the resource a reference points to."""

    target_type: str
    criterion: Criterion


@dataclass(frozen=True, kw_only=True)
class HasValue:
    """A search on the resources that refer to this one (``_has``)."""

    source_type: str
    reference: SearchParameter  # of the source type
    target_type: str  # of this one
    criterion: Criterion


Value = (
    TokenValue
    | ReferenceValue
    | DateValue
    | QuantityValue
    | StringValue
    | MissingValue
    | CompositeValue
    | ChainValue
    | HasValue
)


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One parameter of a search; its values are alternatives."""

    parameter: SearchParameter
    values: tuple[Value, ...]
    modifier: Modifier = Modifier.NONE


@dataclass(frozen=True, kw_only=True)
class SortKey:
    """One key of the order of a search."""

    parameter: SearchParameter
    descending: bool
    column: str = ""  # that holds the parameter's first value, for one that is otherwise sparse


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search for resources of one type; its criteria must all hold."""

    resource_type: str
    criteria: tuple[Criterion, ...] = ()
    sort: tuple[SortKey, ...] = ()  # empty: the order that serves the criteria best
    count: int = 20
    after: tuple[str | None, ...] = ()  # sort values and row id of the last row served
    either: tuple[tuple[Criterion, ...], ...] = ()  # alternatives, one of which must hold (scopes)
    before: datetime | None = None  # only what was last changed before this moment
    in_brief: bool = False  # Observations without the components a list does not show
    in_row_order: bool = False  # oldest row first, whatever the criteria


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page of a search."""

    resources: Sequence[StoredResource]
    after: tuple[str | None, ...] = field(default=())  # cursor of the next page; empty on the last


def instant(moment: datetime) -> str:
    """Render a FHIR instant in UTC to the millisecond."""
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{moment.microsecond // 1000:03d}Z"
