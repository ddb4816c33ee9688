"""Whom the node takes on, and how much of them: users, rates, and how long the queue may grow.

Everything here is refused in a way that a sender may try again: an association as *rejected-transient,
temporary congestion* (PS3.8 table 9-21), an object with 0xA700. What recovers, recovers by itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import UserIdentityNegotiation

from dicom_node.admission.rates import RateLimit, RateTable
from dicom_node.admission.users import Users
from service.config import Settings
from service.database import instances
from service.database.pool import Pool, transaction
from service.errors import ConfigurationError, DatabaseUnavailableError, NodeBusyError

_log = structlog.get_logger(__name__)

TEMPORARY_CONGESTION = (0x02, 0x03, 0x01)  # rejected-transient, by the presentation related provider
NO_REASON_GIVEN = (0x01, 0x01, 0x01)  # rejected-permanent, by the service user
_USERNAME, _USERNAME_AND_PASSCODE = 1, 2  # PS3.7 table D.3-14
_GUESSES_OF_ADDRESS = 10  # wrong ones a minute
_GUESSES_AT_USER = 20
_LOOK_EVERY_S = 1.0
_RESUME_AT = 0.9  # of the limit: the queue must shrink a little before more is taken


class BackPressure:
    """Whether too many photographs wait to be appraised; looks into the database once a second at most."""

    def __init__(self, pool: Pool, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is looked at where ``limit`` is 0.

        Args:
            pool: Of this process.
            limit: Photographs that may wait.
            clock: Seconds.
        """
        self._pool = pool
        self._limit = limit
        self._clock = clock
        self._looking = threading.Lock()
        self._looked_at = float("-inf")
        self._too_long = False

    def is_too_long(self) -> bool:
        """Whether more is to be refused just now; while the database is away, what was known last."""
        if self._limit and self._clock() - self._looked_at >= _LOOK_EVERY_S and self._looking.acquire(False):
            try:
                self._look()
            finally:
                self._looking.release()
        return self._too_long

    def _look(self) -> None:
        try:
            with transaction(self._pool, _LOOK_EVERY_S) as connection:
                waiting = instances.waiting(connection, self._limit + 1)
        except DatabaseUnavailableError as exc:
            _log.warning("queue-not-counted", error=str(exc))
        else:
            too_long = waiting > self._limit * (_RESUME_AT if self._too_long else 1.0)
            if too_long != self._too_long:
                _log.warning("queue-too-long" if too_long else "queue-shrunk", waiting=waiting)
            self._too_long = too_long
        self._looked_at = self._clock()


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What came of a user identity that a caller presented."""

    user: str  # "" when it is of a kind that is not understood
    is_valid: bool


class Admission:
    """What a node asks before it takes an association or an object; shared by the threads of a process."""

    def __init__(self, settings: Settings, pool: Pool, rates: RateTable | None = None) -> None:
        """Read the users.

        Args:
            settings: ``dicom_users_file`` and the limits.
            pool: Of this process.
            rates: Of the node's processes together, taken over; None where this one is alone.

        Raises:
            ConfigurationError: The file of users is wrong, or users are required and there is none.
        """
        if settings.dicom_require_user_identity and settings.dicom_users_file is None:
            raise ConfigurationError("dicom_require_user_identity needs a dicom_users_file")
        self._users = Users(settings.dicom_users_file) if settings.dicom_users_file is not None else None
        self._is_required = settings.dicom_require_user_identity
        self._rates = table = rates if rates is not None else RateTable()
        self._associations = RateLimit(table, "associations", settings.dicom_associations_per_minute)
        self._objects = RateLimit(table, "objects", settings.dicom_objects_per_minute)
        self._of_address = RateLimit(table, "associations of address", settings.dicom_associations_per_minute)
        self._objects_of_address = RateLimit(table, "objects of address", settings.dicom_objects_per_minute)
        self._guesses_of_address = RateLimit(table, "guesses of address", _GUESSES_OF_ADDRESS)
        self._guesses_at_user = RateLimit(table, "guesses at user", _GUESSES_AT_USER)
        self._queue = BackPressure(pool, settings.dicom_max_waiting)

    def close(self) -> None:
        """Give back what is held; nobody is asked any more."""
        self._rates.close()

    def rejection(self, association: Association, ae_title: str, address: str) -> tuple[int, int, int] | None:
        """Result, source and reason an association request is rejected with; None when it is not."""
        if self._is_required and association.requestor.user_identity is None:
            return NO_REASON_GIVEN
        taken = self._associations.take(ae_title, address) and self._of_address.take(address)
        return None if taken else TEMPORARY_CONGESTION

    def admit_object(self, ae_title: str, address: str) -> None:
        """Let an object in.

        Raises:
            NodeBusyError: Not now; the sender may try again.
        """
        if not (self._objects.take(ae_title, address) and self._objects_of_address.take(address)):
            raise NodeBusyError("too many objects a minute; send it again later")
        if self._queue.is_too_long():
            raise NodeBusyError("too many photographs wait; send it again later")

    def identify(self, association: Association) -> Identity:
        """Judge the user identity of an association request (PS3.7 section D.3.3.7).

        A node without users accepts whom it does not know, without a positive response, as the
        standard has it. The positive response to a name, with or without passcode, is an empty one.
        """
        asked = association.requestor.user_identity
        if asked is None or self._users is None:
            return Identity(user="", is_valid=True)
        if asked.user_identity_type not in {_USERNAME, _USERNAME_AND_PASSCODE}:
            return Identity(user="", is_valid=False)
        with_passcode = asked.user_identity_type == _USERNAME_AND_PASSCODE
        name = (asked.primary_field or b"").decode("utf-8", "replace")
        valid = self._admits(
            name,
            (asked.secondary_field or b"") if with_passcode else None,
            association.requestor.address or "",
        )
        if valid and asked.positive_response_requested:
            response = UserIdentityNegotiation()
            response.server_response = b""
            association.acceptor.add_negotiation_item(response)
        return Identity(user=name, is_valid=valid)

    def _admits(self, name: str, passcode: bytes | None, address: str) -> bool:
        """Whether a user is who they say; too many wrong guesses by an address, or at a user, are not judged.

        AE titles do not count: a guesser has a new one for every guess.
        """
        assert self._users is not None  # noqa: S101 -- for mypy
        if not (self._guesses_of_address.has(address) and self._guesses_at_user.has(name)):
            _log.warning("too-many-guesses", peer_address=address)
            return False
        if self._users.admits(name, passcode):
            return True
        self._guesses_of_address.take(address)
        self._guesses_at_user.take(name)
        return False
