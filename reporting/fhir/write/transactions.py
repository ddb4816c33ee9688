"""Transaction and batch Bundles: all or nothing, or each entry for itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reporting.fhir.database.records import SaveOutcome
from reporting.fhir.http import Api, Request, Response
from reporting.fhir.outcome import FhirProblemError, IssueType, operation_outcome, refusal_of
from reporting.fhir.render import dumps, loads
from reporting.fhir.write.bundle_entries import Entry, check_distinct, entry_of
from reporting.fhir.write.bundle_writing import Desk, run
from reporting.fhir.write.writing import Written
from service.database.pool import Connection, in_transaction


def transaction_bundle(api: Api, request: Request) -> Response:
    """``POST [base]``: a transaction, all or nothing, or a batch, each for itself."""
    whole = request.resource()
    kind = whole.get("type")
    if whole.get("resourceType") != "Bundle" or kind not in ("transaction", "batch"):
        raise FhirProblemError(
            400, IssueType.INVALID, "the body is no Bundle of type transaction or batch", "Bundle.type"
        )
    given = whole.get("entry", [])
    if not isinstance(given, list):
        raise FhirProblemError(400, IssueType.STRUCTURE, "entry is an array", "Bundle.entry")
    if kind == "batch":
        return _batch(api, request, given)
    entries = [entry_of(api, request, place, entry) for place, entry in enumerate(given)]
    check_distinct(entries)
    done = _written(api, request, entries)
    return _bundle_answer(api, "transaction-response", [_entry_answer(api, request, w) for w in done], done)


def _batch(api: Api, request: Request, given: list[Any]) -> Response:
    """Process each entry for itself: whatever becomes of one, the others are done and answered."""
    answers: list[dict[str, Any]] = []
    done: list[Written] = []
    for place, each in enumerate(given):
        try:
            written = _written(api, request, [entry_of(api, request, place, each)])[0]
        except Exception as exc:  # noqa: BLE001 - as at the border of a request: the rest is not lost with it
            refused = refusal_of(exc, f"entry {place} of a batch")
            outcome = operation_outcome(refused.issues)
            answers.append({"response": {"status": str(refused.status), "outcome": outcome}})
        else:
            done.append(written)
            answers.append(_entry_answer(api, request, written))
    return _bundle_answer(api, "batch-response", answers, done)


def _written(api: Api, request: Request, entries: Sequence[Entry]) -> list[Written]:
    def work(connection: Connection) -> list[Written]:
        return run(Desk(api=api, request=request, connection=connection), entries)

    return in_transaction(api.pool, work)


def _bundle_answer(
    api: Api, kind: str, answers: list[dict[str, Any]], written: Sequence[Written]
) -> Response:
    saved = [each.saved for each in written]
    made: dict[str, Any] = {"resourceType": "Bundle", "type": kind}
    if answers:
        made["entry"] = answers
    return Response(
        body=dumps(made).encode(),
        touched=tuple(f"{s.resource.resource_type}/{s.resource.resource_id}" for s in saved),
        patients=tuple({s.resource.patient for s in saved if s.resource.patient}),
    )


def _entry_answer(api: Api, request: Request, written: Written) -> dict[str, Any]:
    saved, stored = written.saved, written.saved.resource
    path = f"{stored.resource_type}/{stored.resource_id}"
    whole = {"resource": loads(stored.body)} if request.prefers("return") == "representation" else {}
    return {
        "fullUrl": f"{api.base_url}/{path}",
        **whole,
        "response": {
            "status": "201 Created" if saved.outcome is SaveOutcome.CREATED else "200 OK",
            "location": f"{api.base_url}/{path}/_history/{stored.version_id}",
            "etag": f'W/"{stored.version_id}"',
            "lastModified": stored.last_updated.isoformat(timespec="milliseconds"),
            **({"outcome": operation_outcome(written.notes)} if written.notes else {}),
        },
    }
