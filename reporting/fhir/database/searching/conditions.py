"""One search criterion as an SQL condition with its parameters.

Every identifier in the SQL comes from the code below or from the search table; values are always
parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import cast

from reporting.fhir.database.layout.vocabulary import Vocabulary
from reporting.fhir.database.records import (
    ChainValue,
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
from reporting.fhir.database.searching import comparisons as compare
from reporting.fhir.database.searching import components
from reporting.fhir.database.searching.person_criteria import PATIENT_IDENTIFIER


class Base(StrEnum):
    """Alias of the table a search starts from."""

    OBSERVATION = "o"
    RESOURCE = "b"


def condition(  # noqa: PLR0911 - a line for each type
    criterion: Criterion, base: Base, parameters: list[object], vocabulary: Vocabulary
) -> str:
    """Translate a criterion.

    Args:
        criterion: What must hold.
        base: Table the search starts from; its ``resource_id`` links the sparse tables.
        parameters: Takes the SQL parameters, in order.
        vocabulary: Of the Observations; empty where ``needs_vocabulary`` says no.
    """
    row_id = f"{base}.resource_id"
    parameter, values = criterion.parameter, criterion.values
    if criterion.modifier is Modifier.MISSING:
        missing = cast("MissingValue", values[0]).missing
        return _missing(parameter, row_id, missing, parameters, vocabulary)
    if isinstance(values[0], HasValue):
        return _any(_has(cast("HasValue", v), parameters, vocabulary) for v in values)
    if parameter.type is SearchType.COMPOSITE:
        return _any(_composite(parameter, cast("CompositeValue", v), parameters, vocabulary) for v in values)
    if parameter.type in (SearchType.TOKEN, SearchType.URI):
        tokens = cast("Sequence[TokenValue]", values)
        found = _tokens(parameter, tokens, row_id, parameters, vocabulary)
        return f"({found}) IS NOT TRUE" if criterion.modifier is Modifier.NOT else found
    if parameter.type is SearchType.REFERENCE:
        return _referring(parameter, values, row_id, parameters, vocabulary)
    if parameter.type is SearchType.QUANTITY:
        return _any(_quantity(parameter, cast("QuantityValue", v), parameters, vocabulary) for v in values)
    if parameter.type is SearchType.DATE:
        return _any(_date(parameter, cast("DateValue", v), row_id, parameters) for v in values)
    return _any(
        _string(parameter, cast("StringValue", v), criterion.modifier, row_id, parameters) for v in values
    )


def needs_vocabulary(criterion: Criterion) -> bool:
    """Whether a criterion, or one it chains to, looks at components or codes of Observations."""
    if criterion.parameter.name.startswith(components.PREFIXES) or criterion.parameter.column == "o.codings":
        return True
    return any(
        needs_vocabulary(value.criterion)
        for value in criterion.values
        if isinstance(value, (ChainValue, HasValue))
    )


def _any(conditions: object) -> str:
    made = list(cast("Sequence[str]", conditions))
    return made[0] if len(made) == 1 else "(" + " OR ".join(made) + ")"


_TABLES = {
    SearchType.TOKEN: "fhir_token",
    SearchType.URI: "fhir_token",
    SearchType.REFERENCE: "fhir_reference",
    SearchType.DATE: "fhir_date",
    SearchType.STRING: "fhir_string",
}


def _missing(
    parameter: SearchParameter,
    row_id: str,
    missing: bool,
    parameters: list[object],
    vocabulary: Vocabulary,
) -> str:
    if parameter.column == "o.codings":
        absent = components.uncoded(vocabulary, parameter.number, parameters)
        return absent if missing else f"NOT ({absent})"
    if parameter.column == "o.effective":
        parameters.append(compare.FIRST_DATED)
        return f"o.effective {'<' if missing else '>='} %s"
    if parameter.also:
        elsewhere = _elsewhere(parameter.also, row_id, parameters)
        absent = f"({parameter.column} IS NULL AND NOT {elsewhere})"
        return absent if missing else f"NOT {absent}"
    if parameter.column:
        return f"{parameter.column} IS {'' if missing else 'NOT '}NULL"
    word = "NOT EXISTS" if missing else "EXISTS"
    if not parameter.number:
        quantity = parameter.type is SearchType.QUANTITY
        absent = components.missing(quantity=quantity)
        if parameter.name.startswith("combo-"):
            absent = f"({absent} AND o.value IS NULL)" if quantity else "FALSE"  # there is always a code
        return absent if missing else f"NOT {absent}"
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
    parameter: SearchParameter,
    values: Sequence[TokenValue],
    row_id: str,
    parameters: list[object],
    vocabulary: Vocabulary,
) -> str:
    if parameter.column == "o.codings":
        return components.coded(vocabulary, parameter.number, values, parameters)
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
        return components.with_code(vocabulary, values, parameters)
    if parameter.name == "combo-code":
        own = _token_match(values, "o.code_system", "o.code", parameters)
        return f"({own} OR {components.with_code(vocabulary, values, parameters)})"
    return _sparse_tokens("fhir_token", parameter.number, values, row_id, parameters)


def _sparse_tokens(
    table: str, number: int, values: Sequence[TokenValue], row_id: str, parameters: list[object]
) -> str:
    parameters.append(number)
    match = _token_match(values, "x.system", "x.code", parameters)
    if number == PATIENT_IDENTIFIER:
        return _identified(number, values, match, row_id, parameters)
    return f"EXISTS (SELECT 1 FROM {table} x WHERE x.resource_id = {row_id} AND x.param = %s AND {match})"


def _identified(
    number: int, values: Sequence[TokenValue], match: str, row_id: str, parameters: list[object]
) -> str:
    """Condition that a Patient has an identifier, or stands for one of the same person that has it."""
    parameters.append(number)
    again = _token_match(values, "x.system", "x.code", parameters)
    return (
        f"{row_id} IN (SELECT x.resource_id FROM fhir_token x WHERE x.param = %s AND {match}"
        " UNION ALL SELECT s.resource_id FROM fhir_token x JOIN fhir_resource m USING (resource_id)"
        " JOIN fhir_person p ON p.patient = m.id"
        " JOIN fhir_resource s ON s.type = 'Patient' AND s.id = p.person"
        f" WHERE x.param = %s AND {again})"
    )


def _elsewhere(number: int, row_id: str, parameters: list[object]) -> str:
    """Condition that there is a reference to what is no resource of ours."""
    parameters.extend((number, number))
    return (
        f"(EXISTS (SELECT 1 FROM fhir_reference x WHERE x.resource_id = {row_id} AND x.param = %s)"
        f" OR EXISTS (SELECT 1 FROM fhir_token x WHERE x.resource_id = {row_id} AND x.param = %s))"
    )


def _referring(
    parameter: SearchParameter,
    values: Sequence[Value],
    row_id: str,
    parameters: list[object],
    vocabulary: Vocabulary,
) -> str:
    """Condition that a reference is one of the values: ids, URLs, identifiers, or what a chain finds."""
    made = [
        _chain(parameter, row_id, value, parameters, vocabulary)
        for value in values
        if isinstance(value, ChainValue)
    ]
    tokens = [value for value in values if isinstance(value, TokenValue)]  # :identifier
    number = parameter.number or parameter.also
    if tokens and number:
        made.append(_sparse_tokens("fhir_token", number, tokens, row_id, parameters))
    ids = [value for value in values if isinstance(value, ReferenceValue)]
    if parameter.column:
        made += _in_column(parameter, ids, parameters)
        ids = [value for value in ids if not value.target_types] if parameter.also else []
    if ids:
        made.append(_references(number, ids, row_id, parameters))
    return _any(made) if made else "FALSE"


def _in_column(
    parameter: SearchParameter, values: Sequence[ReferenceValue], parameters: list[object]
) -> list[str]:
    ids = [v.target_id for v in values if set(v.target_types) & set(parameter.targets)]
    if not ids:
        return []
    if len(ids) == 1:
        parameters.append(ids[0])
        return [f"{parameter.column} = %s"]
    parameters.append(ids)
    return [f"{parameter.column} = ANY(%s)"]


def _references(number: int, values: Sequence[ReferenceValue], row_id: str, parameters: list[object]) -> str:
    parameters.append(number)
    alternatives = []
    for value in values:
        parameters.extend((value.target_id, list(value.target_types) or [""]))
        alternatives.append("(x.target_id = %s AND x.target_type = ANY(%s))")
    match = alternatives[0] if len(alternatives) == 1 else "(" + " OR ".join(alternatives) + ")"
    return (
        f"EXISTS (SELECT 1 FROM fhir_reference x WHERE x.resource_id = {row_id} AND x.param = %s AND {match})"
    )


def _chain(
    parameter: SearchParameter,
    row_id: str,
    value: ChainValue,
    parameters: list[object],
    vocabulary: Vocabulary,
) -> str:
    inner_base = Base.OBSERVATION if value.target_type == "Observation" else Base.RESOURCE
    outer: list[object] = []
    inner: list[object] = []
    match = condition(value.criterion, inner_base, inner, vocabulary)
    source = "fhir_resource b"
    if inner_base is Base.OBSERVATION:
        source += " JOIN fhir_observation o ON o.resource_id = b.resource_id"
    if parameter.column:
        # the aliases of the subquery hide those outside, so the column is compared by IN
        parameters.extend((value.target_type, *inner))
        return f"{parameter.column} IN (SELECT {_ids(value)} FROM {source} WHERE b.type = %s AND {match})"
    outer.append(parameter.number)
    outer.append(value.target_type)
    parameters.extend((*outer, value.target_type, *inner))
    return (
        f"EXISTS (SELECT 1 FROM fhir_reference f WHERE f.resource_id = {row_id} AND f.param = %s "
        f"AND f.target_type = %s AND f.target_id IN "
        f"(SELECT {_ids(value)} FROM {source} WHERE b.type = %s AND {match}))"
    )


def _ids(value: ChainValue) -> str:
    """What refers to a resource that a chain finds: its id; of a Patient, those of all of the person."""
    if value.target_type != "Patient":
        return "b.id"
    return (
        "unnest(b.id || ARRAY(SELECT every.patient FROM fhir_person one JOIN fhir_person every"
        " USING (person) WHERE one.patient = b.id))"
    )


def _has(value: HasValue, parameters: list[object], vocabulary: Vocabulary) -> str:
    """Condition on the base's id, which the plan joins: some resource refers to it and matches."""
    inner_base = Base.OBSERVATION if value.source_type == "Observation" else Base.RESOURCE
    source = "fhir_resource b"
    if inner_base is Base.OBSERVATION:
        source += " JOIN fhir_observation o ON o.resource_id = b.resource_id"
    inner: list[object] = []
    match = condition(value.criterion, inner_base, inner, vocabulary)
    if value.reference.column:
        parameters.extend((value.source_type, *inner))
        column = value.reference.column
        if value.target_type == "Patient":  # and who stands for it
            column = (
                f"unnest({column} || ARRAY(SELECT p.person FROM fhir_person p WHERE p.patient = {column}))"
            )
        return f"b.id IN (SELECT {column} FROM {source} WHERE b.type = %s AND {match})"
    parameters.extend((value.reference.number, value.target_type, value.source_type, *inner))
    return (
        f"b.id IN (SELECT f.target_id FROM {source} JOIN fhir_reference f ON f.resource_id = b.resource_id"
        f" WHERE f.param = %s AND f.target_type = %s AND b.type = %s AND {match})"
    )


# --- values with an order


def _date(parameter: SearchParameter, value: DateValue, row_id: str, parameters: list[object]) -> str:
    if parameter.column == "o.effective":
        return compare.bounded_date(value, parameters)
    if parameter.column:  # an instant to the millisecond
        high = f"({parameter.column} + interval '1 millisecond')"
        return compare.interval(parameter.column, high, value, parameters)
    parameters.append(parameter.number)
    match = compare.interval("x.low", "x.high", value, parameters)
    return f"EXISTS (SELECT 1 FROM fhir_date x WHERE x.resource_id = {row_id} AND x.param = %s AND {match})"


def _string(
    parameter: SearchParameter, value: StringValue, modifier: Modifier, row_id: str, parameters: list[object]
) -> str:
    parameters.append(parameter.number)
    match = compare.text("x", value, modifier, parameters)
    return f"EXISTS (SELECT 1 FROM fhir_string x WHERE x.resource_id = {row_id} AND x.param = %s AND {match})"


def _own_value(value: QuantityValue, parameters: list[object]) -> str:
    match = compare.number("o.value", value, parameters)
    if value.unit is not None:
        parameters.append(value.unit)
        match += " AND o.value_unit = %s"
    return f"({match})"


def _quantity(
    parameter: SearchParameter,
    value: QuantityValue,
    parameters: list[object],
    vocabulary: Vocabulary,
) -> str:
    if parameter.column == "o.value":
        return _own_value(value, parameters)
    if not parameter.name.startswith("combo-"):
        return components.with_value(vocabulary, value, parameters)
    own = _own_value(value, parameters)
    return f"({own} OR {components.with_value(vocabulary, value, parameters)})"


def _composite(
    parameter: SearchParameter,
    value: CompositeValue,
    parameters: list[object],
    vocabulary: Vocabulary,
) -> str:
    alternatives = []
    if not parameter.name.startswith("component-"):
        code = _token_match((value.code,), "o.code_system", "o.code", parameters)
        alternatives.append(f"({code} AND {_own_value(value.value, parameters)})")
    if parameter.name.startswith(components.PREFIXES):
        alternatives.append(components.with_code_and_value(vocabulary, value, parameters))
    return _any(alternatives)
