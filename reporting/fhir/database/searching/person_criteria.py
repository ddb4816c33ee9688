"""Searches see persons: whoever asks for one Patient is answered for every Patient of the same person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from reporting.fhir.database import persons as fhir_persons
from reporting.fhir.database.records import ChainValue, Criterion, HasValue, ReferenceValue, Search, Value
from service.database.pool import Connection

PATIENT_IDENTIFIER = 201  # parameter of Patient in the search table
# Who asks by these means one Patient as it is written, also one that another stands for.
_LITERAL = ("_id", "link", "active")
_SURVIVOR = "NOT EXISTS (SELECT FROM fhir_person p WHERE p.patient = b.id AND p.person <> b.id)"


def of_persons(connection: Connection, wanted: Search) -> Search:
    """A search with every reference to a Patient widened to all Patients of the person."""
    asked = {value.target_id for value in _patients((*wanted.criteria, *_flat(wanted.either)))}
    if not asked:
        return wanted
    members = {
        patient: every
        for patient, every in fhir_persons.members_of(connection, asked).items()
        if every != (patient,)
    }
    if not members:
        return wanted
    return replace(
        wanted,
        criteria=tuple(_widened(each, members) for each in wanted.criteria),
        either=tuple(tuple(_widened(each, members) for each in every) for every in wanted.either),
    )


def survivors(wanted: Search) -> str:
    """Condition that a Patient stands for its person; "" where it is not asked."""
    named = {
        criterion.parameter.name
        for criterion in (*wanted.criteria, *_flat(wanted.either))
        if not isinstance(criterion.values[0], HasValue)  # they stand under _id
    }
    if wanted.resource_type != "Patient" or named.intersection(_LITERAL):
        return ""
    return _SURVIVOR


def _flat(either: Sequence[Sequence[Criterion]]) -> tuple[Criterion, ...]:
    return tuple(criterion for every in either for criterion in every)


def _patients(criteria: Sequence[Criterion]) -> Iterator[ReferenceValue]:
    for criterion in criteria:
        for value in criterion.values:
            if isinstance(value, ReferenceValue) and "Patient" in value.target_types:
                yield value
            elif isinstance(value, ChainValue | HasValue):
                yield from _patients((value.criterion,))


def _widened(criterion: Criterion, members: dict[str, tuple[str, ...]]) -> Criterion:
    values: list[Value] = []
    for value in criterion.values:
        if isinstance(value, ReferenceValue) and "Patient" in value.target_types:
            others = members.get(value.target_id, (value.target_id,))
            values += [replace(value, target_id=each) for each in others]
        elif isinstance(value, ChainValue | HasValue):
            values.append(replace(value, criterion=_widened(value.criterion, members)))
        else:
            values.append(value)
    return replace(criterion, values=tuple(values))
