"""Comparisons of dates, numbers and texts as SQL: the prefixes and modifiers of R4 search.

Columns come from the callers' code; values are always parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from reporting.fhir.database.records import Comparator, DateValue, Modifier, QuantityValue, StringValue

FIRST_DATED = datetime(2, 1, 1, tzinfo=UTC)  # Observations without a date are before it
LONGEST_EFFECTIVE = timedelta(days=2)  # CHECK of fhir_observation; a day has 25 hours when summer time ends


def bounded_date(value: DateValue, parameters: list[object]) -> str:
    """Condition on effective..effective_high with a bound on effective that its index can use."""
    match = interval("o.effective", "o.effective_high", value, parameters)
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


def interval(low: str, high: str, value: DateValue, parameters: list[object]) -> str:
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


def number(column: str, value: QuantityValue, parameters: list[object]) -> str:
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


def text(table: str, value: StringValue, modifier: Modifier, parameters: list[object]) -> str:
    """Compare a text with its beginning, whole or anywhere (section 3.1.1.4.9).

    Args:
        table: Alias of the table with the columns ``value`` and ``folded``.
        value: To compare with.
        modifier: ``:exact``, ``:contains`` or none.
        parameters: Takes the SQL parameters.
    """
    if modifier is Modifier.EXACT:
        parameters.append(value.text)
        return f"{table}.value = %s"
    if modifier is Modifier.CONTAINS:
        parameters.append(value.folded)
        return f"strpos({table}.folded, %s) > 0"
    parameters.extend((value.folded, value.folded + "\U0010ffff"))
    return f"{table}.folded >= %s AND {table}.folded < %s"  # starts with, as a range the index can use
