"""Today's numbers; each has a list."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo

from service.database.pool import Connection


class Show(StrEnum):
    """What a list is of."""

    ALL = "all"
    ARRIVED = "arrived"  # today
    WAITING = "waiting"  # for a step, since whenever
    REJECTED = "rejected"  # today: could not be judged
    DELIVERED = "delivered"  # today
    DEAD = "dead"  # given up, since whenever


COUNTED = (Show.ARRIVED, Show.WAITING, Show.REJECTED, Show.DELIVERED, Show.DEAD)


def midnight(zone: ZoneInfo) -> datetime:
    """When today began for a reader."""
    return datetime.now(zone).replace(hour=0, minute=0, second=0, microsecond=0)


def counts(connection: Connection, since: datetime) -> Mapping[Show, int]:
    """The numbers of a day.

    Args:
        connection: In a transaction.
        since: When the day began, aware.
    """
    row = connection.execute(
        "SELECT (SELECT count(*) FROM instance WHERE received_at >= %(since)s) AS arrived,"
        " (SELECT count(*) FROM instance WHERE state IN ('received', 'appraised', 'reported')) AS waiting,"
        " (SELECT count(DISTINCT instance_id) FROM appraisal WHERE status = 'rejected'"
        " AND NOT is_superseded AND created_at >= %(since)s) AS rejected,"
        " (SELECT count(*) FROM instance WHERE state = 'delivered' AND progressed_at >= %(since)s)"
        " AS delivered, (SELECT count(*) FROM instance WHERE state = 'dead') AS dead",
        {"since": since},
    ).fetchone()
    assert row is not None  # noqa: S101 -- a SELECT without FROM has one row
    return {each: int(row[each.value]) for each in COUNTED}


def has_any(connection: Connection) -> bool:
    """Whether a photograph ever came."""
    return connection.execute("SELECT FROM instance LIMIT 1").rowcount > 0
