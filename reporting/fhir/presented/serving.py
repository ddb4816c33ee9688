"""``GET Binary/[report id]``: a report as PDF, made of its current version and kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import structlog

from reporting.fhir.builders.conclusion import CAUTION, TITLE, in_order, sentences
from reporting.fhir.database import presented as fhir_presented
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database.records import StoredResource
from reporting.fhir.elements import URI_SYSTEM
from reporting.fhir.http import Api
from reporting.fhir.presented.pdf import Finding, Pages, render
from reporting.fhir.render import loads
from reporting.pictures import pictures_of
from service.database import appraisals
from service.database.pool import Connection, transaction
from service.errors import RecordNotFoundError, StorageError, StoredMapError
from service.pictures.native_map import read_map
from service.records import SavedAppraisal

log = structlog.get_logger(__name__)

_NO_PICTURE = "Its picture cannot be read any more."


def pdf_of(api: Api, report: StoredResource) -> bytes:
    """The PDF of a report's current version: as it was made before, or made now and kept.

    Args:
        api: Its store keeps it.
        report: A DiagnosticReport.
    """
    with transaction(api.pool) as connection:
        known = fhir_presented.sha256_of(connection, report.resource_id, report.version_id)
        pages = _pages(connection, api, report) if known is None else None
    if pages is None:
        return api.store.read(str(known))
    made = render(pages)
    if any(each.text.endswith(_NO_PICTURE) for each in pages.findings):
        return made  # not kept: it may be read another time
    sha256 = api.store.put(made).sha256
    with transaction(api.pool) as connection:
        fhir_presented.keep(connection, report.resource_id, report.version_id, sha256)
    return made


def _pages(connection: Connection, api: Api, report: StoredResource) -> Pages:
    resource = loads(report.body)
    names = [("Observation", str(each["reference"]).partition("/")[2]) for each in resource.get("result", [])]
    observations = [loads(each.body) for each in fhir_resources.read_many(connection, names)]
    findings = [_finding(connection, api, each) for each in in_order(observations)]
    return Pages(title=TITLE, facts=_facts(connection, report, resource), findings=findings, caution=CAUTION)


def _facts(
    connection: Connection, report: StoredResource, resource: Mapping[str, Any]
) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    stored = fhir_resources.read(connection, "Patient", report.patient) if report.patient else None
    patient: Mapping[str, Any] = loads(stored.body) if stored is not None else {}
    for name in patient.get("name", [])[:1]:
        given = " ".join([*name.get("given", []), name.get("family", "")]).strip()
        facts.append(("Patient", str(name.get("text") or given)))
    for identifier in patient.get("identifier", [])[:3]:
        assigner = identifier.get("assigner", {}).get("display")
        label = f"Patient ID ({assigner})" if assigner else "Patient ID"
        facts.append((label, str(identifier.get("value", ""))))
    if "birthDate" in patient:
        facts.append(("Born", str(patient["birthDate"])))
    if "effectiveDateTime" in resource:
        facts.append(("Study of", str(resource["effectiveDateTime"]).partition("T")[0]))
    facts.append(
        ("Report", f"{resource['status']}, version {report.version_id}, issued {resource['issued']}")
    )
    performers = [each.get("display", "") for each in resource.get("performer", [])]
    facts.append(("By", ", ".join(filter(None, performers)) or "Semblance"))
    return facts


def _finding(connection: Connection, api: Api, observation: Mapping[str, Any]) -> Finding:
    """What a result says, with its pictures; none of what was withdrawn or not judged."""
    text = " ".join(sentences(observation))
    saved = _appraisal(connection, observation)
    if saved is None or not saved.heatmap_sha256:
        return Finding(text=text)
    try:
        drawn = pictures_of(connection, api.store, saved)
        counterpart = _counterpart(api, saved)
    except (StoredMapError, StorageError) as exc:
        log.warning("report-without-picture", appraisal_id=str(saved.appraisal.appraisal_id), error=str(exc))
        return Finding(text=f"{text} {_NO_PICTURE}")  # what was said of it stays true
    assert drawn is not None  # noqa: S101 -- only of a rejected photograph
    return Finding(text=text, picture=drawn.picture, counterpart=counterpart)


def _counterpart(api: Api, saved: SavedAppraisal) -> bytes:
    """The normal counterpart, JPEG; b"" where the picture shows it already, or none was kept."""
    if api.settings.picture == "triptych" or not saved.difference_map_sha256:
        return b""
    return read_map(api.store.read(saved.difference_map_sha256)).counterpart


def _appraisal(connection: Connection, observation: Mapping[str, Any]) -> SavedAppraisal | None:
    if observation["status"] == "entered-in-error" or "valueQuantity" not in observation:
        return None
    for identifier in observation.get("identifier", []):
        if identifier.get("system") == URI_SYSTEM:
            name = str(identifier["value"]).removeprefix("urn:uuid:")
            try:
                return appraisals.get(connection, UUID(name))
            except RecordNotFoundError:
                return None
    return None
