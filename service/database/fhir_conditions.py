"""One search criterion as an SQL condition with its parameters.

Every identifier in the SQL comes from the code below or from the search table; values are always
parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import cast

from service.database.fhir_records import (
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

FIRST_DATED = datetime(2, 1, 1, tzinfo=UTC)  # Observations without a date are before it
LONGEST_EFFECTIVE = timedelta(days=1)  # CHECK of fhir_observation


class Base(StrEnum):
    """Alias of the table a search starts from."""

    OBSERVATION = "o"
    RESOURCE = "b"


def condition(  # noqa: PLR0911 - a line for each type
    criterion: Criterion, base: Base, parameters: list[object], *, joined: bool = False
) -> str:
    """Translate a criterion.

    Args:
        criterion: What must hold.
        base: Table the search starts from; its ``resource_id`` links the sparse tables.
        parameters: Takes the SQL parameters, in order.
        joined: The criterion's fhir_component row is joined as ``c`` already.
    """
    row_id = f"{base}.resource_id"
    parameter = criterion.parameter
    if criterion.modifier is Modifier.MISSING:
        return _missing(parameter, row_id, cast("MissingValue", criterion.values[0]).missing, parameters)
    if isinstance(criterion.values[0], HasValue):
        return _any(_has(cast("HasValue", v), parameters) for v in criterion.values)
    if isinstance(criterion.values[0], ChainValue):
        return _any(_chain(parameter, row_id, cast("ChainValue", v), parameters) for v in criterion.values)
    if parameter.type is SearchType.COMPOSITE:
        return _any(
            _composite(parameter, cast("CompositeValue", v), row_id, parameters, joined)
            for v in criterion.values
        )
    if parameter.type in (SearchType.TOKEN, SearchType.URI):
        found = _tokens(parameter, cast("Sequence[TokenValue]", criterion.values), row_id, parameters)
        return f"({found}) IS NOT TRUE" if criterion.modifier is Modifier.NOT else found
    if parameter.type is SearchType.REFERENCE:
        if isinstance(criterion.values[0], TokenValue):  # :identifier
            values = cast("Sequence[TokenValue]", criterion.values)
            return _sparse_tokens("fhir_token", parameter.number, values, row_id, parameters)
        return _references(parameter, cast("Sequence[ReferenceValue]", criterion.values), row_id, parameters)
    return _any(_ordered(parameter, v, criterion.modifier, row_id, parameters) for v in criterion.values)


def _any(conditions: object) -> str:
    made = list(cast("Sequence[str]", conditions))
    return made[0] if len(made) == 1 else "(" + " OR ".join(made) + ")"


_TABLES = {
    SearchType.TOKEN: "fhir_token",
    SearchType.URI: "fhir_token",
    SearchType.REFERENCE: "fhir_reference",
    SearchType.DATE: "fhir_date",
    SearchType.STRING: "fhir_string",
    SearchType.QUANTITY: "fhir_component",
}


def _missing(parameter: SearchParameter, row_id: str, missing: bool, parameters: list[object]) -> str:
    if parameter.column == "o.effective":
        parameters.append(FIRST_DATED)
        return f"o.effective {'<' if missing else '>='} %s"
    if parameter.column:
        return f"{parameter.column} IS {'' if missing else 'NOT '}NULL"
    word = "NOT EXISTS" if missing else "EXISTS"
    if not parameter.number and parameter.name.startswith(("component-", "combo-")):
        valued = " AND x.value IS NOT NULL" if parameter.type is SearchType.QUANTITY else ""
        present = f"EXISTS (SELECT 1 FROM fhir_component x WHERE x.resource_id = {row_id}{valued})"
        if parameter.name.startswith("combo-"):
            own = "o.value IS NOT NULL" if parameter.type is SearchType.QUANTITY else "TRUE"
            present = f"({own} OR {present})"
        return f"NOT {present}" if missing else present
    parameters.append(parameter.number)
    table = _TABLES[parameter.type]
    return f"{word} (SELECT 1 FROM {table} x WHERE x.resource_id = {row_id} AND x.param = %s)"


# --- tokens and references


def _token_match(
    values: Sequence[TokenValue], system: str, code: str, parameters: list[object], *, keyed: bool = True
) -> str:
    """Condition on a system and a code column; codes of one system become one array."""
    by_system: dict[str | None, list[str]] = {}
    whole: list[str] = []
    for value in values:
        if value.code is None:
            whole.append(value.system or "")
        else:
            by_system.setdefault(value.system, []).append(value.code)
    alternatives = []
    for wanted, codes in by_system.items():
        if len(codes) == 1:
            match = f"{code} = %s"
            parameters.append(codes[0])
        else:
            match = f"{code} = ANY(%s)"
            parameters.append(codes)
        if wanted is not None and keyed:
            match += f" AND {system} = %s"
            parameters.append(wanted)
        alternatives.append(match)
    for wanted_system in whole:
        alternatives.append(f"{system} = %s")
        parameters.append(wanted_system)
    return (
        alternatives[0] if len(alternatives) == 1 else "(" + " OR ".join(f"({a})" for a in alternatives) + ")"
    )


def _tokens(  # noqa: PLR0911 - a line for each place
    parameter: SearchParameter, values: Sequence[TokenValue], row_id: str, parameters: list[object]
) -> str:
    if parameter.column == "o.code":
        return _token_match(values, "o.code_system", "o.code", parameters)
    if parameter.column:  # a plain code: its system is the parameter's
        known = [v for v in values if v.system in (None, parameter.system)]
        if not known:
            return "FALSE"
        if any(v.code is None for v in known):
            return f"{parameter.column} IS NOT NULL"
        return _token_match(known, "''", parameter.column, parameters, keyed=False)
    if parameter.name == "component-code":
        match = _token_match(values, "x.code_system", "x.code", parameters)
        return f"EXISTS (SELECT 1 FROM fhir_component x WHERE x.resource_id = {row_id} AND {match})"
    if parameter.name == "combo-code":
        own = _token_match(values, "o.code_system", "o.code", parameters)
        match = _token_match(values, "x.code_system", "x.code", parameters)
        return (
            f"({own} OR EXISTS (SELECT 1 FROM fhir_component x WHERE x.resource_id = {row_id} AND {match}))"
        )
    return _sparse_tokens("fhir_token", parameter.number, values, row_id, parameters)


def _sparse_tokens(
    table: str, number: int, values: Sequence[TokenValue], row_id: str, parameters: list[object]
) -> str:
    parameters.append(number)
    match = _token_match(values, "x.system", "x.code", parameters)
    return f"EXISTS (SELECT 1 FROM {table} x WHERE x.resource_id = {row_id} AND x.param = %s AND {match})"


def _references(
    parameter: SearchParameter, values: Sequence[ReferenceValue], row_id: str, parameters: list[object]
) -> str:
    if parameter.column:
        ids = [v.target_id for v in values if set(v.target_types) & set(parameter.targets)]
        if not ids:
            return "FALSE"
        if len(ids) == 1:
            parameters.append(ids[0])
            return f"{parameter.column} = %s"
        parameters.append(ids)
        return f"{parameter.column} = ANY(%s)"
    parameters.append(parameter.number)
    alternatives = []
    for value in values:
        parameters.extend((value.target_id, list(value.target_types) or [""]))
        alternatives.append("(x.target_id = %s AND x.target_type = ANY(%s))")
    match = alternatives[0] if len(alternatives) == 1 else "(" + " OR ".join(alternatives) + ")"
    return (
        f"EXISTS (SELECT 1 FROM fhir_reference x WHERE x.resource_id = {row_id} AND x.param = %s AND {match})"
    )


def _chain(parameter: SearchParameter, row_id: str, value: ChainValue, parameters: list[object]) -> str:
    inner_base = Base.OBSERVATION if value.target_type == "Observation" else Base.RESOURCE
    outer: list[object] = []
    inner: list[object] = []
    match = condition(value.criterion, inner_base, inner)
    source = "fhir_resource b"
    if inner_base is Base.OBSERVATION:
        source += " JOIN fhir_observation o ON o.resource_id = b.resource_id"
    if parameter.column:
        # the aliases of the subquery hide those outside, so the column is compared by IN
        parameters.extend((value.target_type, *inner))
        return f"{parameter.column} IN (SELECT b.id FROM {source} WHERE b.type = %s AND {match})"
    outer.append(parameter.number)
    outer.append(value.target_type)
    parameters.extend((*outer, value.target_type, *inner))
    return (
        f"EXISTS (SELECT 1 FROM fhir_reference f WHERE f.resource_id = {row_id} AND f.param = %s "
        f"AND f.target_type = %s AND f.target_id IN "
        f"(SELECT b.id FROM {source} WHERE b.type = %s AND {match}))"
    )


def _has(value: HasValue, parameters: list[object]) -> str:
    """Condition on the base's id, which the plan joins: some resource refers to it and matches."""
    inner_base = Base.OBSERVATION if value.source_type == "Observation" else Base.RESOURCE
    source = "fhir_resource b"
    if inner_base is Base.OBSERVATION:
        source += " JOIN fhir_observation o ON o.resource_id = b.resource_id"
    inner: list[object] = []
    match = condition(value.criterion, inner_base, inner)
    if value.reference.column:
        parameters.extend((value.source_type, *inner))
        column = value.reference.column
        return f"b.id IN (SELECT {column} FROM {source} WHERE b.type = %s AND {match})"
    parameters.extend((value.reference.number, value.target_type, value.source_type, *inner))
    return (
        f"b.id IN (SELECT f.target_id FROM {source} JOIN fhir_reference f ON f.resource_id = b.resource_id"
        f" WHERE f.param = %s AND f.target_type = %s AND b.type = %s AND {match})"
    )


# --- values with an order


def _ordered(
    parameter: SearchParameter, value: Value, modifier: Modifier, row_id: str, parameters: list[object]
) -> str:
    if isinstance(value, DateValue):
        return _date(parameter, value, row_id, parameters)
    if isinstance(value, QuantityValue):
        return _quantity(parameter, value, row_id, parameters)
    return _string(parameter, cast("StringValue", value), modifier, row_id, parameters)


def _date(parameter: SearchParameter, value: DateValue, row_id: str, parameters: list[object]) -> str:
    if parameter.column == "o.effective":
        return _bounded_date(value, parameters)
    if parameter.column:  # an instant to the millisecond
        high = f"({parameter.column} + interval '1 millisecond')"
        return _interval(parameter.column, high, value, parameters)
    parameters.append(parameter.number)
    match = _interval("x.low", "x.high", value, parameters)
    return f"EXISTS (SELECT 1 FROM fhir_date x WHERE x.resource_id = {row_id} AND x.param = %s AND {match})"


def _bounded_date(value: DateValue, parameters: list[object]) -> str:
    """Condition on effective..effective_high with a bound on effective that its index can use."""
    match = _interval("o.effective", "o.effective_high", value, parameters)
    lower = {
        Comparator.GT: value.high,
        Comparator.GE: value.low,
        Comparator.AP: _moved(value.low, -_slack(value)),
    }.get(value.comparator)
    upper = {Comparator.EB: value.low, Comparator.AP: _moved(value.high, _slack(value))}.get(value.comparator)
    parameters.append(
        FIRST_DATED if lower is None else max(max(lower, FIRST_DATED) - LONGEST_EFFECTIVE, FIRST_DATED)
    )
    match += " AND o.effective >= %s"
    if upper is not None:
        parameters.append(upper)
        match += " AND o.effective < %s"
    if value.comparator is Comparator.EQ:
        parameters.append(value.high)
        match += " AND o.effective < %s"
    return f"({match})"


def _slack(value: DateValue) -> timedelta:
    """A tenth of the time between now and the value (section 3.1.1.4.7, ``ap``)."""
    return abs(datetime.now(UTC) - value.low) / 10


def _moved(moment: datetime, by: timedelta) -> datetime:
    """Move a moment, as far as the calendar goes."""
    try:
        return moment + by
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC) if by > timedelta() else datetime.min.replace(tzinfo=UTC)


def _interval(low: str, high: str, value: DateValue, parameters: list[object]) -> str:
    """Compare the half-open interval low..high with the value's (section 3.1.1.4.7)."""

    def use(text: str, *bounds: datetime) -> str:
        parameters.extend(bounds)
        return text

    forms: dict[Comparator, Callable[[], str]] = {
        Comparator.EQ: lambda: use(f"({low} >= %s AND {high} <= %s)", value.low, value.high),
        Comparator.NE: lambda: use(f"({low} < %s OR {high} > %s)", value.low, value.high),
        Comparator.GT: lambda: use(f"{high} > %s", value.high),
        Comparator.LT: lambda: use(f"{low} < %s", value.low),
        Comparator.GE: lambda: use(f"{high} > %s", value.low),
        Comparator.LE: lambda: use(f"{low} < %s", value.high),
        Comparator.SA: lambda: use(f"{low} >= %s", value.high),
        Comparator.EB: lambda: use(f"{high} <= %s", value.low),
        Comparator.AP: lambda: use(
            f"({low} < %s AND {high} > %s)",
            _moved(value.high, _slack(value)),
            _moved(value.low, -_slack(value)),
        ),
    }
    return forms[value.comparator]()


def _number(column: str, value: QuantityValue, parameters: list[object]) -> str:
    """Compare a number, of which equality means within the precision asked for (section 3.1.1.4.8)."""

    def use(text: str, *bounds: object) -> str:
        parameters.extend(bounds)
        return text

    margin = abs(value.value) / 10
    forms: dict[Comparator, Callable[[], str]] = {
        Comparator.EQ: lambda: use(f"({column} >= %s AND {column} < %s)", value.low, value.high),
        Comparator.NE: lambda: use(f"({column} < %s OR {column} >= %s)", value.low, value.high),
        Comparator.GT: lambda: use(f"{column} > %s", value.value),
        Comparator.SA: lambda: use(f"{column} > %s", value.value),
        Comparator.LT: lambda: use(f"{column} < %s", value.value),
        Comparator.EB: lambda: use(f"{column} < %s", value.value),
        Comparator.GE: lambda: use(f"{column} >= %s", value.value),
        Comparator.LE: lambda: use(f"{column} <= %s", value.value),
        Comparator.AP: lambda: use(
            f"({column} >= %s AND {column} <= %s)", value.value - margin, value.value + margin
        ),
    }
    return forms[value.comparator]()


def _with_unit(table: str, value: QuantityValue, parameters: list[object]) -> str:
    match = _number(f"{table}.value", value, parameters)
    if value.unit is not None:
        parameters.append(value.unit)
        match += f" AND {table}.value_unit = %s"
    return match


def _quantity(parameter: SearchParameter, value: QuantityValue, row_id: str, parameters: list[object]) -> str:
    if parameter.column == "o.value":
        return f"({_with_unit('o', value, parameters)})"
    own = f"({_with_unit('o', value, parameters)}) OR " if parameter.name.startswith("combo-") else ""
    match = _with_unit("x", value, parameters)
    return f"({own}EXISTS (SELECT 1 FROM fhir_component x WHERE x.resource_id = {row_id} AND {match}))"


def _string(
    parameter: SearchParameter, value: StringValue, modifier: Modifier, row_id: str, parameters: list[object]
) -> str:
    parameters.append(parameter.number)
    if modifier is Modifier.EXACT:
        match = "x.value = %s"
        parameters.append(value.text)
    elif modifier is Modifier.CONTAINS:
        match = "strpos(x.folded, %s) > 0"
        parameters.append(value.folded)
    else:  # starts with, as a range the index can use
        match = "x.folded >= %s AND x.folded < %s"
        parameters.extend((value.folded, value.folded + "\U0010ffff"))
    return f"EXISTS (SELECT 1 FROM fhir_string x WHERE x.resource_id = {row_id} AND x.param = %s AND {match})"


def _composite(
    parameter: SearchParameter, value: CompositeValue, row_id: str, parameters: list[object], joined: bool
) -> str:
    alternatives = []
    if not parameter.name.startswith("component-"):
        code = _token_match((value.code,), "o.code_system", "o.code", parameters)
        alternatives.append(f"({code} AND {_composite_value('o', value, parameters)})")
    if joined:
        code = _token_match((value.code,), "c.code_system", "c.code", parameters)
        return f"({code} AND {_composite_value('c', value, parameters)})"
    if not parameter.number and parameter.name.startswith(("component-", "combo-")):
        code = _token_match((value.code,), "x.code_system", "x.code", parameters)
        match = _composite_value("x", value, parameters)
        alternatives.append(
            f"EXISTS (SELECT 1 FROM fhir_component x WHERE x.resource_id = {row_id} AND {code} AND {match})"
        )
    return _any(alternatives)


def _composite_value(table: str, value: CompositeValue, parameters: list[object]) -> str:
    return _with_unit(table, cast("QuantityValue", value.value), parameters)
