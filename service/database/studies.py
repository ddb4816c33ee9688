"""Which studies may still grow, and what of them is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg.rows import DictRow

from service.database.pool import Connection
from service.records import StudyState

_COLUMNS = (
    "study_instance_uid, state, opened_at, last_received_at, closed_at, reopened, missing, revision,"
    " reported_revision"
)


@dataclass(frozen=True, kw_only=True)
class Study:
    """One study that photographs were received of."""

    study_instance_uid: str
    state: StudyState
    opened_at: datetime
    last_received_at: datetime  # the newest photograph
    closed_at: datetime | None
    reopened: int  # times
    missing: tuple[str, ...]  # SOP Instance UIDs that were announced and are not here
    revision: int  # counts changes of state and of what is missing
    reported_revision: int  # the one the DiagnosticReport shows


@dataclass(frozen=True, kw_only=True)
class Receipts:
    """What came of a study, against what its senders' storage commitment requests name."""

    announced: bool  # at least one request names an instance of the study
    missing: tuple[str, ...]  # named, and never received
    unannounced: int  # received, and not named
    is_quiet: bool  # nothing came for the time asked about


@dataclass(frozen=True, kw_only=True)
class Completeness:
    """What a report of a study says about itself."""

    state: StudyState
    missing: tuple[str, ...]  # see Study
    unreported: int  # other photographs of the study whose results are not there yet


def _study(row: DictRow) -> Study:
    return Study(**{**row, "state": StudyState(row["state"]), "missing": tuple(row["missing"])})


def received(connection: Connection, instance_ids: Sequence[int]) -> list[str]:
    """Note new photographs: their studies are open, or open again.

    What was noted before changes nothing, however often it is noted.

    Args:
        connection: In a transaction.
        instance_ids: Of photographs that were received.

    Returns:
        The studies concerned, sorted.
    """
    rows = connection.execute(
        "INSERT INTO study (study_instance_uid, last_received_at)"
        " SELECT study_instance_uid, max(received_at) FROM instance WHERE instance_id = ANY(%s)"
        " GROUP BY study_instance_uid ORDER BY study_instance_uid"
        " ON CONFLICT (study_instance_uid) DO UPDATE SET last_received_at = excluded.last_received_at,"
        " reopened = study.reopened + (study.state <> 'open')::int,"
        " revision = study.revision + (study.state <> 'open')::int, state = 'open', closed_at = NULL"
        " WHERE excluded.last_received_at > study.last_received_at RETURNING study_instance_uid",
        (list(instance_ids),),
    )
    return sorted(row["study_instance_uid"] for row in rows)


def of_instances(connection: Connection, sop_instance_uids: Sequence[str]) -> list[str]:
    """The studies that these instances belong to as far as they are here, sorted."""
    rows = connection.execute(
        "SELECT DISTINCT study_instance_uid FROM instance JOIN study USING (study_instance_uid)"
        " WHERE sop_instance_uid = ANY(%s) ORDER BY study_instance_uid",
        (list(sop_instance_uids),),
    )
    return [row["study_instance_uid"] for row in rows]


def quiet(connection: Connection, quiet_for: timedelta, limit: int = 200) -> list[str]:
    """Open studies that nothing came of for a while, sorted, and held; those others hold are passed over."""
    rows = connection.execute(
        "SELECT study_instance_uid FROM study WHERE state = 'open' AND last_received_at <= now() - %s"
        " ORDER BY last_received_at LIMIT %s FOR UPDATE SKIP LOCKED",
        (quiet_for, limit),
    )
    return sorted(row["study_instance_uid"] for row in rows)


def lock(connection: Connection, study_instance_uid: str) -> Study | None:
    """A study, its row held until the transaction ends; None when nothing of it was received."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM study WHERE study_instance_uid = %s FOR UPDATE",  # noqa: S608 -- constant
        (study_instance_uid,),
    ).fetchone()
    return _study(row) if row else None


def find(connection: Connection, study_instance_uid: str) -> Study | None:
    """A study; None when nothing of it was received."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM study WHERE study_instance_uid = %s",  # noqa: S608 -- constant
        (study_instance_uid,),
    ).fetchone()
    return _study(row) if row else None


def receipts(connection: Connection, study: Study, quiet_for: timedelta) -> Receipts:
    """Compare what came of a study with what was announced."""
    row = connection.execute(
        "WITH here AS (SELECT sop_instance_uid AS uid FROM instance WHERE study_instance_uid = %(study)s),"
        " named AS (SELECT DISTINCT unnest(sop_instance_uids) AS uid FROM commitment_request"
        "  WHERE sop_instance_uids && (SELECT array_agg(uid) FROM here))"
        " SELECT EXISTS (SELECT FROM named) AS announced,"
        " ARRAY(SELECT uid FROM named WHERE NOT EXISTS"
        "  (SELECT FROM instance WHERE sop_instance_uid = uid) ORDER BY uid) AS missing,"
        " (SELECT count(*) FROM here WHERE NOT EXISTS (SELECT FROM named WHERE named.uid = here.uid))"
        "  AS unannounced, %(last)s <= now() - %(quiet)s AS is_quiet",
        {"study": study.study_instance_uid, "last": study.last_received_at, "quiet": quiet_for},
    ).fetchone()
    if row is None:
        raise AssertionError("a select without FROM answers a row")
    return Receipts(**{**row, "missing": tuple(row["missing"])})


def change(
    connection: Connection, study_instance_uid: str, state: StudyState, missing: Sequence[str]
) -> None:
    """Save a new state, or another list of what is missing."""
    connection.execute(
        "UPDATE study SET state = %s, missing = %s, revision = revision + 1,"
        " closed_at = CASE WHEN %s = 'open' THEN NULL ELSE now() END WHERE study_instance_uid = %s",
        (state.value, list(missing), state.value, study_instance_uid),
    )


def mark_reported(connection: Connection, study_instance_uid: str, revision: int) -> None:
    """Note which revision the DiagnosticReport shows."""
    connection.execute(
        "UPDATE study SET reported_revision = greatest(reported_revision, %s) WHERE study_instance_uid = %s",
        (revision, study_instance_uid),
    )


def ask_for_reports(connection: Connection, asked_before: timedelta) -> list[int]:
    """Of each study whose DiagnosticReport is behind and was not asked for lately, a photograph's id."""
    rows = connection.execute(
        "UPDATE study SET asked_at = now() WHERE study_instance_uid IN (SELECT study_instance_uid FROM study"
        " WHERE reported_revision < revision AND (asked_at IS NULL OR asked_at <= now() - %s)"
        " ORDER BY asked_at NULLS FIRST LIMIT 200 FOR UPDATE SKIP LOCKED) RETURNING"
        " (SELECT min(instance_id) FROM instance"
        "  WHERE instance.study_instance_uid = study.study_instance_uid) AS instance_id",
        (asked_before,),
    )
    return [int(row["instance_id"]) for row in rows]


def completeness(
    connection: Connection, study_instance_uid: str, besides: int | None = None
) -> Completeness | None:
    """What a report of the study is to say; None when nothing of it was noted.

    Args:
        connection: Where the study's reports are saved one at a time.
        study_instance_uid: Of the study.
        besides: An instance whose results are being saved just now.
    """
    study = find(connection, study_instance_uid)
    if study is None:
        return None
    row = connection.execute(
        "SELECT count(*) AS n FROM instance WHERE study_instance_uid = %s"
        " AND state IN ('received', 'appraised') AND instance_id IS DISTINCT FROM %s",
        (study_instance_uid, besides),
    ).fetchone()
    return Completeness(state=study.state, missing=study.missing, unreported=int(row["n"]) if row else 0)


def counts_by_state(connection: Connection) -> dict[StudyState, int]:
    """How many studies are in each state, every state named."""
    rows = connection.execute("SELECT state, count(*) AS studies FROM study GROUP BY state")
    found = {StudyState(row["state"]): int(row["studies"]) for row in rows}
    return {state: found.get(state, 0) for state in StudyState}


def with_missing(connection: Connection, limit: int = 50) -> list[Study]:
    """Studies of which something is missing, those that were last received first."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM study WHERE missing <> '{{}}' ORDER BY last_received_at DESC LIMIT %s",  # noqa: S608
        (limit,),
    )
    return [_study(row) for row in rows]
