"""Which deliveries go out now: a circuit breaker and a limit on associations for each destination.

The state is in PostgreSQL, so that every worker sees the same. A destination that fails so many times
in a row is left alone (open); after a pause that doubles each time, one delivery is let through, which
asks by C-ECHO first (half-open); what is held back neither counts attempts nor occupies a worker.
"""

from __future__ import annotations

import random

import structlog

from service.config import Settings
from service.database import outbox
from service.database.delivery import deliveries, destinations
from service.database.delivery.destinations import DestinationState
from service.database.pool import Connection
from service.errors import (
    DeliveryError,
    DestinationBusyError,
    DestinationUnreachableError,
)
from service.peers import Destination
from service.pipeline.attempt import describe
from service.pipeline.backoff import delay_s
from service.records import BreakerState
from service.steps import DELIVER

_log = structlog.get_logger(__name__)

_SPREAD = 0.2  # of the wait: what is held back does not come back all at once
_PROBE_STEPS = 4  # connect, associate, echo, store: each within delivery_timeout_s


class DestinationGate:
    """See service.pipeline.attempt.Gate."""

    def admit(self, connection: Connection, settings: Settings, delivery_id: int) -> bool:
        """Let a delivery go ahead unless its destination is left alone or busy with enough others.

        One that waits for the breaker comes back by itself; one that waits for a free association is
        handed on by the delivery that frees it.
        """
        destination = _destination(settings, deliveries.get(connection, delivery_id).destination)
        if destination is None:
            return True  # the task says so
        state = destinations.lock(connection, destination.name)
        if state.breaker is not BreakerState.CLOSED:
            return self._probe_or_wait(connection, settings, state, delivery_id)
        return destinations.under_way(connection, destination.name) <= destination.max_associations

    def release(
        self, connection: Connection, settings: Settings, delivery_id: int, error: BaseException | None
    ) -> None:
        """Count the outcome for its destination, and hand the free association on."""
        destination = _destination(settings, deliveries.get(connection, delivery_id).destination)
        if destination is None:
            return
        state = destinations.lock(connection, destination.name)
        if self._is_closed_after(connection, settings, state, error):
            free = destination.max_associations - destinations.under_way(connection, destination.name)
            for each in destinations.next_due(connection, destination.name, max(free, 0)):
                outbox.put(connection, DELIVER.task, DELIVER.queue, each)
            outbox.nudge(connection)

    def _is_closed_after(
        self, connection: Connection, settings: Settings, state: DestinationState, error: BaseException | None
    ) -> bool:
        """Set the breaker after an attempt; whether others may follow."""
        if error is None or (isinstance(error, DeliveryError) and not _is_outage(error)):
            destinations.answered(connection, state.destination)
            return True
        if _is_outage(error):
            return not self._opened_by(connection, settings, state, error)
        if state.breaker is BreakerState.HALF_OPEN:  # the fault was ours, and nothing was found out
            destinations.open_breaker(connection, state.destination, 0.0, again=False)
        return state.breaker is BreakerState.CLOSED

    @staticmethod
    def _probe_or_wait(
        connection: Connection, settings: Settings, state: DestinationState, delivery_id: int
    ) -> bool:
        if state.retry_in_s <= 0:
            lease_s = settings.delivery_timeout_s * _PROBE_STEPS
            destinations.begin_probe(connection, state.destination, lease_s)
            _log.info("destination-probed", destination=state.destination, delivery_id=delivery_id)
            return True
        wait_s = state.retry_in_s * random.uniform(1.0, 1.0 + _SPREAD)  # noqa: S311 -- spreads load
        outbox.put_after(connection, DELIVER.task, DELIVER.queue, delivery_id, wait_s)
        return False

    @staticmethod
    def _opened_by(
        connection: Connection, settings: Settings, state: DestinationState, error: BaseException
    ) -> bool:
        """Count a failure; whether the destination is left alone now."""
        destinations.failed(connection, state.destination, describe(error)[:200])
        probing = state.breaker is BreakerState.HALF_OPEN
        if state.breaker is BreakerState.OPEN:
            return True  # one that was under way when it opened
        if not probing and state.failures + 1 < settings.breaker_failures:
            return False
        pauses = settings.model_copy(update={"retry_base_s": settings.breaker_pause_s})
        pause_s = delay_s(state.openings + 1, pauses)
        destinations.open_breaker(connection, state.destination, pause_s)
        _log.warning("destination-left-alone", destination=state.destination, pause_s=round(pause_s, 1))
        return True


def _is_outage(error: BaseException) -> bool:
    """Whether an error says that the destination is not there or has no room, whatever the object."""
    return isinstance(error, DestinationUnreachableError | DestinationBusyError)


def _destination(settings: Settings, name: str) -> Destination | None:
    return next((each for each in settings.destinations if each.name == name), None)
