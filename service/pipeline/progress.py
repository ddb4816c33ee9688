"""How work moves: from step to step, out of the outbox to the broker, and on again after it stalled."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Protocol

import structlog

from reporting.fhir.database import subscriptions as fhir_subscriptions
from service.config import Settings
from service.database import deliveries, instances, ledger, outbox
from service.database.outbox import OutboxMessage
from service.database.pool import Connection, Pool, transaction
from service.pipeline.completeness import close_quiet, note_received
from service.records import Delivery, InstanceState, LedgerEvent
from service.steps import APPRAISE, DELIVER, NOTIFY, REPORT, Errand, Queue, Step

# Work that made no progress for so many times stall_after_s is enqueued again however long the queue is.
_OVERDUE_FACTOR = 10

_log = structlog.get_logger(__name__)


class Publisher(Protocol):
    """Hands messages to the broker."""

    def publish(self, message: OutboxMessage) -> None:
        """Publish one message.

        Raises:
            BrokerUnavailableError: The broker did not take it.
        """

    def depth(self, queue: Queue) -> int:
        """How many messages wait in a queue.

        Raises:
            BrokerUnavailableError: The broker did not answer.
        """


def appraised(
    connection: Connection, instance_id: int, event: LedgerEvent, detail: Mapping[str, str]
) -> None:
    """Close the appraisal step: state, ledger, and the message that has the result reported.

    Args:
        connection: In the transaction that saves the appraisal.
        instance_id: Of the photograph.
        event: APPRAISED or REJECTED.
        detail: For the ledger.
    """
    instance = instances.lock(connection, instance_id)
    if instance.state is not APPRAISE.begins_in:
        return
    instances.set_state(connection, instance_id, APPRAISE.ends_in)
    ledger.append(
        connection,
        event,
        instance_id=instance_id,
        sop_instance_uid=instance.sop_instance_uid,
        detail=detail,
    )
    outbox.put(connection, REPORT.task, REPORT.queue, instance_id)
    outbox.nudge(connection)


def reported(
    connection: Connection, instance_id: int, delivery_ids: list[int], detail: Mapping[str, str]
) -> None:
    """Close the reporting step: state, ledger, one message per new delivery.

    An instance without an open delivery is DELIVERED at once: nothing else is due.

    Args:
        connection: In the transaction that saves the result objects.
        instance_id: Of the photograph.
        delivery_ids: Of the deliveries added in this transaction.
        detail: For the ledger.
    """
    instance = instances.lock(connection, instance_id)
    if instance.state is not REPORT.begins_in:
        return
    instances.set_state(connection, instance_id, REPORT.ends_in)
    ledger.append(
        connection,
        LedgerEvent.REPORTED,
        instance_id=instance_id,
        sop_instance_uid=instance.sop_instance_uid,
        detail=detail,
    )
    for delivery_id in delivery_ids:
        outbox.put(connection, DELIVER.task, DELIVER.queue, delivery_id)
    outbox.nudge(connection)
    if not deliveries.open_for_instance(connection, instance_id):
        instances.set_state(connection, instance_id, DELIVER.ends_in)


def delivered(connection: Connection, delivery: Delivery, detail: Mapping[str, str]) -> None:
    """Close one delivery, and the instance when it was the last: states and ledger.

    Args:
        connection: In a transaction.
        delivery: The one the destination took.
        detail: For the ledger, beside the destination and the result's UID.
    """
    instance = instances.lock(connection, delivery.instance_id)
    deliveries.mark_delivered(connection, delivery.delivery_id)
    ledger.append(
        connection,
        LedgerEvent.DELIVERED,
        instance_id=instance.instance_id,
        sop_instance_uid=instance.sop_instance_uid,
        detail={
            "destination": delivery.destination,
            "result": delivery.sop_instance_uid,
            **detail,
        },
    )
    if instance.state is DELIVER.begins_in and not deliveries.open_for_instance(
        connection, instance.instance_id
    ):
        instances.set_state(connection, instance.instance_id, DELIVER.ends_in)


def publish_due(pool: Pool, publisher: Publisher, limit: int = 200) -> int:
    """Publish due messages of the outbox and delete them; several relays may do so at once.

    At least once: when the deletion does not commit, the messages go out again, and the steps bear it.

    Returns:
        How many were published.

    Raises:
        DatabaseUnavailableError, BrokerUnavailableError: Nothing of this batch is lost.
    """
    with transaction(pool) as connection:
        messages = outbox.take_due(connection, limit)
        note_received(connection, [int(each.subject_id) for each in messages if each.task == APPRAISE.task])
        for message in messages:
            publisher.publish(message)
        outbox.delete(connection, [message.outbox_id for message in messages])
    return len(messages)


def sweep(pool: Pool, publisher: Publisher, settings: Settings) -> int:
    """Enqueue again what stalled: its message was lost with the broker, or its worker died.

    A long queue is no stall: of the instances without progress only so many are enqueued as the queue
    holds too few messages for, those that waited longest first, unless they waited ten times as long.
    Notifications that were received long ago are forgotten.

    Returns:
        How many messages were written to the outbox.

    Raises:
        DatabaseUnavailableError, BrokerUnavailableError: The next sweep finds the same.
    """
    _forget_notifications(pool, settings)
    return sum(
        (
            _sweep_instances(pool, publisher, APPRAISE, settings.stall_after_s),
            _sweep_instances(pool, publisher, REPORT, settings.stall_after_s),
            _sweep_deliveries(pool, publisher, settings.stall_after_s),
            close_quiet(pool, settings),
            _sweep_notifications(pool, publisher, settings.stall_after_s),
        )
    )


def _sweep_instances(pool: Pool, publisher: Publisher, step: Step, stall_after_s: float) -> int:
    stall = timedelta(seconds=stall_after_s)
    with transaction(pool) as connection:
        stalled = [each.instance_id for each in instances.stalled(connection, stall, state=step.begins_in)]
        overdue = [
            each.instance_id
            for each in instances.stalled(connection, stall * _OVERDUE_FACTOR, state=step.begins_in)
        ]
        chosen = _missing(publisher, step, stalled, overdue)
        _enqueue(connection, step, chosen)
        instances.touch(connection, chosen)
    return len(chosen)


def _sweep_deliveries(pool: Pool, publisher: Publisher, stall_after_s: float) -> int:
    stall = timedelta(seconds=stall_after_s)
    with transaction(pool) as connection:
        stalled = [each.delivery_id for each in deliveries.due(connection, overdue=stall)]
        overdue = [each.delivery_id for each in deliveries.due(connection, overdue=stall * _OVERDUE_FACTOR)]
        chosen = _missing(publisher, DELIVER, stalled, overdue)
        _enqueue(connection, DELIVER, chosen)
        deliveries.touch(connection, chosen)
    return len(chosen)


def _sweep_notifications(pool: Pool, publisher: Publisher, stall_after_s: float) -> int:
    stall = timedelta(seconds=stall_after_s)
    with transaction(pool) as connection:
        stalled = fhir_subscriptions.due(connection, stall, NOTIFY.task)
        overdue = fhir_subscriptions.due(connection, stall * _OVERDUE_FACTOR, NOTIFY.task)
        chosen = _missing(publisher, NOTIFY, stalled, overdue)
        _enqueue(connection, NOTIFY, chosen)
        fhir_subscriptions.touch(connection, chosen)
    return len(chosen)


def _forget_notifications(pool: Pool, settings: Settings) -> None:
    with transaction(pool) as connection:
        keep = timedelta(days=settings.fhir_notification_keep_days)
        if forgotten := fhir_subscriptions.forget_sent(connection, keep):
            _log.info("notifications-forgotten", notifications=forgotten)


def _missing(publisher: Publisher, step: Step | Errand, stalled: list[int], overdue: list[int]) -> list[int]:
    """Those stalled subjects the queue holds too few messages for, and all that are overdue."""
    if not stalled:
        return []
    lost = max(0, len(stalled) - publisher.depth(step.queue))
    return list(dict.fromkeys([*stalled[:lost], *overdue]))


def _enqueue(connection: Connection, step: Step | Errand, subject_ids: list[int]) -> None:
    for subject_id in subject_ids:
        outbox.put(connection, step.task, step.queue, subject_id)


def is_unfinished(state: InstanceState) -> bool:
    """Whether an instance in that state still has work before it."""
    return state not in {InstanceState.DELIVERED, InstanceState.DEAD}
