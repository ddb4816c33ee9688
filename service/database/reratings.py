"""Results that wait to be rated by another calibration, and what they were rated before."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from uuid import UUID

from psycopg.types.json import Jsonb

from service.database.pool import Connection
from service.records import Appraisal, MethodIdentity

_CALIBRATION_LOCK = 1212501070  # held while the calibration in force changes; shared by who saves a result
_METHOD = "method_name, method_version, normaliser, comparator, weights_sha256, config_sha256"
_SAME_METHOD = (
    "(a.method_name, a.method_version, a.normaliser, a.comparator, a.weights_sha256, a.config_sha256)"
    " = (c.method_name, c.method_version, c.normaliser, c.comparator, c.weights_sha256, c.config_sha256)"
)
# The method whose worker started last: results of any other do not compare with those of now.
_CURRENT = "(SELECT * FROM calibration_in_force ORDER BY begun_at DESC, phase LIMIT 1)"
# Those whose results were issued, or will never be by this photograph's own step: nobody else makes them now.
_ISSUED = (
    "(i.state IN ('reported', 'delivered') OR (i.state = 'dead' AND NOT EXISTS"
    " (SELECT FROM dead_letter d WHERE d.instance_id = i.instance_id AND d.resolved_at IS NULL"
    " AND d.step <> 'deliver')))"
)
_OPEN_AGAIN = (
    " ON CONFLICT (appraisal_id, calibration) DO UPDATE SET requested_at = now(), asked_at = NULL,"
    " done_at = NULL, attempts = 0, error = '' WHERE rerating.done_at IS NOT NULL"
)
_REPLACED = "another calibration came into force"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far re-rating by one calibration is."""

    calibration: str
    method: str  # its name and version
    requested: int
    done: int
    waiting: int
    failed: int  # given up
    looking: bool  # whether more results are still being looked for


@dataclass(frozen=True, kw_only=True)
class OtherMethod:
    """Results that the calibration in force is not for: they keep their ratings, and do not compare."""

    method: str  # name and version
    calibration: str  # "" when they were not rated
    results: int


def put_in_force(connection: Connection, method: MethodIdentity) -> bool:
    """Note by what new photographs are rated, when a worker starts; earlier results are to be rated so, too.

    Args:
        connection: In a transaction.
        method: With a calibration.

    Returns:
        Whether it is another calibration than before.
    """
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (_CALIBRATION_LOCK,))
    row = connection.execute(
        "SELECT calibration FROM calibration_in_force WHERE phase = %s", (method.phase,)
    ).fetchone()
    if row is not None and row["calibration"] == method.calibration:
        connection.execute(
            "UPDATE calibration_in_force SET begun_at = now() WHERE phase = %s", (method.phase,)
        )
        return False
    connection.execute(
        f"INSERT INTO calibration_in_force (phase, {_METHOD}, calibration, look_to)"  # noqa: S608 -- constant
        " SELECT %s, %s, %s, %s, %s, %s, %s, %s, coalesce(max(instance_id), 0) FROM instance"
        " ON CONFLICT (phase) DO UPDATE SET calibration = excluded.calibration, begun_at = now(),"
        " looked_to = 0, look_to = excluded.look_to",
        (
            method.phase,
            method.name,
            method.version,
            method.normaliser,
            method.comparator,
            method.weights_sha256,
            method.config_sha256,
            method.calibration,
        ),
    )
    connection.execute(
        "UPDATE rerating r SET done_at = now(), error = %s FROM appraisal a, calibration_in_force c"  # noqa: S608
        f" WHERE a.appraisal_id = r.appraisal_id AND c.phase = %s AND {_SAME_METHOD}"
        " AND r.done_at IS NULL AND r.calibration <> c.calibration",
        (_REPLACED, method.phase),
    )
    return True


def want(connection: Connection, appraisal_id: UUID, method: MethodIdentity) -> None:
    """Have a result that is being saved rated anew where another calibration is in force than it has.

    Args:
        connection: In the transaction that saves it.
        appraisal_id: The result.
        method: As it was rated.
    """
    connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (_CALIBRATION_LOCK,))
    connection.execute(
        "INSERT INTO rerating (appraisal_id, calibration)"  # noqa: S608 -- constant
        " SELECT %s, calibration FROM calibration_in_force"
        " WHERE phase = %s AND calibration <> %s" + _OPEN_AGAIN,
        (appraisal_id, method.phase, method.calibration),
    )


def look(connection: Connection, most: int) -> int:
    """Look for results by earlier calibrations than the one in force.

    Args:
        connection: In a transaction.
        most: Photographs that are looked at.

    Returns:
        How many results are to be rated anew.
    """
    row = connection.execute(
        "SELECT phase, looked_to, look_to FROM calibration_in_force"  # noqa: S608 -- constant
        f" WHERE phase = (SELECT phase FROM {_CURRENT} AS c) AND looked_to < look_to FOR UPDATE SKIP LOCKED"
    ).fetchone()
    if row is None:
        return 0
    span = connection.execute(
        "SELECT max(instance_id) AS last FROM (SELECT instance_id FROM instance WHERE instance_id > %s"
        " ORDER BY instance_id LIMIT %s) AS next",
        (row["looked_to"], most),
    ).fetchone()
    last = row["look_to"] if span is None or span["last"] is None else min(span["last"], row["look_to"])
    found = connection.execute(
        "INSERT INTO rerating (appraisal_id, calibration)"  # noqa: S608 -- constant
        " SELECT a.appraisal_id, c.calibration FROM appraisal a, calibration_in_force c"
        f" WHERE c.phase = %s AND {_SAME_METHOD} AND a.calibration <> c.calibration"
        " AND a.status = 'appraised' AND NOT a.is_superseded AND a.instance_id > %s AND a.instance_id <= %s"
        + _OPEN_AGAIN,
        (row["phase"], row["looked_to"], last),
    ).rowcount
    connection.execute(
        "UPDATE calibration_in_force SET looked_to = %s WHERE phase = %s", (last, row["phase"])
    )
    return found


def due(connection: Connection, asked_before: timedelta, under_way: int) -> list[int]:
    """Photographs whose results are to be rated now, so that no more than ``under_way`` results are.

    Args:
        connection: In a transaction.
        asked_before: What was asked for longer ago counts as lost.
        under_way: At most so many asked for and not done: new photographs come first.
    """
    rows = connection.execute(
        "WITH busy AS (SELECT count(*) AS n FROM rerating"  # noqa: S608 -- constant
        " WHERE done_at IS NULL AND asked_at > now() - %(b)s),"
        " chosen AS (SELECT r.appraisal_id, r.calibration, i.instance_id FROM rerating r"
        f" JOIN {_CURRENT} c USING (calibration)"
        " JOIN appraisal a USING (appraisal_id) JOIN instance i USING (instance_id)"
        f" WHERE {_SAME_METHOD} AND r.done_at IS NULL AND (r.asked_at IS NULL OR r.asked_at <= now() - %(b)s)"
        f" AND NOT a.is_superseded AND {_ISSUED}"
        " ORDER BY r.asked_at NULLS FIRST, r.appraisal_id"
        " LIMIT greatest(0, %(most)s - (SELECT n FROM busy)) FOR UPDATE OF r SKIP LOCKED)"
        " UPDATE rerating r SET asked_at = now() FROM chosen c"
        " WHERE (r.appraisal_id, r.calibration) = (c.appraisal_id, c.calibration) RETURNING c.instance_id",
        {"b": asked_before, "most": under_way},
    )
    return sorted({int(row["instance_id"]) for row in rows})


def waiting(connection: Connection, instance_id: int, calibration: str) -> list[UUID]:
    """Results of a photograph that wait to be rated by a calibration, now that they can be."""
    rows = connection.execute(
        "SELECT r.appraisal_id FROM rerating r JOIN appraisal a USING (appraisal_id)"  # noqa: S608 -- constant
        " JOIN instance i USING (instance_id) WHERE i.instance_id = %s AND r.calibration = %s"
        f" AND r.done_at IS NULL AND NOT a.is_superseded AND {_ISSUED} ORDER BY r.appraisal_id",
        (instance_id, calibration),
    )
    return [row["appraisal_id"] for row in rows]


def count_attempt(connection: Connection, appraisal_id: UUID, calibration: str, most: int) -> bool:
    """Count an attempt; after ``most`` of them without a report the result is given up.

    Returns:
        Whether it may be tried.
    """
    row = connection.execute(
        "UPDATE rerating SET attempts = attempts + 1,"
        " done_at = CASE WHEN attempts >= %(most)s THEN now() END,"
        " error = CASE WHEN attempts >= %(most)s THEN 'its results could not be made anew' ELSE '' END"
        " WHERE appraisal_id = %(appraisal)s AND calibration = %(calibration)s RETURNING done_at",
        {"most": most, "appraisal": appraisal_id, "calibration": calibration},
    ).fetchone()
    return row is not None and row["done_at"] is None


def rate(connection: Connection, now: Appraisal, before: Appraisal) -> None:
    """Give a result the rating of another calibration; the one it had is kept beside it.

    Args:
        connection: In a transaction that holds the row of its photograph.
        now: The result with its new rating; its score is as before.
        before: As it is stored.
    """
    connection.execute(
        "INSERT INTO former_rating (appraisal_id, calibration, rating, percentile, regions)"
        " VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        (
            before.appraisal_id,
            before.method.calibration,
            before.rating,
            before.percentile,
            Jsonb([asdict(region) for region in before.regions]),
        ),
    )
    connection.execute(
        "UPDATE appraisal SET calibration = %s, rating = %s, percentile = %s, regions = %s"
        " WHERE appraisal_id = %s",
        (
            now.method.calibration,
            now.rating,
            now.percentile,
            Jsonb([asdict(region) for region in now.regions]),
            now.appraisal_id,
        ),
    )


def mark_reported(connection: Connection, appraisal_id: UUID, calibration: str) -> None:
    """Note that the Observation of a result says its rating by this calibration."""
    connection.execute(
        "UPDATE rerating SET done_at = now(), error = '' WHERE appraisal_id = %s AND calibration = %s"
        " AND (done_at IS NULL OR error <> '')",
        (appraisal_id, calibration),
    )


def retry(connection: Connection) -> int:
    """Take up again what was given up by the calibration in force; returns how many results."""
    return connection.execute(
        "UPDATE rerating r SET done_at = NULL, asked_at = NULL, attempts = 0, error = ''"  # noqa: S608
        f" FROM appraisal a, {_CURRENT} c WHERE a.appraisal_id = r.appraisal_id"
        f" AND {_SAME_METHOD} AND r.calibration = c.calibration AND r.error <> ''"
    ).rowcount


def progress(connection: Connection) -> list[Progress]:
    """How far re-rating by the calibration in force is; empty where nothing is rated anew.

    What was taken back waits for nobody, and is not counted.
    """
    rows = connection.execute(
        "SELECT c.calibration, c.method_name || ' ' || c.method_version AS method,"  # noqa: S608 -- constant
        " count(r.appraisal_id) AS requested,"
        " count(*) FILTER (WHERE r.done_at IS NOT NULL AND r.error = '') AS done,"
        " count(*) FILTER (WHERE r.appraisal_id IS NOT NULL AND r.done_at IS NULL) AS waiting,"
        " count(*) FILTER (WHERE r.done_at IS NOT NULL AND r.error <> '') AS failed,"
        " c.looked_to < c.look_to AS looking"
        f" FROM {_CURRENT} c LEFT JOIN (rerating r JOIN appraisal a USING (appraisal_id)"
        " JOIN instance i USING (instance_id)) ON r.calibration = c.calibration"
        f" AND {_SAME_METHOD} AND (r.done_at IS NOT NULL OR (i.state <> 'withdrawn' AND NOT a.is_superseded))"
        " GROUP BY 1, 2, c.looked_to, c.look_to"
    )
    found = [Progress(**row) for row in rows]
    return [each for each in found if each.requested or each.looking]


def not_comparable(connection: Connection) -> list[OtherMethod]:
    """Results by other methods, versions, weights or settings than those in force."""
    rows = connection.execute(
        "SELECT a.method_name || ' ' || a.method_version AS method, a.calibration,"  # noqa: S608 -- constant
        " count(*) AS results FROM appraisal a WHERE a.status = 'appraised' AND NOT a.is_superseded"
        " AND EXISTS (SELECT FROM calibration_in_force)"
        f" AND NOT EXISTS (SELECT FROM {_CURRENT} c WHERE {_SAME_METHOD})"
        " GROUP BY 1, 2 ORDER BY 1, 2"
    )
    return [OtherMethod(**row) for row in rows]
