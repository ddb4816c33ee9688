"""Sessions of the dashboard, purposes given in them, and logins that failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.database.pool import Connection

_SEEN_EVERY_S = 20.0  # a session's time is written down at most so often


@dataclass(frozen=True, kw_only=True)
class NewSession:
    """A session that begins."""

    token_sha256: bytes
    user_name: str
    full_name: str
    roles: Sequence[str]
    way: str
    peer_address: str


@dataclass(frozen=True, kw_only=True)
class StoredSession:
    """A session that has not ended."""

    user_name: str
    full_name: str
    roles: tuple[str, ...]
    way: str


def begin(connection: Connection, new: NewSession, lasts_s: float) -> None:
    """Begin a session; those that ended a day ago are forgotten."""
    connection.execute("DELETE FROM web_session WHERE ends_at < now() - interval '1 day'")
    connection.execute(
        "INSERT INTO web_session (token_sha256, user_name, full_name, roles, way, peer_address, ends_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, now() + make_interval(secs => %s))",
        (
            new.token_sha256,
            new.user_name,
            new.full_name,
            list(new.roles),
            new.way,
            new.peer_address,
            lasts_s,
        ),
    )


def find(connection: Connection, token_sha256: bytes, idle_s: float) -> StoredSession | None:
    """A session that has not ended, with the roles its user has now; None when there is none.

    Args:
        connection: In a transaction.
        token_sha256: Of what the browser keeps.
        idle_s: Time without a page after which it has ended.
    """
    row = connection.execute(
        "SELECT s.user_name, coalesce(u.full_name, s.full_name) AS full_name,"
        " CASE s.way WHEN 'passcode' THEN u.roles ELSE s.roles END AS roles, s.way FROM web_session s"
        " LEFT JOIN web_user u ON s.way = 'passcode' AND u.name = s.user_name AND u.disabled_at IS NULL"
        " WHERE s.token_sha256 = %s AND s.ends_at > now()"
        " AND s.seen_at > now() - make_interval(secs => %s) AND (s.way <> 'passcode' OR u.name IS NOT NULL)",
        (token_sha256, idle_s),
    ).fetchone()
    return None if row is None else StoredSession(**{**row, "roles": tuple(row["roles"])})


def touch(connection: Connection, token_sha256: bytes) -> None:
    """Note that a page of a session was asked for."""
    connection.execute(
        "UPDATE web_session SET seen_at = now() WHERE token_sha256 = %s"
        " AND seen_at < now() - make_interval(secs => %s)",
        (token_sha256, _SEEN_EVERY_S),
    )


def end(connection: Connection, token_sha256: bytes) -> bool:
    """End a session; returns whether there was one."""
    return bool(
        connection.execute("DELETE FROM web_session WHERE token_sha256 = %s", (token_sha256,)).rowcount
    )


def purpose(connection: Connection, token_sha256: bytes, patient: str) -> str:
    """For what a patient was opened in a session; "" when they were not."""
    row = connection.execute(
        "SELECT purpose FROM web_purpose WHERE token_sha256 = %s AND patient = %s", (token_sha256, patient)
    ).fetchone()
    return "" if row is None else str(row["purpose"])


def give_purpose(connection: Connection, token_sha256: bytes, patient: str, given: str) -> None:
    """Write down for what a patient is opened."""
    connection.execute(
        "INSERT INTO web_purpose (token_sha256, patient, purpose) VALUES (%s, %s, %s)"
        " ON CONFLICT (token_sha256, patient) DO UPDATE SET purpose = excluded.purpose, given_at = now()",
        (token_sha256, patient, given),
    )


def failures(
    connection: Connection, name_sha256: bytes, peer_address: str, within_s: float
) -> tuple[int, int]:
    """How many logins failed lately: by that name, and from that address."""
    row = connection.execute(
        "SELECT count(*) FILTER (WHERE name_sha256 = %(name)s) AS of_name,"
        " count(*) FILTER (WHERE peer_address = %(address)s) AS of_address FROM web_login_failure"
        " WHERE at > now() - make_interval(secs => %(within)s)"
        " AND (name_sha256 = %(name)s OR peer_address = %(address)s)",
        {"name": name_sha256, "address": peer_address, "within": within_s},
    ).fetchone()
    assert row is not None  # noqa: S101 -- an aggregate has one row
    return int(row["of_name"]), int(row["of_address"])


def note_failure(connection: Connection, name_sha256: bytes, peer_address: str) -> None:
    """Write down that a login failed; what is a day old is forgotten."""
    connection.execute("DELETE FROM web_login_failure WHERE at < now() - interval '1 day'")
    connection.execute(
        "INSERT INTO web_login_failure (name_sha256, peer_address) VALUES (%s, %s)",
        (name_sha256, peer_address),
    )


def forget_failures(connection: Connection, name_sha256: bytes) -> None:
    """Begin to count a name's failures anew."""
    connection.execute("DELETE FROM web_login_failure WHERE name_sha256 = %s", (name_sha256,))
