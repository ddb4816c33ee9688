"""The product on this machine: method and licences, destinations, the audit trail's anchor."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import httpx

from dicom_node.delivery.scu import verify
from service.audit.anchoring.making import anchor_of, latest
from service.commands.doctor.findings import Finding, fail, ok, warn
from service.config import Settings
from service.peers import Destination

_RESEARCH = "research"  # line of a model that is not for commercial use


def method(settings: Settings) -> Iterator[Finding]:
    """The method's model files are there, whole, and licensed for what a hospital does."""
    from service.appraisal.model_files.models import ModelState, ModelStore
    from service.appraisal.registry import find_method
    from service.appraisal.site import at_site, models_of

    models = ModelStore(settings.model_dir)
    row = at_site(find_method(settings.method), models)
    yield ok("method", f"{row.name} {row.version}, calibration {row.calibration or 'none'}")
    if row.caution:
        yield warn("method", row.caution, "read docs/method.md before you rely on it")
    wanted = set(models_of(row))
    for status in models.status():
        if status.entry.id not in wanted:
            continue
        subject = f"model {status.entry.id}"
        if status.state is not ModelState.PRESENT:
            yield fail(subject, status.state.value, "`semblance models verify`, then `semblance models pull`")
        elif status.entry.line == _RESEARCH:
            text = f"for research only ({status.entry.licence})"
            yield warn(subject, text, "docs/intended-use.md says what that means for a hospital")
        else:
            yield ok(subject, f"{status.entry.line}, {status.entry.licence}")


def destinations(settings: Settings) -> Iterator[Finding]:
    """Each destination answers: by C-ECHO, or by HTTP."""
    for each in settings.destinations:
        yield from _destination(each, settings)
    if not settings.destinations:
        yield warn("destinations", "none", "results stay here; set destinations to send them to the PACS")


def _destination(destination: Destination, settings: Settings) -> Iterator[Finding]:
    subject = f"destination {destination.name}"
    if destination.kind == "dicom":
        verify(destination, settings)
        yield ok(subject, f"{destination.ae_title} at {destination.host}:{destination.port} answers C-ECHO")
        return
    try:
        answer = httpx.get(
            f"{destination.url.rstrip('/')}/studies?limit=1", timeout=settings.delivery_timeout_s
        )
    except httpx.HTTPError as exc:
        yield fail(
            subject, f"{destination.url}: {type(exc).__name__}", "is the server up, and the URL right?"
        )
        return
    if answer.status_code >= 500:  # a refusal without the token shows that it is there
        yield warn(subject, f"{destination.url} answers {answer.status_code}", "look at that server's log")
    else:
        yield ok(subject, f"{destination.url} answers")


def audit(settings: Settings) -> Iterator[Finding]:
    """Whether the chain is anchored outside the database, and how long ago."""
    anchor = anchor_of(settings)
    if anchor is None:
        advice = "docs/audit.md says how the chain is signed and kept outside the database"
        yield warn("audit chain", "not anchored: the database's owner could make it anew", advice)
        return
    for place in anchor.places:
        last = latest(place)
        if last is None:
            yield warn("audit chain", f"no checkpoint in {place.name} yet", "does the relay run?")
        else:
            age = datetime.now(UTC) - last.at
            yield ok("audit chain", f"{last.size} entries signed in {place.name}, {age.days} days ago")


def access(settings: Settings) -> Iterator[Finding]:
    """Who may send, and who may read."""
    if settings.dicom_allowed_calling_ae_titles or settings.dicom_admitted_peers:
        yield ok("senders", "only those that the settings name")
    else:
        yield warn(
            "senders", "any AE title may send", "set dicom_allowed_calling_ae_titles or dicom_admitted_peers"
        )
    if settings.fhir_auth_file is None:
        yield warn("readers", "the API is open on this machine, and closed to others", "set fhir_auth_file")
    else:
        yield ok("readers", f"those of {settings.fhir_auth_file}")
