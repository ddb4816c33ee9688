"""The relay moves the outbox to the broker and enqueues what stalled.

Several may run at once. They sleep until PostgreSQL notifies them, a message that was held back is due, or it
is time to sweep.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import psycopg
import structlog
from psycopg.rows import TupleRow

from service.config import Settings
from service.database import outbox
from service.database.pool import Pool, transaction
from service.errors import BrokerUnavailableError, DatabaseUnavailableError
from service.pipeline.publishing import Publisher, publish_due
from service.pipeline.sweeper import SWEEPS, Sweep, sweep

Chore = Callable[[Pool, Settings], None]  # done before each sweep

_log = structlog.get_logger(__name__)

_STOP_WITHIN_S = 0.5  # of being told to
_PAUSE_AFTER_FAULT_S = 1.0
_BATCH = 200


class Relay:
    """Publishes and sweeps until it is stopped."""

    def __init__(
        self,
        settings: Settings,
        pool: Pool,
        publisher: Publisher,
        *,
        sweeps: Sequence[Sweep] = (),
        chores: Sequence[Chore] = (),
        heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing runs before ``run``.

        Args:
            settings: Of the process.
            pool: Of the database.
            publisher: Hands messages to the broker.
            sweeps: Work that may stall, beside the pipeline's own.
            chores: What is done before each sweep.
            heartbeat: Called whenever the loop goes round.
        """
        self._settings = settings
        self._pool = pool
        self._publisher = publisher
        self._sweeps = (*SWEEPS, *sweeps)
        self._chores = tuple(chores)
        self._beat = heartbeat
        self._stopped = threading.Event()
        self._next_sweep = 0.0

    def stop(self) -> None:
        """End ``run`` after the batch in hand."""
        self._stopped.set()

    def run(self) -> None:
        """Move messages until stopped; database and broker may come and go."""
        while not self._stopped.is_set():
            try:
                self._listen()
            except (DatabaseUnavailableError, BrokerUnavailableError, psycopg.OperationalError) as exc:
                _log.warning("relay waits", error=str(exc))
                self._beat()
                self._stopped.wait(_PAUSE_AFTER_FAULT_S)

    def _listen(self) -> None:
        """Move messages over one listening connection until stopped or an error ends it."""
        with psycopg.connect(self._settings.database_url, autocommit=True, connect_timeout=5) as listener:
            listener.execute(f"LISTEN {outbox.CHANNEL}")
            while not self._stopped.is_set():
                self.turn()
                self._beat()
                self._sleep(listener)

    def _sleep(self, listener: psycopg.Connection[TupleRow]) -> None:
        """Wait until somebody notifies, a message that was held back is due, or it is time to sweep."""
        with transaction(self._pool) as connection:
            held_back_s = outbox.next_due_s(connection)
        until = min(self._next_sweep, time.monotonic() + held_back_s)
        while not self._stopped.is_set() and (left_s := until - time.monotonic()) > 0:
            for _ in listener.notifies(timeout=min(_STOP_WITHIN_S, left_s), stop_after=1):
                return

    def turn(self) -> None:
        """Publish everything due, and sweep when it is time to.

        Raises:
            DatabaseUnavailableError, BrokerUnavailableError: To be tried again.
        """
        if time.monotonic() >= self._next_sweep:
            for chore in self._chores:
                chore(self._pool, self._settings)
            again = sweep(self._pool, self._publisher, self._settings, self._sweeps)
            self._next_sweep = time.monotonic() + self._settings.sweep_interval_s
            if again:
                _log.warning("stalled work enqueued again", messages=again)
        while publish_due(self._pool, self._publisher, _BATCH) == _BATCH and not self._stopped.is_set():
            pass
