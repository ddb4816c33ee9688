"""Take up again what was given up, on an operator's word."""

from __future__ import annotations

from service.database import dead_letters, instances, ledger, outbox
from service.database.delivery import deliveries
from service.database.pool import Connection
from service.errors import RecordNotFoundError
from service.records import InstanceState, LedgerEvent
from service.steps import DELIVER, Step, Subject, step_named


def retry_instance(connection: Connection, instance_id: int, *, by: str = "operator") -> Step:
    """Put a dead instance back before the step it died in, with fresh attempts.

    Args:
        connection: In a transaction.
        instance_id: Of an instance in state DEAD.
        by: Who asked for it.

    Returns:
        The step that is tried again.

    Raises:
        RecordNotFoundError: No such instance, or it has no open dead letter.
        UnknownStepError: It died in a step that this version does not have.
    """
    instance = instances.lock(connection, instance_id)
    steps = {
        step_named(letter.step)
        for letter in dead_letters.all_open(connection)
        if letter.instance_id == instance_id
    }
    if instance.state is not InstanceState.DEAD or not steps:
        raise RecordNotFoundError(
            f"{instance.sop_instance_uid} is {instance.state.value} and has no dead letter"
        )
    step = next((each for each in steps if each.subject is Subject.INSTANCE), DELIVER)
    instances.set_state(connection, instance_id, step.begins_in)
    subjects = deliveries.revive(connection, instance_id) if step is DELIVER else [instance_id]
    for subject_id in subjects:
        outbox.put(connection, step.task, step.queue, subject_id)
    dead_letters.resolve(connection, instance_id)
    ledger.append(
        connection,
        LedgerEvent.RETRIED,
        instance_id=instance_id,
        sop_instance_uid=instance.sop_instance_uid,
        detail={"step": step.task, "by": by},
    )
    outbox.nudge(connection)
    return step


def dead_instances(connection: Connection) -> list[int]:
    """Ids of the instances with an open dead letter, oldest letter first."""
    return list(dict.fromkeys(letter.instance_id for letter in dead_letters.all_open(connection)))
