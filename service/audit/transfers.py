"""Begin Transferring DICOM Instances: that a delivery is being attempted (PS3.15 section A.5.3.3)."""

from __future__ import annotations

from datetime import UTC, datetime

from service.audit import events
from service.audit.codes import EventId, Role
from service.audit.from_ledger import destination_participant, ourselves, source_of
from service.audit.message import SopClassCount
from service.audit.trail import record
from service.config import Settings
from service.database import instances
from service.database.pool import Connection
from service.records import Delivery


def record_begin(connection: Connection, delivery: Delivery, settings: Settings) -> None:
    """Keep the message that a result object is about to be sent.

    Args:
        connection: In a transaction before the attempt.
        delivery: The one that is attempted.
        settings: Who we are, and who the destinations are.
    """
    instance = instances.get(connection, delivery.instance_id)
    count = SopClassCount(
        sop_class_uid=delivery.sop_class_uid,
        number_of_instances=1,
        sop_instance_uids=(delivery.sop_instance_uid,),
    )
    message = events.message(
        EventId.BEGIN_TRANSFERRING,
        datetime.now(UTC),
        source_of(settings),
        participants=(
            ourselves(settings, role=Role.SOURCE, is_requestor=True),
            destination_participant(settings, delivery.destination),
        ),
        objects=(
            events.study(instance.study_instance_uid, [count]),
            events.patient(instance.patient_id, instance.issuer_of_patient_id),
        ),
    )
    record(connection, [message])
