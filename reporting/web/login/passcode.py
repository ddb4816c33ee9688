"""Login by name and passcode, with a limit to the tries."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from reporting.web.database import sessions, users
from reporting.web.database.users import StoredUser
from reporting.web.tokens import digest
from service.database.pool import Pool, transaction
from service.passcodes import MAX_PASSCODE_BYTES, digest_of, matches

LEAST_LETTERS = 10  # of a passcode
WITHIN_S = 900.0  # failures are counted over so long
MOST_OF_NAME = 5
MOST_OF_ADDRESS = 30


class Refusal(StrEnum):
    """Why somebody is not let in; they are told the first two alike."""

    WRONG = "wrong"
    DISABLED = "disabled"
    TOO_MANY = "too-many"


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What came of a try."""

    user: StoredUser | None
    refusal: Refusal | None


def log_in(pool: Pool, name: str, passcode: str, peer: str) -> Tried:
    """Look whether somebody is who they say; takes as long for a name that there is not.

    A try is counted before it is looked at, so that many at once are no way around the limit.

    Raises:
        DatabaseUnavailableError: The database is away.
    """
    counted = digest(f"name {name.strip()}")
    with transaction(pool) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 210))", (counted.hex(),))
        of_name, of_address = sessions.failures(connection, counted, peer, WITHIN_S)
        if of_name >= MOST_OF_NAME or of_address >= MOST_OF_ADDRESS:
            return Tried(user=None, refusal=Refusal.TOO_MANY)
        sessions.note_failure(connection, counted, peer)
        user = users.get(connection, name.strip())
    secret = passcode.encode()[:MAX_PASSCODE_BYTES] or b"-"
    if user is None:
        digest_of(secret)
        return Tried(user=None, refusal=Refusal.WRONG)
    if not matches(secret, user.passcode):
        return Tried(user=None, refusal=Refusal.WRONG)
    if user.disabled_at is not None:
        return Tried(user=None, refusal=Refusal.DISABLED)
    with transaction(pool) as connection:
        sessions.forget_failures(connection, counted)
    return Tried(user=user, refusal=None)
