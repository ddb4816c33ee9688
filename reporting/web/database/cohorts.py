"""Cohorts that were saved, and what there is to choose from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime
from uuid import UUID

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from reporting.outcomes.database.changes import Selection
from service.database.pool import Connection

_LISTED = 100


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """A selection with a name."""

    cohort_id: UUID
    title: str
    selection: Selection
    author: str
    created_at: datetime


def _cohort(row: DictRow) -> Cohort:
    raw = row["selection"]
    days = {name: date.fromisoformat(raw[name]) for name in ("since", "until")}
    known = {field.name for field in fields(Selection)}
    return Cohort(
        **{
            **row,
            "selection": Selection(**{name: raw[name] for name in known & set(raw)} | days),
        }
    )


def save(connection: Connection, cohort_id: UUID, title: str, selection: Selection, author: str) -> None:
    """Keep a cohort; the same id twice is one."""
    raw = {field.name: getattr(selection, field.name) for field in fields(selection)}
    raw |= {"since": selection.since.isoformat(), "until": selection.until.isoformat()}
    connection.execute(
        "INSERT INTO web_cohort (cohort_id, title, selection, author) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT DO NOTHING",
        (cohort_id, title, Jsonb(raw), author),
    )


def get(connection: Connection, cohort_id: UUID) -> Cohort | None:
    """One cohort; None when there is none of that id."""
    row = connection.execute(
        "SELECT cohort_id, title, selection, author, created_at FROM web_cohort WHERE cohort_id = %s",
        (cohort_id,),
    ).fetchone()
    return _cohort(row) if row else None


def newest(connection: Connection) -> list[Cohort]:
    """The cohorts that were saved last, newest first."""
    rows = connection.execute(
        "SELECT cohort_id, title, selection, author, created_at FROM web_cohort"
        " ORDER BY created_at DESC LIMIT %s",
        (_LISTED,),
    )
    return [_cohort(row) for row in rows]


def choices(connection: Connection) -> Mapping[str, list[str]]:
    """Procedure codes, windows, sites, surgeons and phenotypes of the operations that are known.

    Each is found by leaping through an index from one value to the next, however many rows have it.
    """
    return {
        "codes": _leap(connection, "outcome_state", "procedure_code"),
        "windows": [
            row["name"]
            for row in connection.execute(
                "SELECT DISTINCT window_name AS name FROM outcome_state"
                " WHERE case_id IN (SELECT case_id FROM outcome_state LIMIT 50) ORDER BY 1"
            )
        ],
        "sites": _leap(connection, "outcome_state", "site"),
        "surgeons": _leap(connection, "outcome_state", "surgeon"),
        "phenotypes": _leap(connection, "procedure_case", "phenotype"),
    }


def usual_window(connection: Connection) -> str:
    """A window in which there are changes; "" where there are none."""
    row = connection.execute("SELECT window_name FROM outcome_change WHERE valid LIMIT 1").fetchone()
    return str(row["window_name"]) if row else ""


def has_changes(connection: Connection, codes: list[str], window: str, phase: str) -> bool:
    """Whether there are changes of the whole face by a method, for any of some procedures."""
    return (
        connection.execute(
            "SELECT FROM outcome_change WHERE region = 'face' AND procedure_code = ANY(%s)"
            " AND window_name = %s AND phase = %s LIMIT 1",
            (codes, window, phase),
        ).rowcount
        > 0
    )


def _leap(connection: Connection, table: str, column: str) -> list[str]:
    rows = connection.execute(
        f"WITH RECURSIVE each AS ((SELECT {column} AS name FROM {table} ORDER BY {column} LIMIT 1)"  # noqa: S608
        f" UNION ALL SELECT (SELECT {column} FROM {table} WHERE {column} > each.name"
        f" ORDER BY {column} LIMIT 1)"
        " FROM each WHERE each.name IS NOT NULL) SELECT name FROM each WHERE name <> ''"
    )
    return [row["name"] for row in rows]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A change that a point of a chart rests on."""

    change_id: UUID
    patient: str  # logical id
    performed_on: date
    followed_on: date
    site: str
    before: float | None
    after: float | None
    verdict: str
    before_uid: str  # SOP Instance UIDs of the photographs
    after_uid: str


def changes_of(connection: Connection, change_ids: list[UUID], region: str, limit: int) -> list[Evidence]:
    """The changes of some ids, in the order of the operations."""
    rows = connection.execute(
        "SELECT c.change_id, c.patient, c.performed_on, c.followed_on, c.site, c.before, c.after, c.verdict,"
        " b.sop_instance_uid AS before_uid, a.sop_instance_uid AS after_uid FROM outcome_change c"
        " JOIN appraisal x ON x.appraisal_id = c.before_appraisal"
        " JOIN instance b ON b.instance_id = x.instance_id"
        " JOIN appraisal y ON y.appraisal_id = c.after_appraisal"
        " JOIN instance a ON a.instance_id = y.instance_id"
        " WHERE c.change_id = ANY(%s) AND c.region = %s AND c.valid"
        " ORDER BY c.performed_on, c.change_id LIMIT %s",
        (change_ids, region, limit),
    )
    return [Evidence(**row) for row in rows]
