"""Taking a result back: it stays to be read as ``entered-in-error``, with who did it and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database.records import Saved, StoredResource
from reporting.fhir.database.searching import search as fhir_search
from reporting.fhir.describing import with_words
from reporting.fhir.elements import Element, coded, issued, reference
from reporting.fhir.http import FORM, Api, Request, Response, version_headers
from reporting.fhir.outcome import FhirProblemError, IssueType
from reporting.fhir.parameters import operation_pairs
from reporting.fhir.render import draft_of, loads
from reporting.fhir.search_table import RESOURCE_TYPES
from reporting.fhir.site import site_of
from reporting.fhir.subscriptions.rules import announce
from reporting.fhir.valid.validate import check
from reporting.identifiers import fhir_id
from service.config import Settings
from service.database import ledger, rejections
from service.database.pool import Connection, transaction
from service.errors import RecordNotFoundError
from service.records import LedgerEvent

ENTERED_IN_ERROR = "entered-in-error"
_MOST = 100
_PARTICIPANT = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
_DATA_OPERATION = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"


def withdraw(
    connection: Connection, observation_id: str, *, reason: str, who: str, settings: Settings
) -> list[Saved]:
    """Mark a result and its heatmaps ``entered-in-error``, and amend the report; earlier versions stay.

    Subscribers are told. What the archive holds is not touched: DICOM objects are rejected there.

    Args:
        connection: In a transaction, which the caller commits.
        observation_id: Logical id.
        reason: Why, in words; no patient data.
        who: Client or user who does it.
        settings: Uses the base URL.

    Returns:
        What was saved; nothing when it was withdrawn before.

    Raises:
        RecordNotFoundError: There is no such Observation.
    """
    _lock_study(connection, observation_id)
    stored = fhir_resources.read_for_update(connection, "Observation", observation_id)
    if stored is None:
        raise RecordNotFoundError(f"no Observation {observation_id}")
    rejections.forget(connection, observation_id)
    saved = withdraw_many(connection, [stored], reason=reason, who=who, settings=settings, with_reports=True)
    announce(connection, saved, settings)
    if saved:
        before = str(loads(stored.body)["status"])
        detail = {"observation": observation_id, "by": who, "reason": reason}
        detail |= {"before": before, "after": ENTERED_IN_ERROR}
        ledger.append(connection, LedgerEvent.RESULT_WITHDRAWN, sop_instance_uid="", detail=detail)
    return saved


def withdraw_many(
    connection: Connection,
    observations: Sequence[StoredResource],
    *,
    reason: str,
    who: str,
    settings: Settings,
    with_reports: bool = False,
) -> list[Saved]:
    """Mark results and their heatmaps ``entered-in-error``, with one Provenance for each patient.

    The caller holds the locks of their studies, and tells subscribers.

    Args:
        connection: In a transaction, which the caller commits.
        observations: As they are.
        reason: Why, in words; no patient data.
        who: Client or user who does it.
        settings: Uses the base URL.
        with_reports: Whether the reports that show them are amended, too.

    Returns:
        What was saved; nothing of those that were withdrawn before.
    """
    site = site_of(settings)
    by_patient: dict[str | None, list[StoredResource]] = {}
    for each in observations:
        if loads(each.body)["status"] != ENTERED_IN_ERROR:
            by_patient.setdefault(each.patient, []).append(each)
    saved: list[Saved] = []
    for patient, issued_ones in by_patient.items():
        changed = [
            {**loads(each.body), "status": ENTERED_IN_ERROR}
            for each in (*issued_ones, *_heatmaps(connection, issued_ones))
        ]
        if with_reports:
            changed += [
                with_words(connection, {**loads(each.body), "status": "amended"}, changed)
                for each in _reports(connection, issued_ones)
            ]
        drafts = [draft_of(each, site=site, patient=patient) for each in changed]
        done = fhir_resources.save(connection, drafts, author=who)
        provenance = _provenance([each.resource for each in done], reason, who)
        check(provenance)
        draft = draft_of(provenance, site=site, patient=patient)
        saved += done + fhir_resources.save(connection, [draft], author=who)
    return saved


def _lock_study(connection: Connection, observation_id: str) -> None:
    """Wait for reports of the same study that are being made, and keep others from beginning."""
    observation = fhir_resources.read(connection, "Observation", observation_id)
    for part in loads(observation.body).get("partOf", []) if observation else []:
        resource_type, _, resource_id = str(part.get("reference", "")).partition("/")
        study = fhir_resources.read(connection, resource_type, resource_id)
        for identifier in loads(study.body).get("identifier", []) if study else []:
            uid = str(identifier.get("value", "")).removeprefix("urn:oid:")
            fhir_resources.lock_name(connection, f"study {uid}")


def _referring(
    connection: Connection, stored: Sequence[StoredResource], resource_type: str, name: str
) -> list[StoredResource]:
    targets = [(each.resource_type, each.resource_id) for each in stored]
    number = RESOURCE_TYPES[resource_type].parameters[name].number
    return fhir_search.referring(connection, targets, resource_type, number, _MOST * len(targets))


def _heatmaps(connection: Connection, observations: Sequence[StoredResource]) -> list[StoredResource]:
    """Media that a Provenance names beside one of the Observations, and beside no other."""
    named = []
    for each in _referring(connection, observations, "Provenance", "target"):
        names = [str(target.get("reference", "")) for target in loads(each.body)["target"]]
        if sum(name.startswith("Observation/") for name in names) == 1:
            named += [("Media", name.partition("/")[2]) for name in names if name.startswith("Media/")]
    return fhir_resources.read_many(connection, named)


def _reports(connection: Connection, observations: Sequence[StoredResource]) -> list[StoredResource]:
    found = _referring(connection, observations, "DiagnosticReport", "result")
    locked = [fhir_resources.read_for_update(connection, r.resource_type, r.resource_id) for r in found]
    return [each for each in locked if each is not None]


def _provenance(saved: Sequence[StoredResource], reason: str, who: str) -> Element:
    now = next(each for each in saved if each.resource_type == "Observation")
    recorded = issued(now.last_updated)
    return {
        "resourceType": "Provenance",
        "id": fhir_id("Provenance", "withdrawal", now.resource_id, str(now.version_id)),
        "target": [reference(each.resource_type, each.resource_id) for each in saved],
        "occurredDateTime": recorded,
        "recorded": recorded,
        "reason": [{"text": reason}],
        "activity": coded(_DATA_OPERATION, "NULLIFY", "nullify"),
        "agent": [
            {"type": coded(_PARTICIPANT, "author", "Author"), "who": {"identifier": {"value": who}}},
        ],
    }


def withdraw_operation(api: Api, request: Request) -> Response:
    """``POST Observation/[id]/$withdraw`` with a ``reason``: answers with the Observation as it is now."""
    grant = request.principal.grant("Observation", "u")
    if grant.patients is not None or grant.alternatives:
        raise FhirProblemError(
            403, IssueType.FORBIDDEN, "no scope grants all of Observation", "http.authorization"
        )
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == FORM:  # which a page of anybody can send
        raise FhirProblemError(
            415, IssueType.NOT_SUPPORTED, "send a Parameters resource", "http.content-type"
        )
    options: dict[str, Any] = dict(operation_pairs(request))
    reason = str(options.get("reason", "")).strip()
    if not reason:
        raise FhirProblemError(400, IssueType.REQUIRED, "say the reason", "Parameters.parameter")
    observation_id = request.parameters["id"]
    with transaction(api.pool) as connection:
        try:
            client = request.principal.client_id
            withdraw(connection, observation_id, reason=reason, who=client, settings=api.settings)
        except RecordNotFoundError as exc:
            raise FhirProblemError(404, IssueType.NOT_FOUND, str(exc), "http.path") from exc
        now = fhir_resources.read(connection, "Observation", observation_id)
    assert now is not None  # noqa: S101 - withdrawn above
    return Response(
        body=now.body.encode(),
        headers=version_headers(now),
        touched=(f"Observation/{observation_id}",),
        patients=(now.patient,) if now.patient else (),
    )
