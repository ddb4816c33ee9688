"""Roles of photographs, conflicts and decisions, and what each window of a case has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from reporting.outcomes.pairing import Decision
from reporting.outcomes.records import Conflict, ConflictKind, DecidedBy, ProcedureCase, Role
from reporting.outcomes.states import WindowState
from service.database.pool import Connection
from service.errors import RecordNotFoundError


@dataclass(frozen=True, kw_only=True)
class RoleRow:
    """The newest word on a window of a case."""

    window: str
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


def roles_of(connection: Connection, case_id: UUID) -> dict[str, RoleRow]:
    """The newest word on each window of a case."""
    rows = connection.execute(
        "SELECT DISTINCT ON (window_name) window_name, instance_id, decided_by FROM photograph_role"
        " WHERE case_id = %s ORDER BY window_name, photograph_role_id DESC",
        (case_id,),
    )
    return {
        row["window_name"]: RoleRow(
            window=row["window_name"], instance_id=row["instance_id"], decided_by=DecidedBy(row["decided_by"])
        )
        for row in rows
    }


def set_role(
    connection: Connection,
    *,
    case_id: UUID,
    window: str,
    role: Role,
    instance_id: int | None,
    decided_by: DecidedBy,
    reason: str,
    author: str,
) -> None:
    """Say which photograph a window has from now on; None: none."""
    connection.execute(
        "INSERT INTO photograph_role (case_id, window_name, role, instance_id, decided_by, reason, author)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s)",
        (case_id, window, role.value, instance_id, decided_by.value, reason, author),
    )


def decisions_of(connection: Connection, case_id: UUID) -> dict[str, Decision]:
    """What persons decided of a case, the newest of each window."""
    rows = connection.execute(
        "SELECT DISTINCT ON (window_name) window_name, instance_id, reason FROM pairing_decision"
        " WHERE case_id = %s ORDER BY window_name, pairing_decision_id DESC",
        (case_id,),
    )
    return {
        row["window_name"]: Decision(
            window=row["window_name"], instance_id=row["instance_id"], reason=row["reason"]
        )
        for row in rows
    }


def decide(
    connection: Connection, *, case_id: UUID, window: str, instance_id: int | None, reason: str, author: str
) -> None:
    """Write down what a person decided."""
    connection.execute(
        "INSERT INTO pairing_decision (case_id, window_name, instance_id, reason, author)"
        " VALUES (%s, %s, %s, %s, %s)",
        (case_id, window, instance_id, reason, author),
    )


def set_conflicts(connection: Connection, case_id: UUID, found: Mapping[UUID, Conflict]) -> None:
    """Make these the conflicts of a case that wait for a person; each is written down once."""
    for conflict_id, conflict in found.items():
        connection.execute(
            "INSERT INTO pairing_conflict"
            " (conflict_id, case_id, kind, window_name, instance_ids, detail)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (
                conflict_id, case_id, conflict.kind.value,
                conflict.window.name if conflict.window else "", list(conflict.instance_ids), conflict.detail,
            ),
        )  # fmt: skip
    connection.execute(
        "DELETE FROM outcome_open_conflict WHERE case_id = %s AND conflict_id <> ALL(%s)",
        (case_id, list(found)),
    )
    connection.execute(
        "INSERT INTO outcome_open_conflict (conflict_id, case_id) SELECT unnest(%s::uuid[]), %s"
        " ON CONFLICT DO NOTHING",
        (list(found), case_id),
    )


_OPEN = (
    "SELECT c.conflict_id, c.case_id, p.patient, p.code, p.performed_on, c.kind, c.window_name, c.detail,"
    " c.found_at, ARRAY(SELECT i.sop_instance_uid FROM instance i WHERE i.instance_id = ANY(c.instance_ids)"
    " ORDER BY i.instance_id) AS uids FROM outcome_open_conflict o JOIN pairing_conflict c USING (conflict_id)"
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


def set_states(
    connection: Connection, case: ProcedureCase, states: Iterable[tuple[str, WindowState, str]]
) -> None:
    """Say what each window of a case has: name, state, reason."""
    given = list(states)
    connection.execute(
        "DELETE FROM outcome_state WHERE case_id = %s AND window_name <> ALL(%s)",
        (case.case_id, [name for name, _, _ in given]),
    )
    for name, state, reason in given:
        connection.execute(
            "INSERT INTO outcome_state (case_id, window_name, procedure_code, performed_on, site, surgeon,"
            " state, reason) VALUES (%(case)s, %(name)s, %(code)s, %(on)s, %(site)s, %(surgeon)s, %(state)s,"
            " %(reason)s) ON CONFLICT (case_id, window_name) DO UPDATE SET procedure_code = %(code)s,"
            " performed_on = %(on)s, site = %(site)s, surgeon = %(surgeon)s, state = %(state)s,"
            " reason = %(reason)s",
            {
                "case": case.case_id, "name": name, "code": case.code, "on": case.performed_on,
                "site": case.site, "surgeon": case.surgeon, "state": state.value, "reason": reason,
            },
        )  # fmt: skip


def instance_ids(connection: Connection, sop_instance_uids: Sequence[str]) -> dict[str, int]:
    """Ids by SOP Instance UID; unknown ones are left out."""
    rows = connection.execute(
        "SELECT sop_instance_uid, instance_id FROM instance WHERE sop_instance_uid = ANY(%s)",
        (list(sop_instance_uids),),
    )
    return {row["sop_instance_uid"]: int(row["instance_id"]) for row in rows}
