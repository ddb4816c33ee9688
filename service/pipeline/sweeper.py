"""Enqueues again what stalled: its message was lost with the broker, or its worker died."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from service.config import Settings
from service.database import instances, outbox
from service.database.delivery import deliveries
from service.database.pool import Connection, Pool, transaction
from service.pipeline.completeness import close_quiet
from service.pipeline.publishing import Publisher
from service.records import InstanceState
from service.steps import APPRAISE, DELIVER, REPORT, Errand, Step

# Work that made no progress for so many times stall_after_s is enqueued again however long the queue is.
_OVERDUE_FACTOR = 10


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One kind of work that may stall; who owns its table says how it is found."""

    work: Step | Errand
    stalled: Callable[[Connection, timedelta], list[int]]  # subjects due for so long, without a message
    touch: Callable[[Connection, list[int]], None]  # notes that these were enqueued again


def _instances_of(state: InstanceState) -> Callable[[Connection, timedelta], list[int]]:
    def stalled(connection: Connection, older_than: timedelta) -> list[int]:
        return [each.instance_id for each in instances.stalled(connection, older_than, state=state)]

    return stalled


def _deliveries(connection: Connection, overdue: timedelta) -> list[int]:
    return [each.delivery_id for each in deliveries.due(connection, overdue=overdue)]


SWEEPS = (
    Sweep(work=APPRAISE, stalled=_instances_of(APPRAISE.begins_in), touch=instances.touch),
    Sweep(work=REPORT, stalled=_instances_of(REPORT.begins_in), touch=instances.touch),
    Sweep(work=DELIVER, stalled=_deliveries, touch=deliveries.touch),
)


def sweep(pool: Pool, publisher: Publisher, settings: Settings, sweeps: Sequence[Sweep] = SWEEPS) -> int:
    """Enqueue again what stalled, and close studies that have been quiet.

    A long queue is no stall: of the subjects without progress only so many are enqueued as the queue
    holds too few messages for, those that waited longest first, unless they waited ten times as long.

    Args:
        pool: Of the database.
        publisher: Says how many messages each queue holds.
        settings: Uses ``stall_after_s`` and those of completeness.
        sweeps: Kinds of work; those of the pipeline alone by default.

    Returns:
        How many messages were written to the outbox.

    Raises:
        DatabaseUnavailableError, BrokerUnavailableError: The next sweep finds the same.
    """
    stall = timedelta(seconds=settings.stall_after_s)
    return sum(_swept(pool, publisher, each, stall) for each in sweeps) + close_quiet(pool, settings)


def _swept(pool: Pool, publisher: Publisher, kind: Sweep, stall: timedelta) -> int:
    with transaction(pool) as connection:
        stalled = kind.stalled(connection, stall)
        overdue = kind.stalled(connection, stall * _OVERDUE_FACTOR)
        chosen = _missing(publisher, kind.work, stalled, overdue)
        for subject_id in chosen:
            outbox.put(connection, kind.work.task, kind.work.queue, subject_id)
        kind.touch(connection, chosen)
    return len(chosen)


def _missing(publisher: Publisher, work: Step | Errand, stalled: list[int], overdue: list[int]) -> list[int]:
    """Those stalled subjects the queue holds too few messages for, and all that are overdue."""
    if not stalled:
        return []
    lost = max(0, len(stalled) - publisher.depth(work.queue))
    return list(dict.fromkeys([*stalled[:lost], *overdue]))
