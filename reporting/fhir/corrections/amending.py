"""What was issued before is put right: results are amended, and leave where they do not belong."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reporting.dicom.context import ReportContext
from reporting.fhir.builders.imaging import media_id, without_instances
from reporting.fhir.builders.report import without_results
from reporting.fhir.builders.subject import Owner
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database.records import Criterion, Search, StoredResource, TokenValue
from reporting.fhir.database.searching import search as fhir_search
from reporting.fhir.elements import Element
from reporting.fhir.render import content_digest, loads
from reporting.fhir.search_table import RESOURCE_TYPES
from reporting.fhir.write.withdrawal import ENTERED_IN_ERROR
from reporting.identifiers import ResultKind, result_uid
from service.database.pool import Connection

_MOST = 100


@dataclass(frozen=True, kw_only=True)
class Amended:
    """A resource of before that is another now."""

    resource: Element
    patient: str | None  # logical id of the Patient whose it is


def amended_observation(
    current: Mapping[str, Any] | None, new: Element, *, is_released: bool = False
) -> Element:
    """The Observation to save: ``amended`` where it says anything else than what was issued.

    Args:
        current: As it was issued; None when it was not.
        new: As it is made now.
        is_released: Whether it comes again after the note that took it back was lifted.
    """
    if is_released:
        return {**new, "status": "amended"}
    if current is None or current["status"] == ENTERED_IN_ERROR:
        return new
    as_it_was = {**new, "status": current["status"]}
    if content_digest(as_it_was) == content_digest(current):
        return as_it_was
    return {**new, "status": "amended"}


def stale_uids(context: ReportContext) -> frozenset[str]:
    """SOP Instance UIDs of results that were made of earlier versions of the photograph."""
    appraisal_id = context.saved.appraisal.appraisal_id
    return frozenset(
        result_uid(appraisal_id, kind, version)
        for kind in ResultKind
        for version in range(1, context.version)
    )


def put_right(
    connection: Connection, context: ReportContext, observation: Element, owner: Owner
) -> list[Amended]:
    """Reports, studies and heatmaps of before, without what is no more part of them.

    Args:
        connection: In a transaction that holds the lock of the photograph's study.
        context: The photograph and its appraisal.
        observation: The appraisal's, as it is to be saved.
        owner: Whose it is now.
    """
    stale = stale_uids(context)
    heatmaps = [("Media", media_id(uid)) for uid in stale]
    made = [
        Amended(resource={**loads(each.body), "status": ENTERED_IN_ERROR}, patient=each.patient)
        for each in fhir_resources.read_many(connection, heatmaps)
    ]
    current = result_uid(context.saved.appraisal.appraisal_id, ResultKind.SECONDARY_CAPTURE, context.version)
    others = {f"Media/{name}" for _, name in heatmaps}
    name = f"Observation/{observation['id']}"
    for each in reports_with(connection, [str(observation["id"])]):
        is_own = each.resource_id == owner.report
        gone = others if is_own else others | {f"Media/{media_id(current)}"}
        made += changed(each, without_results(loads(each.body), () if is_own else (name,), gone))
    uids = {context.source.identity.sop_instance_uid, *stale, *_results(context)}
    for each in studies_with(connection, [context.source.identity.sop_instance_uid, *stale]):
        gone_uids: Collection[str] = stale if each.resource_id == owner.study else uids
        made += changed(each, without_instances(loads(each.body), gone_uids))
    return made


def _results(context: ReportContext) -> set[str]:
    appraisal_id = context.saved.appraisal.appraisal_id
    return {result_uid(appraisal_id, kind, context.version) for kind in ResultKind}


def changed(stored: StoredResource, resource: Element) -> list[Amended]:
    """A resource of before as it is now; nothing where it says the same."""
    before = loads(stored.body)
    parts = ("result", "media", "series")
    if all(before.get(part) == resource.get(part) for part in parts):
        return []
    return [Amended(resource=resource, patient=stored.patient)]


def reports_with(connection: Connection, observation_ids: Sequence[str]) -> list[StoredResource]:
    """DiagnosticReports that show one of these Observations, locked."""
    if not observation_ids:
        return []
    number = RESOURCE_TYPES["DiagnosticReport"].parameters["result"].number
    targets = [("Observation", each) for each in observation_ids]
    return _locked(connection, fhir_search.referring(connection, targets, "DiagnosticReport", number, _MOST))


def studies_with(connection: Connection, sop_instance_uids: Sequence[str]) -> list[StoredResource]:
    """ImagingStudies that list one of these instances, locked."""
    values = tuple(TokenValue(system=None, code=uid) for uid in sop_instance_uids)
    wanted = Criterion(parameter=RESOURCE_TYPES["ImagingStudy"].parameters["instance"], values=values)
    search = Search(resource_type="ImagingStudy", criteria=(wanted,), count=_MOST)
    return _locked(connection, fhir_search.search(connection, search).resources)


def _locked(connection: Connection, found: Sequence[StoredResource]) -> list[StoredResource]:
    names = sorted((each.resource_type, each.resource_id) for each in found)
    locked = [fhir_resources.read_for_update(connection, *name) for name in names]
    return [each for each in locked if each is not None]
