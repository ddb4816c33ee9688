"""Subscriptions, and the notifications that are on their way to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg.rows import class_row

from service.database.pool import Connection, tuples


@dataclass(frozen=True, kw_only=True)
class Subscriber:
    """What the server needs of a Subscription."""

    subscription_id: str  # logical id
    client_id: str  # who made it
    is_active: bool
    criteria: str
    endpoint: str
    payload: str  # MIME type; "" for none
    headers: Sequence[str]  # "Name: value", with its secrets
    ends_at: datetime | None  # aware


@dataclass(frozen=True, kw_only=True)
class Notification:
    """One version of a resource for one subscription."""

    notification_id: int
    subscription_id: str
    resource_type: str
    resource_id: str
    version_id: int
    attempts: int  # this one included


_SUBSCRIBER = "subscription_id, client_id, is_active, criteria, endpoint, payload, headers, ends_at"
_NOTIFICATION = "notification_id, subscription_id, resource_type, resource_id, version_id, attempts"


def put(connection: Connection, subscriber: Subscriber) -> None:
    """Keep what a Subscription says now."""
    connection.execute(
        f"INSERT INTO fhir_subscription ({_SUBSCRIBER}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (subscription_id) DO UPDATE SET is_active = excluded.is_active,"
        " criteria = excluded.criteria, endpoint = excluded.endpoint, payload = excluded.payload,"
        " headers = excluded.headers, ends_at = excluded.ends_at".encode(),
        (
            subscriber.subscription_id, subscriber.client_id, subscriber.is_active, subscriber.criteria,
            subscriber.endpoint, subscriber.payload, list(subscriber.headers), subscriber.ends_at,
        ),
    )  # fmt: skip


def get(connection: Connection, subscription_id: str) -> Subscriber | None:
    """Read one; None when there is none."""
    return (
        connection.cursor(row_factory=class_row(Subscriber))
        .execute(
            f"SELECT {_SUBSCRIBER} FROM fhir_subscription WHERE subscription_id = %s".encode(),
            (subscription_id,),
        )
        .fetchone()
    )


def active(connection: Connection) -> list[Subscriber]:
    """Those that are to be told now."""
    return (
        connection.cursor(row_factory=class_row(Subscriber))
        .execute(
            f"SELECT {_SUBSCRIBER} FROM fhir_subscription"
            " WHERE is_active AND (ends_at IS NULL OR ends_at > now()) ORDER BY subscription_id".encode()
        )
        .fetchall()
    )


def deactivate(connection: Connection, subscription_id: str) -> bool:
    """Tell it no more and give up what is on its way; False when that was so before."""
    row = (
        tuples(connection)
        .execute(
            "UPDATE fhir_subscription SET is_active = false WHERE subscription_id = %s AND is_active"
            " RETURNING 1",
            (subscription_id,),
        )
        .fetchone()
    )
    connection.execute(
        "UPDATE fhir_notification SET state = 'dead' WHERE subscription_id = %s AND state = 'pending'",
        (subscription_id,),
    )
    return row is not None


# --- notifications


def add(
    connection: Connection, subscription_id: str, resource_type: str, resource_id: str, version_id: int
) -> int | None:
    """Note that a subscription is to be told of a version; None when it was noted before."""
    row = (
        tuples(connection)
        .execute(
            "INSERT INTO fhir_notification (subscription_id, resource_type, resource_id, version_id)"
            " VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING RETURNING notification_id",
            (subscription_id, resource_type, resource_id, version_id),
        )
        .fetchone()
    )
    return int(row[0]) if row else None


def claim(connection: Connection, notification_id: int, lease_s: float) -> Notification | None:
    """Take a pending notification for one attempt of at most ``lease_s`` seconds; None when it is not due."""
    return (
        connection.cursor(row_factory=class_row(Notification))
        .execute(
            "UPDATE fhir_notification SET attempts = attempts + 1,"
            " next_attempt_at = now() + make_interval(secs => %s)"
            " WHERE notification_id = %s AND state = 'pending' AND next_attempt_at <= now()"
            f" RETURNING {_NOTIFICATION}".encode(),
            (lease_s, notification_id),
        )
        .fetchone()
    )


def mark_sent(connection: Connection, notification_id: int) -> None:
    """Note that the endpoint took it."""
    connection.execute(
        "UPDATE fhir_notification SET state = 'sent', sent_at = now(), last_error = ''"
        " WHERE notification_id = %s AND state = 'pending'",
        (notification_id,),
    )


def postpone(connection: Connection, notification_id: int, error: str, delay_s: float) -> None:
    """Note a failed attempt and hold the notification back for ``delay_s`` seconds."""
    connection.execute(
        "UPDATE fhir_notification SET last_error = %s, next_attempt_at = now() + make_interval(secs => %s)"
        " WHERE notification_id = %s AND state = 'pending'",
        (error, delay_s, notification_id),
    )


def mark_dead(connection: Connection, notification_id: int, error: str) -> None:
    """Give a notification up."""
    connection.execute(
        "UPDATE fhir_notification SET state = 'dead', last_error = %s"
        " WHERE notification_id = %s AND state = 'pending'",
        (error, notification_id),
    )


def due(connection: Connection, overdue: timedelta, task: str, limit: int = 1000) -> list[int]:
    """Ids of pending notifications that are due for ``overdue`` and have no message in the outbox."""
    rows = tuples(connection).execute(
        "SELECT notification_id FROM fhir_notification n WHERE state = 'pending'"
        " AND next_attempt_at <= now() - %s AND NOT EXISTS (SELECT FROM outbox"
        " WHERE outbox.subject_id = n.notification_id::text AND outbox.task = %s)"
        " ORDER BY next_attempt_at, notification_id LIMIT %s FOR UPDATE SKIP LOCKED",
        (overdue, task, limit),
    )
    return [int(row[0]) for row in rows]


def touch(connection: Connection, notification_ids: Sequence[int]) -> None:
    """Note that these pending notifications were enqueued again just now."""
    connection.execute(
        "UPDATE fhir_notification SET next_attempt_at = now() WHERE notification_id = ANY(%s)"
        " AND state = 'pending'",
        (list(notification_ids),),
    )


def forget_sent(connection: Connection, keep: timedelta, limit: int = 10_000) -> int:
    """Delete notifications that were received longer ago, some at a time; returns how many."""
    return connection.execute(
        "DELETE FROM fhir_notification WHERE notification_id IN ("
        " SELECT notification_id FROM fhir_notification WHERE state = 'sent' AND sent_at < now() - %s"
        " ORDER BY sent_at LIMIT %s FOR UPDATE SKIP LOCKED)",
        (keep, limit),
    ).rowcount


def revive(connection: Connection, subscription_id: str) -> list[int]:
    """Make a subscription active, and pending with fresh attempts what was given up; returns their ids."""
    connection.execute(
        "UPDATE fhir_subscription SET is_active = true WHERE subscription_id = %s", (subscription_id,)
    )
    rows = tuples(connection).execute(
        "UPDATE fhir_notification SET state = 'pending', attempts = 0, next_attempt_at = now()"
        " WHERE subscription_id = %s AND state = 'dead' RETURNING notification_id",
        (subscription_id,),
    )
    return sorted(int(row[0]) for row in rows)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a subscription fares."""

    subscription_id: str
    client_id: str
    is_active: bool
    endpoint: str  # without its query, which may hold a secret
    pending: int
    sent: int  # of those that are remembered
    dead: int
    last_error: str  # of the newest notification that failed; "" for none


def standings(connection: Connection) -> list[Standing]:
    """How every subscription fares."""
    return (
        connection.cursor(row_factory=class_row(Standing))
        .execute(
            "SELECT s.subscription_id, s.client_id, s.is_active, split_part(s.endpoint, '?', 1) AS endpoint,"
            " count(*) FILTER (WHERE n.state = 'pending') AS pending,"
            " count(*) FILTER (WHERE n.state = 'sent') AS sent,"
            " count(*) FILTER (WHERE n.state = 'dead') AS dead,"
            " coalesce((array_agg(n.last_error ORDER BY n.notification_id DESC)"
            "  FILTER (WHERE n.last_error <> ''))[1], '') AS last_error"
            " FROM fhir_subscription s LEFT JOIN fhir_notification n USING (subscription_id)"
            " GROUP BY s.subscription_id ORDER BY s.subscription_id"
        )
        .fetchall()
    )


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """A notification that was given up."""

    notification_id: int
    resource: str  # Type/id/_history/version
    attempts: int
    created_at: datetime
    last_error: str


def dead_letters(connection: Connection, subscription_id: str, limit: int = 1000) -> list[DeadLetter]:
    """What was given up of a subscription, oldest first."""
    return (
        connection.cursor(row_factory=class_row(DeadLetter))
        .execute(
            "SELECT notification_id, resource_type || '/' || resource_id || '/_history/' || version_id"
            " AS resource, attempts, created_at, last_error FROM fhir_notification"
            " WHERE subscription_id = %s AND state = 'dead' ORDER BY notification_id LIMIT %s",
            (subscription_id, limit),
        )
        .fetchall()
    )
