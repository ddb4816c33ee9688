"""Roles of photographs, conflicts and decisions, and what each window of a case has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from psycopg.rows import tuple_row

from reporting.outcomes.pairing import Decision
from reporting.outcomes.records import Conflict, ConflictKind, DecidedBy, ProcedureCase, Role
from reporting.outcomes.states import WindowState
from service.database.pool import Connection
from service.errors import RecordNotFoundError


@dataclass(frozen=True, kw_only=True)
class RoleRow:
    """The newest word on a window of a case."""

    instance_id: int | None
    decided_by: DecidedBy


@dataclass(frozen=True, kw_only=True)
class OpenConflict:
    """A conflict that waits for a person."""

    conflict_id: UUID
    case_id: UUID
    patient: str
    code: str
    performed_on: date
    kind: ConflictKind
    window: str  # "" for a photograph as a whole
    sop_instance_uids: tuple[str, ...]
    detail: str
    found_at: datetime


def roles_of(connection: Connection, case_ids: Sequence[UUID]) -> dict[tuple[UUID, str], RoleRow]:
    """The newest word on each window of some cases, by case and name of the window."""
    rows = connection.execute(
        "SELECT DISTINCT ON (case_id, window_name) case_id, window_name, instance_id, decided_by"
        " FROM photograph_role WHERE case_id = ANY(%s)"
        " ORDER BY case_id, window_name, photograph_role_id DESC",
        (list(case_ids),),
    )
    return {
        (row["case_id"], row["window_name"]): RoleRow(
            instance_id=row["instance_id"], decided_by=DecidedBy(row["decided_by"])
        )
        for row in rows
    }


@dataclass(frozen=True, kw_only=True)
class NewRole:
    """A word on a window of a case."""

    case_id: UUID
    window: str
    role: Role
    instance_id: int | None
    decided_by: DecidedBy
    reason: str


def set_roles(connection: Connection, roles: Sequence[NewRole], author: str) -> None:
    """Say which photographs windows have from now on."""
    if not roles:
        return
    columns = "case_id, window_name, role, instance_id, decided_by, reason, author"
    with connection.cursor() as cursor, cursor.copy(f"COPY photograph_role ({columns}) FROM STDIN") as copy:
        for r in roles:
            copy.write_row(
                (r.case_id, r.window, r.role.value, r.instance_id, r.decided_by.value, r.reason, author)
            )


def decisions_of(connection: Connection, case_ids: Sequence[UUID]) -> dict[UUID, dict[str, Decision]]:
    """What persons decided of some cases, the newest of each window, by case and window."""
    rows = connection.execute(
        "SELECT DISTINCT ON (case_id, window_name) case_id, window_name, instance_id, reason"
        " FROM pairing_decision WHERE case_id = ANY(%s)"
        " ORDER BY case_id, window_name, pairing_decision_id DESC",
        (list(case_ids),),
    )
    found: dict[UUID, dict[str, Decision]] = {}
    for row in rows:
        found.setdefault(row["case_id"], {})[row["window_name"]] = Decision(
            window=row["window_name"], instance_id=row["instance_id"], reason=row["reason"]
        )
    return found


def decide(
    connection: Connection, *, case_id: UUID, window: str, instance_id: int | None, reason: str, author: str
) -> None:
    """Write down what a person decided."""
    connection.execute(
        "INSERT INTO pairing_decision (case_id, window_name, instance_id, reason, author)"
        " VALUES (%s, %s, %s, %s, %s)",
        (case_id, window, instance_id, reason, author),
    )


def set_conflicts(
    connection: Connection, case_ids: Sequence[UUID], found: Mapping[UUID, tuple[UUID, Conflict]]
) -> None:
    """Make these the conflicts of some cases that wait for a person; each is written down once.

    Args:
        connection: In a transaction.
        case_ids: All of the cases.
        found: Case and conflict by the conflict's id.
    """
    connection.execute(
        "DELETE FROM outcome_open_conflict WHERE case_id = ANY(%s) AND conflict_id <> ALL(%s)",
        (list(case_ids), list(found)),
    )
    if not found:
        return
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO pairing_conflict"
            " (conflict_id, case_id, kind, window_name, instance_ids, detail)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            [
                (
                    name, case_id, conflict.kind.value, conflict.window.name if conflict.window else "",
                    list(conflict.instance_ids), conflict.detail,
                )
                for name, (case_id, conflict) in found.items()
            ],
        )  # fmt: skip
    connection.execute(
        "INSERT INTO outcome_open_conflict (conflict_id, case_id)"
        " SELECT * FROM unnest(%s::uuid[], %s::uuid[]) ON CONFLICT DO NOTHING",
        (list(found), [case_id for case_id, _ in found.values()]),
    )


_OPEN = (
    "SELECT c.conflict_id, c.case_id, p.patient, p.code, p.performed_on, c.kind, c.window_name, c.detail,"
    " c.found_at, ARRAY(SELECT i.sop_instance_uid FROM instance i WHERE i.instance_id = ANY(c.instance_ids)"
    " ORDER BY i.instance_id) AS uids"
    " FROM outcome_open_conflict o JOIN pairing_conflict c USING (conflict_id)"
    " JOIN LATERAL (SELECT patient, code, performed_on FROM procedure_case WHERE case_id = c.case_id"
    " ORDER BY version DESC LIMIT 1) AS p ON true"
)


def open_conflicts(connection: Connection, limit: int = 1000) -> list[OpenConflict]:
    """Conflicts that wait for a person, the oldest first."""
    rows = connection.execute(_OPEN + " ORDER BY c.found_at, c.conflict_id LIMIT %s", (limit,))
    return [_open(row) for row in rows]


def open_conflict(connection: Connection, conflict_id: UUID) -> OpenConflict:
    """One of them.

    Raises:
        RecordNotFoundError: There is no such conflict, or it is decided.
    """
    row = connection.execute(_OPEN + " WHERE c.conflict_id = %s", (conflict_id,)).fetchone()
    if row is None:
        raise RecordNotFoundError(f"no open conflict {conflict_id}")
    return _open(row)


def _open(row: Mapping[str, object]) -> OpenConflict:
    values = dict(row)
    uids = values.pop("uids")
    assert isinstance(uids, list)  # noqa: S101 -- an ARRAY
    window = values.pop("window_name")
    return OpenConflict(
        **{**values, "kind": ConflictKind(str(values["kind"]))},  # type: ignore[arg-type]
        window=str(window),
        sop_instance_uids=tuple(uids),
    )


@dataclass(frozen=True, kw_only=True)
class NewState:
    """What a window of a case has."""

    case: ProcedureCase
    window: str
    state: WindowState
    reason: str


_STATE = "case_id, window_name, procedure_code, performed_on, site, surgeon, state, reason"


def set_states(connection: Connection, case_ids: Sequence[UUID], states: Sequence[NewState]) -> None:
    """Say what every window of some cases has; what is said of no more is gone.

    Args:
        connection: In a transaction that holds the persons.
        case_ids: All of the cases.
        states: Of each of their windows after the operation.
    """
    rows = connection.cursor(row_factory=tuple_row).execute(
        f"SELECT {_STATE} FROM outcome_state WHERE case_id = ANY(%s)",  # noqa: S608 -- constant
        (list(case_ids),),
    )
    there = {row[:2]: row for row in rows}
    now = {(row := _state_row(each))[:2]: row for each in states}
    gone = [name for name, row in there.items() if now.get(name) != row]
    new = [row for name, row in now.items() if there.get(name) != row]
    if gone:
        connection.execute(
            "DELETE FROM outcome_state WHERE (case_id, window_name) IN"
            " (SELECT * FROM unnest(%s::uuid[], %s::text[]))",
            ([case_id for case_id, _ in gone], [window for _, window in gone]),
        )
    if new:
        with connection.cursor() as cursor, cursor.copy(f"COPY outcome_state ({_STATE}) FROM STDIN") as copy:
            for row in new:
                copy.write_row(row)


def _state_row(new: NewState) -> tuple[UUID, str, str, date, str, str, str, str]:
    case = new.case
    return (
        case.case_id, new.window, case.code, case.performed_on, case.site, case.surgeon, new.state.value,
        new.reason,
    )  # fmt: skip


def instance_ids(connection: Connection, sop_instance_uids: Sequence[str]) -> dict[str, int]:
    """Ids by SOP Instance UID; unknown ones are left out."""
    rows = connection.execute(
        "SELECT sop_instance_uid, instance_id FROM instance WHERE sop_instance_uid = ANY(%s)",
        (list(sop_instance_uids),),
    )
    return {row["sop_instance_uid"]: int(row["instance_id"]) for row in rows}


def with_roles(connection: Connection) -> list[int]:
    """Ids of the photographs that have a role now."""
    rows = connection.execute(
        "SELECT DISTINCT instance_id FROM (SELECT DISTINCT ON (case_id, window_name) instance_id"
        " FROM photograph_role ORDER BY case_id, window_name, photograph_role_id DESC) AS newest"
        " WHERE instance_id IS NOT NULL"
    )
    return [int(row["instance_id"]) for row in rows]
