"""Searches for components and codes of Observations as SQL: they lie in arrays of their Observation's row.

A search by the value of one measure reads the index of its slot; a code that was never measured finds nothing
without a look at the rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from reporting.fhir.database.layout.vocabulary import Vocabulary
from reporting.fhir.database.records import (
    Comparator,
    CompositeValue,
    Criterion,
    Modifier,
    QuantityValue,
    TokenValue,
)
from reporting.fhir.database.searching import comparisons as compare

_RANGES = (Comparator.EQ, Comparator.LT, Comparator.LE, Comparator.GT, Comparator.GE)
PREFIXES = ("component-", "combo-")  # names of the parameters that look at components


def missing(*, quantity: bool) -> str:
    """Condition that there is no component, or none with a number."""
    return "o.amounts IS NULL" if quantity else "(o.amounts IS NULL AND o.absent IS NULL)"


def coded(vocabulary: Vocabulary, param: int, values: Sequence[TokenValue], parameters: list[object]) -> str:
    """Condition that the Observation has one of a parameter's codes."""
    return _any_of(vocabulary.numbers(param, values), parameters)


def uncoded(vocabulary: Vocabulary, param: int, parameters: list[object]) -> str:
    """Condition that it has none of a parameter's codes."""
    return f"NOT ({_any_of(vocabulary.numbers(param, None), parameters)})"


def _any_of(numbers: Sequence[int], parameters: list[object]) -> str:
    if not numbers:
        return "FALSE"
    parameters.append(list(numbers))
    return "o.codings && %s::integer[]"


def with_code(vocabulary: Vocabulary, values: Sequence[TokenValue], parameters: list[object]) -> str:
    """Condition that a component has one of the codes, be it without a value."""
    slots = vocabulary.slots(values)
    if not slots:
        return "FALSE"
    parameters.append(slots)
    alternatives = [*(f"o.amounts[{slot}] IS NOT NULL" for slot in slots), "o.absent && %s::smallint[]"]
    return "(" + " OR ".join(alternatives) + ")"


def with_value(vocabulary: Vocabulary, value: QuantityValue, parameters: list[object]) -> str:
    """Condition that any component has a value."""
    match = compare.number("x.value", value, parameters)
    if value.unit is not None:
        match += " AND x.slot = ANY(%s)"
        parameters.append([m.slot for m in vocabulary.measures if m.unit == value.unit])
    return f"EXISTS (SELECT 1 FROM unnest(o.amounts) WITH ORDINALITY AS x (value, slot) WHERE {match})"


def with_code_and_value(vocabulary: Vocabulary, value: CompositeValue, parameters: list[object]) -> str:
    """Condition that a component with a code has a value."""
    slots = vocabulary.slots([value.code], value.value.unit)
    if not slots:
        return "FALSE"
    return "(" + " OR ".join(compare.number(f"o.amounts[{s}]", value.value, parameters) for s in slots) + ")"


def driving_slot(criterion: Criterion, vocabulary: Vocabulary) -> int | None:
    """The slot in the order of whose index the matches of a criterion lie; None if there is not one alone."""
    value = criterion.values[0] if len(criterion.values) == 1 else None
    if (
        criterion.parameter.name != "component-code-value-quantity"
        or criterion.modifier is not Modifier.NONE
        or not isinstance(value, CompositeValue)
        or value.value.comparator not in _RANGES
    ):
        return None
    slots = vocabulary.slots([value.code], value.value.unit)
    return slots[0] if len(slots) == 1 else None
