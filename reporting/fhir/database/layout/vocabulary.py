"""What Observations are said in: few codes and few measures, each kept once under a number.

A component's value lies in its Observation's row at the slot of what it measures, and every slot has an index
of its own, in whose order a search by the value reads its pages. Codes lie there by their numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg.rows import class_row

from reporting.fhir.database.records import ComponentEntry, TokenEntry, TokenValue
from service.database.pool import Connection

_LOCK = 0x564F4341  # held by who adds a word


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What a component measures: a code with a unit."""

    slot: int  # in amounts, from 1
    system: str
    code: str
    unit: str  # UCUM code, "" for none


@dataclass(frozen=True, kw_only=True)
class Coding:
    """A code that a search parameter finds Observations by."""

    number: int
    param: int
    system: str
    code: str


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """All that Observations were ever said in."""

    measures: Sequence[Measure] = ()
    codings: Sequence[Coding] = ()

    def slots(self, values: Sequence[TokenValue], unit: str | None = None) -> list[int]:
        """Slots of the measures that have one of the codes, and the unit if there is one."""
        return [
            m.slot
            for m in self.measures
            if unit in (None, m.unit) and any(_is(v, m.system, m.code) for v in values)
        ]

    def numbers(self, param: int, values: Sequence[TokenValue] | None) -> list[int]:
        """Numbers of a parameter's codings that are one of the values; of all of them for None."""
        return [
            c.number
            for c in self.codings
            if c.param == param and (values is None or any(_is(v, c.system, c.code) for v in values))
        ]


def _is(value: TokenValue, system: str, code: str) -> bool:
    return value.system in (None, system) and value.code in (None, code)


@dataclass(frozen=True, kw_only=True)
class Laid:
    """Components and codes as they lie in their Observation's row."""

    amounts: list[float | None] | None  # by slot; None without any
    absent: list[int] | None  # slots of components without a value; None without any
    codings: list[int]


def vocabulary(connection: Connection) -> Vocabulary:
    """Read it."""
    measures = connection.cursor(row_factory=class_row(Measure)).execute(
        "SELECT slot, system, code, unit FROM fhir_measure ORDER BY slot"
    )
    codings = connection.cursor(row_factory=class_row(Coding)).execute(
        "SELECT number, param, system, code FROM fhir_coding ORDER BY number"
    )
    return Vocabulary(measures=measures.fetchall(), codings=codings.fetchall())


def lay(connection: Connection, components: Sequence[ComponentEntry], codings: Sequence[TokenEntry]) -> Laid:
    """Find the place of every component and code; what is said for the first time gets the next one."""
    measured = [(c.code_system, c.code, c.value_unit or "") for c in components]
    coded = sorted({(t.param, t.system, t.code) for t in codings})
    slots, numbers = _places(connection)
    if not (slots.keys() >= set(measured) and numbers.keys() >= set(coded)):
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        slots, numbers = _places(connection)
        for measure in measured:
            if measure not in slots:
                slots[measure] = max(slots.values(), default=0) + 1
                connection.execute(
                    "INSERT INTO fhir_measure (slot, system, code, unit) VALUES (%s, %s, %s, %s)",
                    (slots[measure], *measure),
                )
        for coding in coded:
            if coding not in numbers:
                numbers[coding] = max(numbers.values(), default=0) + 1
                connection.execute(
                    "INSERT INTO fhir_coding (number, param, system, code) VALUES (%s, %s, %s, %s)",
                    (numbers[coding], *coding),
                )
    places = [(slots[measure], c.value) for measure, c in zip(measured, components, strict=True)]
    valued = {slot: float(value) for slot, value in places if value is not None}
    amounts = [valued.get(slot) for slot in range(1, max(valued, default=0) + 1)]
    absent = sorted(slot for slot, value in places if value is None)
    return Laid(
        amounts=amounts or None, absent=absent or None, codings=sorted(numbers[coding] for coding in coded)
    )


def _places(
    connection: Connection,
) -> tuple[dict[tuple[str, str, str], int], dict[tuple[int, str, str], int]]:
    known = vocabulary(connection)
    slots = {(m.system, m.code, m.unit): m.slot for m in known.measures}
    return slots, {(c.param, c.system, c.code): c.number for c in known.codings}
