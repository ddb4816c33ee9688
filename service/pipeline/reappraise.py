"""Older photographs appraised by the method in force; what was found before stays beside it."""

from __future__ import annotations

from service.database import instances, outbox, reappraisals
from service.database.pool import transaction
from service.errors import ModelError, SemblanceError
from service.pipeline.appraise import appraised_by_method, keep_map, save_drawn
from service.pipeline.celery_app import errand
from service.pipeline.context import Context
from service.records import InstanceState
from service.steps import REAPPRAISE, REPORT_AGAIN


@errand(REAPPRAISE)
def reappraise(context: Context, instance_id: int) -> None:
    """Appraise a photograph again, for every method it waits for; only that in force can be served.

    Args:
        context: Of the process.
        instance_id: Of a photograph that was appraised before.

    Raises:
        RecordNotFoundError: No such instance.
        DatabaseUnavailableError: It is asked for again.
    """
    with transaction(context.pool) as connection:
        instance = instances.get(connection, instance_id)
        wanted = reappraisals.open_phases(connection, instance_id)
    if not wanted:
        return
    if instance.state is InstanceState.WITHDRAWN:
        with transaction(context.pool) as connection:
            for phase in wanted:
                reappraisals.mark_failed(connection, instance_id, phase, "taken back", 1)
        return
    most = context.settings.step_max_attempts
    try:
        content = context.store.read(instance.sha256)
        made = appraised_by_method(context, content, instance.sop_instance_uid)
        difference_map = keep_map(context.store, made.outcome)
    except ModelError:
        raise  # of this worker, not of the photograph: it is asked for again
    except SemblanceError as exc:
        with transaction(context.pool) as connection:
            for phase in wanted:
                reappraisals.mark_failed(connection, instance_id, phase, type(exc).__name__, most)
        return
    phase = made.outcome.appraisal.method.phase
    with transaction(context.pool) as connection:
        instances.lock(connection, instance_id)
        save_drawn(connection, instance_id, made, difference_map)
        for each in wanted:
            if each == phase:
                reappraisals.mark_done(connection, instance_id, each)
            else:
                reappraisals.mark_failed(connection, instance_id, each, "the method in force is another", 1)
        outbox.put(connection, REPORT_AGAIN.task, REPORT_AGAIN.queue, instance_id)
        outbox.nudge(connection)
