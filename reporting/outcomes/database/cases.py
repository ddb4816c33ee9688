"""Operations: every version kept, the newest counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from datetime import date
from uuid import UUID

from psycopg.rows import DictRow

from reporting.outcomes.records import Anchor, CaseSource, Laterality, ProcedureCase, Role, Window
from service.database.pool import Connection

_FIELDS = tuple(field.name for field in fields(ProcedureCase))
_COLUMNS = ", ".join(_FIELDS)
_NEWEST = f"SELECT DISTINCT ON (case_id) {_COLUMNS} FROM procedure_case"  # noqa: S608 -- constant
_ORDER = " ORDER BY case_id, version DESC"
_OF_PROCEDURE = (
    f"{_NEWEST} WHERE case_id IN (SELECT case_id FROM procedure_case WHERE procedure_id = %s){_ORDER}"  # noqa: S608
)
_VERSIONS = f"SELECT {_COLUMNS} FROM procedure_case WHERE case_id = %s ORDER BY version"  # noqa: S608
_OF_PATIENTS = (
    f"SELECT * FROM ({_NEWEST} WHERE case_id IN (SELECT case_id FROM procedure_case WHERE patient = ANY(%s))"  # noqa: S608
    f"{_ORDER}) AS newest WHERE patient = ANY(%s) ORDER BY performed_on, case_id"
)


def _case(row: DictRow) -> ProcedureCase:
    laterality = row["laterality"]
    return ProcedureCase(
        **{
            **row,
            "source": CaseSource(row["source"]),
            "laterality": None if laterality is None else Laterality(laterality),
        }
    )


def of_patients(connection: Connection, patients: Sequence[str]) -> list[ProcedureCase]:
    """The newest version of every case that is of these patients now, in the order of the operations."""
    rows = connection.execute(_OF_PATIENTS, (list(patients), list(patients)))
    return [_case(row) for row in rows]


def patients_without_consent(connection: Connection) -> list[str]:
    """Patients of an operation that holds now and whose outcomes are not consented to."""
    rows = connection.execute(
        "SELECT DISTINCT patient FROM (SELECT DISTINCT ON (case_id) patient, consent, active"
        " FROM procedure_case ORDER BY case_id, version DESC) AS newest"
        " WHERE active AND NOT consent ORDER BY patient"
    )
    return [row["patient"] for row in rows]


def get(connection: Connection, case_id: UUID) -> ProcedureCase | None:
    """The newest version of a case; None when there is none."""
    row = connection.execute(_NEWEST + " WHERE case_id = %s" + _ORDER, (case_id,)).fetchone()
    return _case(row) if row else None


def versions(connection: Connection, case_id: UUID) -> list[ProcedureCase]:
    """Every version of a case, oldest first."""
    rows = connection.execute(_VERSIONS, (case_id,))
    return [_case(row) for row in rows]


def of_procedure(connection: Connection, procedure_id: str) -> ProcedureCase | None:
    """The case of a FHIR Procedure; None when there is none."""
    row = connection.execute(
        _OF_PROCEDURE,
        (procedure_id,),
    ).fetchone()
    return _case(row) if row else None


def like(
    connection: Connection, patients: Sequence[str], code: str, performed_on: date
) -> list[ProcedureCase]:
    """Active cases of these patients with that code and day."""
    return [
        each
        for each in of_patients(connection, patients)
        if each.active and (each.code, each.performed_on) == (code, performed_on)
    ]


def save(connection: Connection, case: ProcedureCase) -> ProcedureCase | None:
    """Save a version after the newest there is; the same content makes none.

    Args:
        connection: In a transaction that holds the patient.
        case: Its version is ignored; its reason is not compared.

    Returns:
        The version as saved; None when nothing changed.
    """
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 140))", (str(case.case_id),))
    current = get(connection, case.case_id)
    if current is not None and _content(current) == _content(case):
        return None
    made = replace(case, version=1 if current is None else current.version + 1)
    if current is not None and not made.reason:
        made = replace(made, reason="changed in its source")
    marks = ", ".join(f"%({name})s" for name in _FIELDS)
    connection.execute(f"INSERT INTO procedure_case ({_COLUMNS}) VALUES ({marks})", _values(made))  # noqa: S608
    return made


def add_new(connection: Connection, added: Iterable[ProcedureCase]) -> None:
    """Save the first versions of cases, many at once; a case that is there stays as it is."""
    marks = ", ".join(f"%({name})s" for name in _FIELDS)
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO procedure_case ({_COLUMNS}) VALUES ({marks}) ON CONFLICT DO NOTHING",  # noqa: S608
            [_values(replace(each, version=1)) for each in added],
        )


def _values(case: ProcedureCase) -> dict[str, object]:
    return {name: getattr(case, name) for name in _FIELDS}


def differs(one: ProcedureCase, other: ProcedureCase) -> bool:
    """Whether two versions say something else of the operation."""
    return _content(one) != _content(other)


def _content(case: ProcedureCase) -> ProcedureCase:
    """What makes a version another; not who wrote it, where it came from and why."""
    return replace(case, version=0, reason="", author="", source=CaseSource.EHR)


def windows(connection: Connection) -> list[Window]:
    """The newest set of windows of every code that has its own."""
    rows = connection.execute(
        "SELECT code, name, role, anchor, target, earliest, latest FROM outcome_window"
        " WHERE (code, version) IN (SELECT code, max(version) FROM outcome_window GROUP BY code)"
        " ORDER BY code, role DESC, anchor DESC, target"
    )
    return [Window(**{**row, "role": Role(row["role"]), "anchor": Anchor(row["anchor"])}) for row in rows]


def set_windows(
    connection: Connection, code: str, chosen: Sequence[Window], *, author: str, reason: str
) -> int:
    """Give a code ("" for every one without its own) another set of windows; returns its version."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 141))", (code,))
    row = connection.execute(
        "SELECT coalesce(max(version), 0) + 1 AS version FROM outcome_window WHERE code = %s", (code,)
    ).fetchone()
    version = int(row["version"]) if row else 1
    for window in chosen:
        connection.execute(
            "INSERT INTO outcome_window (code, version, name, role, anchor, target, earliest, latest, author,"
            " reason) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                code, version, window.name, window.role.value, window.anchor.value, window.target,
                window.earliest, window.latest, author, reason,
            ),
        )  # fmt: skip
    return version


def procedures_of(connection: Connection, patients: Sequence[str]) -> list[str]:
    """Logical ids of these patients' FHIR Procedures."""
    rows = connection.execute(
        "SELECT id FROM fhir_resource WHERE type = 'Procedure' AND patient = ANY(%s) ORDER BY resource_id",
        (list(patients),),
    )
    return [row["id"] for row in rows]
