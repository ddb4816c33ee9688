"""The Observation of a change is saved, or taken back when the change no longer counts."""

from __future__ import annotations

from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.elements import Element
from reporting.fhir.render import draft_of
from reporting.fhir.results import AUTHOR
from reporting.fhir.site import site_of
from reporting.fhir.subscriptions.rules import announce
from reporting.fhir.valid.validate import check
from reporting.outcomes.database import cases, changes, queue
from reporting.outcomes.database.changes import StoredChange
from reporting.outcomes.observation import build_change
from reporting.outcomes.patients import persons_of
from service.config import Settings
from service.database.pool import Connection, transaction
from service.pipeline.celery_app import errand
from service.pipeline.context import Context
from service.steps import REPORT_CHANGE

_FINAL, _IN_ERROR = "final", "entered-in-error"


@errand(REPORT_CHANGE)
def report_change(context: Context, outcome_unpublished_id: int) -> None:
    """Bring the Observation of one change up to date.

    Args:
        context: Of the process.
        outcome_unpublished_id: Row that says so; gone when it was done before.

    Raises:
        FhirError: The Observation would be invalid.
    """
    with transaction(context.pool) as connection:
        wanted = queue.take_unpublished(connection, outcome_unpublished_id)
        if wanted is None:
            return
        stored = changes.stored(connection, wanted.change_id, wanted.case_id, wanted.window_name)
        if stored is not None:
            publish(connection, stored, context.settings)


def publish(connection: Connection, stored: StoredChange, settings: Settings) -> None:
    """Save the Observation of a change as it is now; nothing while a change never counted."""
    case = cases.get(connection, stored.case_id)
    if case is None:
        return
    (person,) = persons_of(connection, [case.patient])
    resource: Element = build_change(
        stored, case=case, patient=person.patient, organisation=settings.organisation
    )
    resource["status"] = _FINAL if stored.counts else _IN_ERROR
    there = fhir_resources.read(connection, "Observation", resource["id"])
    if there is None and not stored.counts:
        return
    check(resource)
    draft = draft_of(resource, site=site_of(settings), patient=person.patient)
    saved = fhir_resources.save(connection, [draft], author=AUTHOR)
    announce(connection, saved, settings)
