"""What a resource can be found by, read from its JSON by the paths of the search table."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any

from reporting.fhir.database.records import (
    ComponentEntry,
    DateEntry,
    ObservationColumns,
    ReferenceEntry,
    SearchIndex,
    SearchParameter,
    SearchType,
    StringEntry,
    TokenEntry,
)
from reporting.fhir.database.searching.comparisons import LONGEST_EFFECTIVE
from reporting.fhir.outcome import FhirProblemError, IssueType
from reporting.fhir.search_table import IN_PATIENT_COMPARTMENT, RESOURCE_TYPES
from reporting.fhir.site import Site
from service.errors import FhirError

Json = Mapping[str, Any]  # a parsed FHIR element: JSON is as typed as this

UNDATED = "0001-01-01"  # in the hot columns: what has no date sorts last and is found by none
_MOST_KEY_BYTES = 2000  # PostgreSQL's btree holds keys up to 2,704
END_OF_TIME = datetime(9999, 12, 31, tzinfo=UTC)
_STEP = re.compile(r"(?P<name>\w+)(?:\[(?P<key>\w+)=(?P<value>[^\]]+)\])?$")
_DATE = re.compile(
    r"(?P<year>\d{4})(-(?P<month>\d\d)(-(?P<day>\d\d)"
    r"(T(?P<hour>\d\d):(?P<minute>\d\d)(:(?P<second>\d\d)(\.(?P<fraction>\d+))?)?"
    r"(?P<zone>Z|[+-]\d\d:\d\d)?)?)?)?\Z",
    re.ASCII,
)


def values_at(element: Json, path: str) -> Iterator[Any]:
    """Yield every value at a dotted path; arrays are walked, ``name[key=value]`` filters."""
    head, _, rest = path.partition(".")
    step = _STEP.match(head)
    assert step is not None, path  # noqa: S101 - paths come from the search table
    found = element.get(step["name"])
    for value in found if isinstance(found, list) else [found]:
        if value is None or (step["key"] and value.get(step["key"]) != step["value"]):
            continue
        if rest:
            yield from values_at(value, rest)
        else:
            yield value


def fold(text: str) -> str:
    """Text without case and accents, its spaces single (R4 search, string)."""
    plain = unicodedata.normalize("NFKD", text)
    return " ".join("".join(c for c in plain if not unicodedata.combining(c)).casefold().split())


def interval(text: str, zone: tzinfo) -> tuple[datetime, datetime]:
    """Interval a FHIR date, dateTime or instant spans, half-open, in UTC.

    Args:
        text: As a resource or a search has it.
        zone: Of a day, or a time, that names none (R4 search 3.1.1.4.7: the server's local one). A day lasts
            as long as it does there, 23 to 25 hours.

    Raises:
        FhirError: It is none.
    """
    match = _DATE.match(text)
    if match is None:
        raise FhirError(
            f"{text!r} is no date: use YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm[:ss[.fff]]zone"
        )
    try:
        first = datetime(
            int(match["year"]), int(match["month"] or 1), int(match["day"] or 1),
            int(match["hour"] or 0), int(match["minute"] or 0), _second(match["second"]),
            int((match["fraction"] or "0").ljust(6, "0")[:6]), tzinfo=_zone(match["zone"], zone),
        )  # fmt: skip
        return first.astimezone(UTC) if match["zone"] else _utc(first), _after(match, first)
    except (ValueError, OverflowError) as exc:
        raise FhirError(f"{text!r} is no date: {exc}") from exc


def _second(text: str | None) -> int:
    return 59 if text == "60" else int(text or 0)  # a leap second (R4 dateTime) is counted to the one before


def _zone(text: str | None, zone: tzinfo) -> Any:
    if text is None:
        return zone
    return UTC if text == "Z" else datetime.fromisoformat(f"2000-01-01T00:00:00{text}").tzinfo


def _utc(moment: datetime) -> datetime:
    """A moment in UTC; the first or last one there is for one beyond the calendar."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return (datetime.min if moment.year == 1 else datetime.max).replace(tzinfo=UTC)


def _after(match: re.Match[str], first: datetime) -> datetime:
    """End of the interval; the last moment there is for one that ends with the year 9999 ("for ever")."""
    try:
        if match["hour"]:
            return _utc(first) + _span(match)
        return _utc(_next_day(match, first))  # by the calendar: a day is not always 24 hours
    except (ValueError, OverflowError):
        return datetime.max.replace(tzinfo=UTC)


def _span(match: re.Match[str]) -> timedelta:
    if match["fraction"]:
        return timedelta(microseconds=max(1, 10 ** (6 - len(match["fraction"][:6]))))
    return timedelta(seconds=1) if match["second"] else timedelta(minutes=1)


def _next_day(match: re.Match[str], first: datetime) -> datetime:
    """Midnight after the day, month or year that begins at ``first``."""
    if match["day"]:
        return first + timedelta(days=1)  # of the wall clock
    year, month = first.year, first.month
    following = (year + month // 12, month % 12 + 1) if match["month"] else (year + 1, 1)
    return first.replace(year=following[0], month=following[1])


REFERENCE = re.compile(
    r"(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9\-.]{1,64})(/_history/[A-Za-z0-9\-.]{1,64})?\Z"
)


def split_reference(reference: str, site: Site) -> tuple[str, str] | None:
    """(type, id) of a reference; type is "" for another server's URL; None for one inside the resource."""
    if reference.startswith("#"):
        return None
    relative = site.relative(reference)
    if "://" in relative or relative.startswith("urn:"):
        return ("", relative)
    parts = relative.split("/")
    return (parts[0], parts[1]) if len(parts) >= 2 else ("", relative)


def index_of(resource: Json, *, site: Site, patient: str | None = None) -> SearchIndex:
    """Extract every search value of a resource.

    Args:
        resource: As parsed JSON, numbers as Decimal.
        site: Of this server: its own references, and the zone of its days.
        patient: Logical id of the Patient compartment, where the resource does not name it itself.

    Raises:
        FhirError: An Observation without the elements its hot columns need, or a malformed date.
    """
    row = RESOURCE_TYPES[resource["resourceType"]]
    index = _Index(site)
    for parameter in row.parameters.values():
        if parameter.number:
            index.add(parameter, resource)
        elif parameter.also:
            index.add_elsewhere(parameter, resource)
    compartment = patient
    if compartment is None and row.name in IN_PATIENT_COMPARTMENT:
        compartment = _compartment(resource, row.parameters.get("patient"), site)
    made = SearchIndex(
        patient=compartment,
        occurred=_occurred(resource, row.parameters.get(row.main_date), site),
        tokens=tuple(index.tokens),
        references=tuple(index.references),
        dates=tuple(index.dates),
        strings=tuple(index.strings),
    )
    if row.name != "Observation":
        return made
    return replace(
        made,
        observation=_observation(resource, compartment, site),
        components=tuple(_components(resource)),
        codings=tuple(index.codings),
    )


def _compartment(resource: Json, parameter: SearchParameter | None, site: Site) -> str | None:
    if resource["resourceType"] == "Patient":
        return str(resource["id"])
    for path in parameter.paths if parameter else ():
        for value in values_at(resource, path):
            target = split_reference(str(value.get("reference", "#")), site)
            if target is not None and target[0] == "Patient":
                return target[1]
    return None


def _occurred(resource: Json, parameter: SearchParameter | None, site: Site) -> datetime | None:
    for path in parameter.paths if parameter else ():
        for value in values_at(resource, path):
            text = value if isinstance(value, str) else value.get("start")
            if text:
                return interval(text, zone_of(parameter, site))[0]
    return None


class _Index:
    """Collects the sparse search values of one resource."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.tokens: list[TokenEntry] = []
        self.codings: list[TokenEntry] = []
        self.references: list[ReferenceEntry] = []
        self.dates: list[DateEntry] = []
        self.strings: list[StringEntry] = []

    def add(self, parameter: SearchParameter, resource: Json) -> None:
        """Collect the values of a parameter."""
        for path in parameter.paths:
            where = f"{resource['resourceType']}.{path}"
            for value in values_at(resource, path):
                try:
                    self._add_value(parameter, value)
                except FhirError as exc:
                    raise FhirProblemError(422, IssueType.VALUE, str(exc), where) from exc

    def add_elsewhere(self, parameter: SearchParameter, resource: Json) -> None:
        """Collect references to what is no resource of ours: URLs, and identifiers, as they were sent."""
        for path in parameter.paths:
            for value in values_at(resource, path):
                target = split_reference(str(value.get("reference", "#")), self.site)
                if target is not None and target[0] == "":
                    entry = ReferenceEntry(param=parameter.also, target_type="", target_id=_key(target[1]))
                    self.references.append(entry)
                for system, code in tokens_of(value.get("identifier") or {}, ""):
                    self.tokens.append(TokenEntry(param=parameter.also, system=_key(system), code=_key(code)))

    def _add_value(self, parameter: SearchParameter, value: Any) -> None:
        number = parameter.number
        if parameter.type is SearchType.TOKEN:
            found = self.codings if parameter.column == "o.codings" else self.tokens
            for system, code in tokens_of(value, parameter.system):
                found.append(TokenEntry(param=number, system=_key(system), code=_key(code)))
        elif parameter.type is SearchType.URI:
            self.tokens.append(TokenEntry(param=number, system="", code=_key(str(value))))
        elif parameter.type is SearchType.REFERENCE:
            self._add_reference(parameter, value)
        elif parameter.type is SearchType.DATE:
            low, high = _period(value, zone_of(parameter, self.site))
            self.dates.append(DateEntry(param=number, low=low, high=high))
        elif parameter.type is SearchType.STRING and value:
            self.strings.append(StringEntry(param=number, value=str(value), folded=_key(fold(str(value)))))

    def _add_reference(self, parameter: SearchParameter, value: Json) -> None:
        number = parameter.number
        if "reference" in value:
            target = split_reference(str(value["reference"]), self.site)
            # of an element that refers to anything, a parameter may be about some types only
            if target is not None and (target[0] in ("", *parameter.targets) or not parameter.targets):
                self.references.append(
                    ReferenceEntry(param=number, target_type=target[0], target_id=_key(target[1]))
                )
        for system, code in tokens_of(value.get("identifier") or {}, ""):
            self.tokens.append(TokenEntry(param=number, system=_key(system), code=_key(code)))


def _key(text: str) -> str:
    if len(text.encode()) > _MOST_KEY_BYTES:
        raise FhirError(f"what a resource is found by has at most {_MOST_KEY_BYTES} bytes")
    return text


def tokens_of(value: Any, system: str) -> Iterator[tuple[str, str]]:
    """(system, code) pairs of a code, boolean, Coding, CodeableConcept, Identifier or ContactPoint."""
    if isinstance(value, bool):
        yield "", str(value).lower()
    elif isinstance(value, str):
        yield system, value
    elif "coding" in value:
        for coding in value["coding"]:
            yield from tokens_of(coding, "")
    elif "code" in value:
        yield str(value.get("system", "")), str(value["code"])
    elif "value" in value:
        yield str(value.get("system", "")), str(value["value"])


def zone_of(parameter: SearchParameter | None, site: Site) -> tzinfo:
    """Zone of the days of a parameter: a birth date is the same day everywhere."""
    return UTC if parameter is not None and parameter.calendar else site.zone


def _period(value: Any, zone: tzinfo) -> tuple[datetime, datetime]:
    if isinstance(value, str):
        return interval(value, zone)
    low = interval(value["start"], zone)[0] if "start" in value else datetime(1, 1, 1, tzinfo=UTC)
    high = interval(value["end"], zone)[1] if "end" in value else END_OF_TIME
    return low, high


def _observation(resource: Json, patient: str | None, site: Site) -> ObservationColumns:
    codings = resource["code"].get("coding", [])
    if len(codings) != 1:
        raise FhirError("an Observation has one coding in code")
    dated = resource.get("effectiveDateTime")
    low, high = interval(dated, site.zone) if dated else interval(UNDATED, UTC)
    if high - low > LONGEST_EFFECTIVE:
        raise FhirError("effectiveDateTime of an Observation is at least as precise as a day")
    quantity = resource.get("valueQuantity", {})
    device = split_reference(str(resource.get("device", {}).get("reference", "#")), site)
    return ObservationColumns(
        patient=patient,
        code_system=codings[0].get("system", ""),
        code=codings[0]["code"],
        status=resource["status"],
        device=device[1] if device else None,
        effective=low,
        effective_high=high,
        value=_number(quantity),
        value_unit=quantity.get("code"),
    )


def _components(resource: Json) -> Iterator[ComponentEntry]:
    seen: set[str] = set()
    for component in resource.get("component", []):
        coding = component["code"]["coding"][0]
        if coding["code"] in seen:
            raise FhirError(f"component {coding['code']!r} is given twice")
        seen.add(coding["code"])
        quantity = component.get("valueQuantity", {})
        yield ComponentEntry(
            code_system=coding.get("system", ""),
            code=coding["code"],
            value=_number(quantity),
            value_unit=quantity.get("code"),
        )


def _number(quantity: Json) -> Decimal | None:
    return Decimal(str(quantity["value"])) if "value" in quantity else None
