"""The reporting step: an appraisal in, result objects and resources kept, deliveries due."""

from __future__ import annotations

from dataclasses import dataclass

from reporting.dicom.context import ReportContext, ResultObject
from reporting.dicom.results import build_results
from reporting.source import default_zone, read_source
from service.celery_app import task
from service.context import Context
from service.database import appraisals, deliveries, instances
from service.database.pool import Connection, transaction
from service.errors import ResultError
from service.pipeline import reported
from service.records import SavedAppraisal
from service.steps import REPORT


@dataclass(frozen=True, kw_only=True)
class KeptResult:
    """A result object in the store."""

    saved: SavedAppraisal
    result: ResultObject
    sha256: str


@task(REPORT)
def report(context: Context, instance_id: int) -> None:
    """Report one instance: every appraisal of it that is not reported yet, and again those that are.

    Identifiers and bytes are derived, so what was reported before is made again and changes nothing.

    Args:
        context: Of the process.
        instance_id: Of an instance in state APPRAISED.

    Raises:
        RecordNotFoundError: No such instance.
        ResultError: It has no appraisal, or a result object would be invalid.
        StorageError: Photograph or maps are gone or corrupt, or results cannot be kept.
    """
    with transaction(context.pool) as connection:
        instance = instances.get(connection, instance_id)
        saved_appraisals = appraisals.for_instance(connection, instance_id)
    if not saved_appraisals:
        raise ResultError(f"instance {instance_id} has no appraisal to report")
    source = read_source(context.store.read(instance.sha256), default_zone(context.settings.timezone))
    kept = [
        KeptResult(saved=saved, result=result, sha256=context.store.put(result.data).sha256)
        for saved in saved_appraisals
        for result in build_results(
            ReportContext(source=source, saved=saved, organisation=context.settings.organisation),
            context.settings,
            context.store,
        )
    ]
    with transaction(context.pool) as connection:
        due = _add_deliveries(connection, context, instance_id, kept)
        reported(connection, instance_id, due, _detail(kept))


def _add_deliveries(
    connection: Connection, context: Context, instance_id: int, kept: list[KeptResult]
) -> list[int]:
    """Make every result due at every destination; returns the new deliveries' ids."""
    added = [
        deliveries.add(
            connection,
            instance_id=instance_id,
            appraisal_id=each.saved.appraisal.appraisal_id,
            destination=destination.name,
            sop_class_uid=each.result.sop_class_uid,
            sop_instance_uid=each.result.sop_instance_uid,
            sha256=each.sha256,
        )
        for each in kept
        for destination in context.settings.destinations
    ]
    return [delivery_id for delivery_id in added if delivery_id is not None]


def _detail(kept: list[KeptResult]) -> dict[str, str]:
    return {each.result.kind.value: each.result.sop_instance_uid for each in kept}
