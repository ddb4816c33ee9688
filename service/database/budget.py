"""How long one request may keep the database busy, over all its statements."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import psycopg

from service.errors import StatementTimeoutError

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)  # by ``time.monotonic``


@contextmanager
def budget(seconds: float | None) -> Iterator[None]:
    """Begin no statement on a ``TimedCursor`` later than this; of the thread that enters it.

    The statement under way then ends by its own limit. What is asked of other connections goes on, as
    the record of who asked must. None: whatever was begun around it, this has all the time.
    """
    token = _deadline.set(None if seconds is None else time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


class TimedCursor(psycopg.Cursor[Any]):
    """A cursor that refuses to begin a statement after the request's time.

    Raises:
        StatementTimeoutError: By ``execute`` and ``executemany``.
    """

    def execute(self, *arguments: Any, **options: Any) -> TimedCursor:
        """As of psycopg."""
        _check()
        super().execute(*arguments, **options)
        return self

    def executemany(self, *arguments: Any, **options: Any) -> None:
        """As of psycopg."""
        _check()
        super().executemany(*arguments, **options)


def _check() -> None:
    deadline = _deadline.get()
    if deadline is not None and time.monotonic() > deadline:
        raise StatementTimeoutError("the time of this request is over")
