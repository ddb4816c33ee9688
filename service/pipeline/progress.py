"""How a photograph moves from step to step."""

from __future__ import annotations

from collections.abc import Mapping

from service.database import instances, ledger, outbox
from service.database.delivery import deliveries
from service.database.pool import Connection
from service.records import Delivery, InstanceState, LedgerEvent
from service.steps import APPRAISE, DELIVER, REPORT


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


def kept(connection: Connection, instance_id: int, detail: Mapping[str, str]) -> None:
    """End the path of a picture that is kept and not appraised: state and ledger.

    Args:
        connection: In a transaction.
        instance_id: Of the picture.
        detail: For the ledger: why.
    """
    instance = instances.lock(connection, instance_id)
    if instance.state is not APPRAISE.begins_in:
        return
    instances.set_state(connection, instance_id, InstanceState.KEPT)
    ledger.append(
        connection,
        LedgerEvent.KEPT,
        instance_id=instance_id,
        sop_instance_uid=instance.sop_instance_uid,
        detail=detail,
    )


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
