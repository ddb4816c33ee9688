"""What the node holds: photographs received and results made, indexed by their headers.

A trigger on ``instance`` queues every photograph in the transaction that records it, so that receiving
knows nothing of the index; ``held_pending`` is that queue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from reporting.holdings.database.holding_records import (
    HeldInstance,
    LevelAttributes,
    NewHolding,
    PendingHolding,
    Unindexed,
)
from service.database.pool import Connection

_MOST_ATTEMPTS = 5  # at reading a header whose bytes cannot be had
_MOST_REMARKS = 20  # on one header

_HIDING = 1212501060  # taken whole by hide_held (migration 0160), so that nothing is added to what it empties

_COLUMNS = ", ".join(field.name for field in fields(HeldInstance))
_SELECT = f"SELECT {_COLUMNS} FROM held_instance"  # noqa: S608 -- constant


def queue_result(connection: Connection, *, sop_instance_uid: str, sha256: str, instance_id: int) -> None:
    """Note a result object that is in the store; a known one stays as it is."""
    connection.execute(
        "INSERT INTO held_pending (sop_instance_uid, sha256, instance_id, is_result)"
        " SELECT %(uid)s, %(sha256)s, %(instance_id)s, true"
        " WHERE NOT EXISTS (SELECT FROM held_instance WHERE sop_instance_uid = %(uid)s)"
        " ON CONFLICT DO NOTHING",
        {"uid": sop_instance_uid, "sha256": sha256, "instance_id": instance_id},
    )


def take_pending(connection: Connection, limit: int) -> list[PendingHolding]:
    """Take instances to be indexed, held until the transaction ends; waits for what others hold."""
    connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (_HIDING,))
    rows = connection.execute(
        "SELECT sop_instance_uid, sha256, instance_id, is_result FROM held_pending WHERE attempts < %s"
        " ORDER BY sop_instance_uid LIMIT %s FOR UPDATE",
        (_MOST_ATTEMPTS, limit),
    )
    return [PendingHolding(**row) for row in rows]


def hide(connection: Connection, sop_instance_uids: Sequence[str]) -> None:
    """Have instances found and retrieved no more; what else is in their studies is indexed anew."""
    connection.execute("SELECT hide_held(%s)", (list(sop_instance_uids),))


def pending(connection: Connection) -> int:
    """How many instances wait to be indexed and can be."""
    row = connection.execute(
        "SELECT count(*) AS instances FROM held_pending WHERE attempts < %s", (_MOST_ATTEMPTS,)
    ).fetchone()
    return int(row["instances"]) if row else 0


def postpone(connection: Connection, sop_instance_uid: str, reason: str) -> None:
    """Count a failed attempt at indexing; after the last the instance rests."""
    connection.execute(
        "UPDATE held_pending SET attempts = attempts + 1, last_error = %s WHERE sop_instance_uid = %s",
        (reason, sop_instance_uid),
    )


def rest(connection: Connection, sop_instance_uid: str, reason: str) -> None:
    """Try an instance no more: it would fail again."""
    connection.execute(
        "UPDATE held_pending SET attempts = %s, last_error = %s WHERE sop_instance_uid = %s",
        (_MOST_ATTEMPTS, reason, sop_instance_uid),
    )


def unindexed(connection: Connection, limit: int) -> list[Unindexed]:
    """Instances that rest outside of the index, and those indexed in part; the newest first."""
    rows = connection.execute(
        "SELECT sop_instance_uid, is_result, false AS is_found, last_error AS reason, instance_id"
        " FROM held_pending WHERE attempts >= %(most)s"
        " UNION ALL SELECT sop_instance_uid, is_result, true, array_to_string(remarks, '; '), instance_id"
        " FROM held_instance WHERE remarks <> '{}' ORDER BY is_found, instance_id DESC LIMIT %(limit)s",
        {"most": _MOST_ATTEMPTS, "limit": limit},
    )
    return [
        Unindexed(**{name: row[name] for name in ("sop_instance_uid", "is_result", "is_found", "reason")})
        for row in rows
    ]


def retry(connection: Connection) -> int:
    """Try what rests again, as after a release that reads more; answers how many."""
    done = connection.execute("UPDATE held_pending SET attempts = 0 WHERE attempts >= %s", (_MOST_ATTEMPTS,))
    return done.rowcount


def add(connection: Connection, holdings: Sequence[NewHolding]) -> None:
    """Index instances, and take them off the queue.

    Of a patient's part of a study and of a series, what its first instance says counts.
    """
    for holding in holdings:
        instance = holding.instance
        connection.execute(
            "INSERT INTO held_study (study_instance_uid, patient, attributes, names) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            (instance.study_instance_uid, instance.patient, *_json(holding.study)),
        )
        connection.execute(
            "INSERT INTO held_series (study_instance_uid, series_instance_uid, patient, attributes, names)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (
                instance.study_instance_uid,
                instance.series_instance_uid,
                instance.patient,
                *_json(holding.series),
            ),
        )
        attributes, names = _json(holding.image)
        connection.execute(
            f"INSERT INTO held_instance ({_COLUMNS}, attributes, names, remarks)"  # noqa: S608 -- constants
            f" VALUES ({', '.join(f'%({field.name})s' for field in fields(HeldInstance))},"
            " %(attributes)s, %(names)s, %(remarks)s) ON CONFLICT DO NOTHING",
            {
                **asdict(instance),
                "attributes": attributes,
                "names": names,
                "remarks": list(holding.remarks)[:_MOST_REMARKS],
            },
        )
    connection.execute(
        "DELETE FROM held_pending WHERE sop_instance_uid = ANY(%s)",
        ([holding.instance.sop_instance_uid for holding in holdings],),
    )


def by_uid(connection: Connection, sop_instance_uid: str) -> HeldInstance | None:
    """The instance of that SOP Instance UID, or None."""
    row = connection.execute(_SELECT + " WHERE sop_instance_uid = %s", (sop_instance_uid,)).fetchone()
    return _instance(row) if row else None


def photographs_of(connection: Connection, sop_instance_uids: Sequence[str]) -> list[int]:
    """The photographs of which those of some instances were made that are results and are held."""
    rows = connection.execute(
        "SELECT DISTINCT instance_id FROM held_instance WHERE is_result AND sop_instance_uid = ANY(%(uids)s)"
        " UNION SELECT instance_id FROM held_pending WHERE is_result AND sop_instance_uid = ANY(%(uids)s)",
        {"uids": list(sop_instance_uids)},
    )
    return [int(row["instance_id"]) for row in rows]


def sha256_of(connection: Connection, sop_instance_uid: str) -> str:
    """Key in the store of an instance that is held, indexed already or about to be; "" when it is not."""
    row = connection.execute(
        "SELECT sha256 FROM held_instance WHERE sop_instance_uid = %(uid)s"
        " UNION ALL SELECT sha256 FROM held_pending WHERE sop_instance_uid = %(uid)s LIMIT 1",
        {"uid": sop_instance_uid},
    ).fetchone()
    return str(row["sha256"]) if row else ""


def of_study(
    connection: Connection,
    study_instance_uid: str,
    series_instance_uid: str = "",
    patients: Sequence[str] | None = None,
) -> list[HeldInstance]:
    """Instances of a study, or of one of its series, photographs first.

    Args:
        connection: In a transaction.
        study_instance_uid: Of the study.
        series_instance_uid: "" for every series.
        patients: Only what is of these Patients, by the logical ids of their own numbers; None for all.
    """
    rows = connection.execute(
        _SELECT + " WHERE study_instance_uid = %(study)s"
        " AND (%(series)s::text = '' OR series_instance_uid = %(series)s)"
        " AND (%(patients)s::text[] IS NULL OR patient = ANY(%(patients)s))"
        " ORDER BY is_result, series_instance_uid, instance_id, sop_instance_uid",
        {
            "study": study_instance_uid,
            "series": series_instance_uid,
            "patients": None if patients is None else list(patients),
        },
    )
    return [_instance(row) for row in rows]


def headers(connection: Connection, sop_instance_uids: Sequence[str]) -> Mapping[str, dict[str, object]]:
    """Whole headers, in the DICOM JSON Model, by SOP Instance UID."""
    rows = connection.execute(
        "SELECT sop_instance_uid, attributes FROM held_instance WHERE sop_instance_uid = ANY(%s)",
        (list(sop_instance_uids),),
    )
    return {row["sop_instance_uid"]: row["attributes"] for row in rows}


def _instance(row: DictRow) -> HeldInstance:
    return HeldInstance(**row)


def _json(level: LevelAttributes) -> tuple[Jsonb, Jsonb]:
    return Jsonb(dict(level.attributes)), Jsonb({tag: list(names) for tag, names in level.names.items()})
