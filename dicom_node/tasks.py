"""Celery task of the last step: a result object to its destination."""

from __future__ import annotations

from dicom_node.scu import send
from service.celery_app import task
from service.config import Destination, Settings
from service.context import Context
from service.database import deliveries
from service.database.pool import transaction
from service.errors import ConfigurationError
from service.pipeline import delivered
from service.steps import DELIVER


@task(DELIVER)
def deliver(context: Context, delivery_id: int) -> None:
    """Send one result object; raises what the attempt is retried for.

    Args:
        context: Of the process.
        delivery_id: Claimed.
    """
    with transaction(context.pool) as connection:
        delivery = deliveries.get(connection, delivery_id)
    destination = destination_named(context.settings, delivery.destination)
    sent = send(context.store.read(delivery.sha256), destination, context.settings)
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


def destination_named(settings: Settings, name: str) -> Destination:
    """The destination of that name.

    Raises:
        ConfigurationError: It is not configured any more.
    """
    for destination in settings.destinations:
        if destination.name == name:
            return destination
    raise ConfigurationError(f"destination {name!r} is in a delivery but not in the settings")
