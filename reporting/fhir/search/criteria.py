"""One search parameter as a criterion: modifiers, chains, values of every type (R4 search.html)."""

from __future__ import annotations

import re
from datetime import tzinfo
from decimal import Decimal

from reporting.fhir.database.records import (
    ChainValue,
    Comparator,
    CompositeValue,
    Criterion,
    DateValue,
    HasValue,
    MissingValue,
    Modifier,
    QuantityValue,
    ReferenceValue,
    SearchParameter,
    SearchType,
    StringValue,
    TokenValue,
    Value,
)
from reporting.fhir.extract import fold, interval, split_reference, zone_of
from reporting.fhir.outcome import FhirProblemError, IssueType
from reporting.fhir.search_table import RESOURCE_TYPES, ResourceType
from reporting.fhir.site import Site
from service.errors import FhirError

_PREFIXED = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?(.*)", re.DOTALL)
_NUMBER = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", re.ASCII)
MOST_LINKS = 8  # of a chain: each is a query within the one before
_PIECES = re.compile(r"\\.|.", re.DOTALL)  # a backslash and what it escapes, or one character
_UCUM = "http://unitsofmeasure.org"


def bad(name: str, wanted: str) -> FhirProblemError:
    """The refusal of a malformed parameter."""
    return FhirProblemError(400, IssueType.VALUE, f"{name} {wanted}", f"http.{name}")


def criterion(row: ResourceType, name: str, text: str, site: Site) -> Criterion:
    """One parameter of a search, with its modifier or chain.

    Raises:
        FhirProblemError: 400: it is malformed, or a modifier is not served.
    """
    head, dot, chained = name.partition(".")
    base_name, colon, modifier = head.partition(":")
    if colon and not modifier:
        raise bad(name, "has a colon and no modifier")
    parameter = row.parameters[base_name]
    if dot:
        return _chained(parameter, modifier, chained, text, site)
    if modifier == "missing":
        if text not in ("true", "false"):
            raise bad(name, "is true or false")
        if parameter.type is SearchType.COMPOSITE:
            raise bad(name, "does not go with a composite parameter")
        value = MissingValue(missing=text == "true")
        return Criterion(parameter=parameter, modifier=Modifier.MISSING, values=(value,))
    if parameter.type is SearchType.REFERENCE:
        return _reference_criterion(parameter, modifier, name, text, site)
    allowed = {
        SearchType.TOKEN: ("", "not"),
        SearchType.STRING: ("", "exact", "contains"),
    }.get(parameter.type, ("",))
    if modifier not in allowed:
        raise FhirProblemError(
            400,
            IssueType.NOT_SUPPORTED,
            f"{base_name} does not take the modifier :{modifier}",
            f"http.{name}",
        )
    values = tuple(_value(row, parameter, part, name, site) for part in _alternatives(text, name))
    return Criterion(parameter=parameter, modifier=Modifier(modifier), values=values)


def has_criterion(row: ResourceType, name: str, text: str, site: Site) -> Criterion:
    """``_has:[type]:[reference]:[parameter]`` (section 3.1.1.4.4), which may nest."""
    _check_links(name)
    parts = name.split(":", 3)
    source = RESOURCE_TYPES.get(parts[1]) if len(parts) == 4 else None
    if source is None:
        raise bad(name, "is _has:Type:reference:parameter of a type served here")
    reference = source.parameters.get(parts[2])
    if reference is None or reference.type is not SearchType.REFERENCE or row.name not in reference.targets:
        able = [
            p.name
            for p in source.parameters.values()
            if p.type is SearchType.REFERENCE and row.name in p.targets
        ]
        raise bad(name, f"refers to {row.name} by one of: {', '.join(able) or 'none'}")
    inner_name = re.split(r"[:.]", parts[3], maxsplit=1)[0]
    if inner_name == "_has":
        inner = has_criterion(source, parts[3], text, site)
    elif inner_name in source.parameters and text:
        inner = criterion(source, parts[3], text, site)
    else:
        raise bad(name, f"ends in a search parameter of {source.name} with a value")
    value = HasValue(source_type=source.name, reference=reference, target_type=row.name, criterion=inner)
    return Criterion(parameter=row.parameters["_id"], values=(value,))


def _split(text: str, separator: str) -> list[str]:
    """Split at a separator that is not escaped; escapes stay (R4 search, section 3.1.1.4.0.1)."""
    parts = [""]
    for piece in _PIECES.findall(text):
        if piece == separator:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def _alternatives(text: str, name: str) -> list[str]:
    """Values of which one is enough, none of them empty."""
    parts = _split(text, ",")
    if "" in parts:
        raise bad(name, "has an empty value beside a comma")
    return parts


def _plain(text: str) -> str:
    return re.sub(r"\\([,|$\\])", r"\1", text)


def _value(row: ResourceType, parameter: SearchParameter, text: str, name: str, site: Site) -> Value:
    if parameter.type is SearchType.TOKEN:
        return _token(text, name)
    if parameter.type is SearchType.URI:
        return TokenValue(system=None, code=_plain(text))
    if parameter.type is SearchType.DATE:
        return _date(text, name, zone_of(parameter, site))
    if parameter.type is SearchType.STRING:
        return StringValue(text=_plain(text), folded=fold(_plain(text)))
    if parameter.type is SearchType.QUANTITY:
        return _quantity(text, name)
    parts = _split(text, "$")
    if len(parts) != 2:
        raise bad(name, "is code$value")
    value = _value(row, row.parameters[parameter.parts[1]], parts[1], name, site)
    if not isinstance(value, QuantityValue):
        raise bad(name, "has a quantity after $")
    return CompositeValue(code=_token(parts[0], name), value=value)


def _token(text: str, name: str) -> TokenValue:
    parts = _split(text, "|")
    if len(parts) > 2 or not any(parts):
        raise bad(name, "is code, system|code, |code or system| (a bar within one is written \\|)")
    if len(parts) == 1:
        return TokenValue(system=None, code=_plain(parts[0]))
    system, code = _plain(parts[0]), _plain(parts[1])
    return TokenValue(system=system, code=code or None)


def _comparator(text: str) -> tuple[Comparator, str]:
    match = _PREFIXED.match(text)
    assert match is not None  # noqa: S101 - the pattern matches everything
    return Comparator(match[1] or "eq"), match[2]


def _date(text: str, name: str, zone: tzinfo) -> DateValue:
    comparator, rest = _comparator(text)
    try:
        # a space is a plus sign that was not percent-encoded
        low, high = interval(rest.replace(" ", "+"), zone)
    except FhirError as exc:
        raise bad(name, str(exc)) from exc
    return DateValue(comparator=comparator, low=low, high=high)


def _quantity(text: str, name: str) -> QuantityValue:
    parts = _split(text, "|")
    comparator, digits = _comparator(parts[0])
    if not _NUMBER.fullmatch(digits) or len(parts) not in (1, 3) or abs(Decimal(digits).adjusted()) > 100:
        raise bad(name, "is [prefix]number or [prefix]number|system|code")
    value = Decimal(digits)
    if len(parts) == 3 and parts[1] not in ("", _UCUM):
        raise bad(name, f"has units of {_UCUM}")
    half = Decimal(5).scaleb(int(value.as_tuple().exponent) - 1)
    unit = _plain(parts[2]) or None if len(parts) == 3 else None
    return QuantityValue(comparator=comparator, value=value, low=value - half, high=value + half, unit=unit)


def _reference_criterion(
    parameter: SearchParameter, modifier: str, name: str, text: str, site: Site
) -> Criterion:
    if modifier == "identifier":
        tokens = tuple(_token(part, name) for part in _alternatives(text, name))
        if parameter.column:  # the resource it refers to has the identifier
            chain = _identified(parameter.targets[0], tokens)
            return Criterion(parameter=parameter, values=(chain, *tokens) if parameter.also else (chain,))
        return Criterion(parameter=parameter, modifier=Modifier.IDENTIFIER, values=tokens)
    if modifier and modifier not in parameter.targets:
        raise FhirProblemError(
            400,
            IssueType.NOT_SUPPORTED,
            f"{parameter.name} takes :missing, :identifier or a type of {', '.join(parameter.targets)}",
            f"http.{name}",
        )
    types = (modifier,) if modifier else parameter.targets
    values: list[Value] = []
    for part in _alternatives(text, name):
        values += _reference_values(_plain(part), types, name, site)
    return Criterion(parameter=parameter, values=tuple(values))


def _identified(resource_type: str, tokens: tuple[TokenValue, ...]) -> ChainValue:
    """The resources of a type that have an identifier."""
    inner = RESOURCE_TYPES[resource_type].parameters["identifier"]
    return ChainValue(target_type=resource_type, criterion=Criterion(parameter=inner, values=tokens))


def _reference_values(text: str, types: tuple[str, ...], name: str, site: Site) -> list[Value]:
    """A reference as it is written, and what it is here where it is one of the EHR's."""
    found: list[Value] = [_reference(text, types, name, site)]
    target = site.ehr_target(text)
    if target is None or target[0] not in types or target[0] not in RESOURCE_TYPES:
        return found
    resource_type, resource_id, system = target
    if system:
        return [*found, _identified(resource_type, (TokenValue(system=system, code=resource_id),))]
    return [*found, ReferenceValue(target_types=(resource_type,), target_id=resource_id)]


def _reference(text: str, types: tuple[str, ...], name: str, site: Site) -> ReferenceValue:
    target = split_reference(text, site)
    if target is None or not target[1]:
        raise bad(name, "is an id, Type/id or a URL")
    if target[0] and types and target[0] not in types:
        raise bad(name, f"refers to {' or '.join(types)}")
    if target[0]:
        return ReferenceValue(target_types=(target[0],), target_id=target[1])
    if "://" in target[1] or target[1].startswith("urn:"):
        return ReferenceValue(target_types=(), target_id=target[1])
    return ReferenceValue(target_types=types, target_id=target[1])


def _check_links(name: str) -> None:
    if name.count(".") + name.count("_has:") > MOST_LINKS:
        raise FhirProblemError(
            400, IssueType.TOO_COSTLY, f"a chain has at most {MOST_LINKS} links", f"http.{name[:60]}"
        )


def _chained(parameter: SearchParameter, modifier: str, chained: str, text: str, site: Site) -> Criterion:
    name = f"{parameter.name}.{chained}"
    _check_links(name)
    if modifier and modifier not in parameter.targets:
        raise bad(name, f"chains to {' or '.join(parameter.targets) or 'no type that can be named'}")
    if parameter.type is not SearchType.REFERENCE:
        raise bad(name, "chains from a parameter that is no reference")
    served = [t for t in parameter.targets if t in RESOURCE_TYPES]
    types = [modifier] if modifier else served
    first = re.split(r"[:.]", chained, maxsplit=1)[0]
    able = [t for t in types if t in RESOURCE_TYPES and first in RESOURCE_TYPES[t].parameters]
    if not able:
        raise bad(name, f"chains to no search parameter {first!r} of {', '.join(types)}")
    if len(able) > 1:
        raise bad(name, f"is ambiguous: say which type, as {parameter.name}:{able[0]}.{chained}")
    inner = criterion(RESOURCE_TYPES[able[0]], chained, text, site)
    return Criterion(parameter=parameter, values=(ChainValue(target_type=able[0], criterion=inner),))
