"""Results rated by the calibration in force: scores stay, what they were rated before stays beside them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from service.appraisal.model_files.models import ModelStore
from service.appraisal.rerating import Rater, rated, rater_of
from service.config import Settings
from service.database import appraisals, instances, ledger, outbox, reratings
from service.database.pool import Connection, transaction
from service.pipeline.celery_app import errand
from service.pipeline.context import Context
from service.records import Appraisal, LedgerEvent
from service.steps import REPORT_AGAIN, RERATE


@cache
def _rater(method: str, model_dir: Path | None) -> Rater:
    return rater_of(method, ModelStore(model_dir))


def put_in_force(context: Context) -> None:
    """Have results by earlier calibrations than this process rates by rated anew, by and by.

    Args:
        context: Of a process that appraises photographs.

    Raises:
        ConfigurationError: The method's calibration is missing or malformed.
        ModelError: A model file that its identity needs is not in the manifest.
    """
    rater = _in_force(context.settings)
    if rater.calibration is not None:
        with transaction(context.pool) as connection:
            reratings.put_in_force(connection, rater.method)


@errand(RERATE)
def rerate(context: Context, instance_id: int) -> None:
    """Rate the results of a photograph by the calibration of this process, and have them reported.

    Rating is one transaction with its line of the ledger and the message that has the Observation amended.
    Run again after that, it asks for the report alone, until that is saved.

    Args:
        context: Of the process.
        instance_id: Of the photograph.

    Raises:
        RecordNotFoundError: No such instance.
        DatabaseUnavailableError: It is asked for again.
    """
    rater, most = _in_force(context.settings), context.settings.step_max_attempts
    calibration = rater.method.calibration
    with transaction(context.pool) as connection:
        instances.lock(connection, instance_id)
        found = [
            appraisals.get(connection, appraisal_id).appraisal
            for appraisal_id in reratings.waiting(connection, instance_id, calibration)
        ]
        due = [
            before
            for before in found
            if before.method.phase == rater.method.phase  # what another worker's method made is left to it
            and reratings.count_attempt(connection, before.appraisal_id, calibration, most)
        ]
        for before in due:
            if before.method.calibration != calibration:
                _rate(connection, instance_id, before, rated(before, rater))
        if due:
            outbox.put(connection, REPORT_AGAIN.task, REPORT_AGAIN.queue, instance_id)
            outbox.nudge(connection)


def _in_force(settings: Settings) -> Rater:
    return _rater(settings.method, settings.model_dir)


def _rate(connection: Connection, instance_id: int, before: Appraisal, now: Appraisal) -> None:
    reratings.rate(connection, now, before)
    ledger.append(
        connection,
        LedgerEvent.RERATED,
        instance_id=instance_id,
        sop_instance_uid=before.sop_instance_uid,
        detail={
            "appraisal": str(before.appraisal_id),
            "method": before.method.name,
            "calibration": now.method.calibration,
            "former_calibration": before.method.calibration,
            "rating": _number(now.rating),
            "former_rating": _number(before.rating),
            "percentile": _number(now.percentile),
            "former_percentile": _number(before.percentile),
        },
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
