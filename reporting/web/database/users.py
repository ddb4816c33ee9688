"""Users of the dashboard who log in by passcode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import DictRow

from service.database.pool import Connection

_COLUMNS = "name, full_name, roles, passcode, passcode_set_at, created_at, disabled_at"


@dataclass(frozen=True, kw_only=True)
class StoredUser:
    """Somebody who may log in by passcode."""

    name: str
    full_name: str
    roles: tuple[str, ...]
    passcode: str  # a digest
    passcode_set_at: datetime
    created_at: datetime
    disabled_at: datetime | None


def _user(row: DictRow) -> StoredUser:
    return StoredUser(**{**row, "roles": tuple(row["roles"])})


def get(connection: Connection, name: str) -> StoredUser | None:
    """One user; None when there is none of that name."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM web_user WHERE name = %s",  # noqa: S608 -- constant
        (name,),
    ).fetchone()
    return _user(row) if row else None


def everyone(connection: Connection) -> list[StoredUser]:
    """Every user, by name."""
    return [_user(row) for row in connection.execute(f"SELECT {_COLUMNS} FROM web_user ORDER BY name")]  # noqa: S608


def add(connection: Connection, *, name: str, full_name: str, roles: Sequence[str], passcode: str) -> bool:
    """Add a user; returns whether the name was free."""
    return bool(
        connection.execute(
            "INSERT INTO web_user (name, full_name, roles, passcode) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            (name, full_name, list(roles), passcode),
        ).rowcount
    )


def set_passcode(connection: Connection, name: str, passcode: str) -> bool:
    """Give a user another passcode and let them in; their sessions end. Returns whether there is one."""
    found = connection.execute(
        "UPDATE web_user SET passcode = %s, passcode_set_at = now(), disabled_at = NULL WHERE name = %s",
        (passcode, name),
    ).rowcount
    connection.execute("DELETE FROM web_session WHERE user_name = %s AND way = 'passcode'", (name,))
    return bool(found)


def disable(connection: Connection, name: str) -> bool:
    """Let a user in no more; their sessions end. Returns whether there is one."""
    found = connection.execute(
        "UPDATE web_user SET disabled_at = coalesce(disabled_at, now()) WHERE name = %s", (name,)
    ).rowcount
    connection.execute("DELETE FROM web_session WHERE user_name = %s AND way = 'passcode'", (name,))
    return bool(found)
