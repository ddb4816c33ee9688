"""Celery task of the last step: a result object to its destination."""

from __future__ import annotations

from dicom_node.delivery.breaker import DestinationGate
from dicom_node.delivery.scu import destination_named, send, verify
from dicom_node.delivery.stow_sender import stow
from dicom_node.encoding.uids import new_transaction_uid
from service.audit.transfers import record_begin
from service.database.delivery import commitments_wanted, deliveries, destinations
from service.database.pool import transaction
from service.pipeline.celery_app import task
from service.pipeline.context import Context
from service.pipeline.progress import delivered
from service.records import BreakerState
from service.steps import DELIVER


@task(DELIVER, gate=DestinationGate())
def deliver(context: Context, delivery_id: int) -> None:
    """Send one result object; raises what the attempt is retried for.

    Args:
        context: Of the process.
        delivery_id: Claimed, and let through by the gate.
    """
    with transaction(context.pool) as connection:
        delivery = deliveries.get(connection, delivery_id)
        state = destinations.states(connection).get(delivery.destination)
        record_begin(connection, delivery, context.settings)
    destination = destination_named(context.settings, delivery.destination)
    if destination.kind == "dicom" and state is not None and state.breaker is BreakerState.HALF_OPEN:
        verify(destination, context.settings)
    content = context.store.read(delivery.sha256)
    sent = (
        stow(content, destination, context.settings)
        if destination.kind == "dicomweb"
        else send(content, destination, context.settings)
    )
    with transaction(context.pool) as connection:
        delivered(
            connection,
            delivery,
            {
                "status": f"0x{sent.status:04X}",
                "comment": sent.comment,
                "transfer_syntax_uid": sent.transfer_syntax_uid,
            },
        )
        if destination.storage_commitment and destination.kind == "dicom":
            commitments_wanted.want(connection, delivery_id, new_transaction_uid())
