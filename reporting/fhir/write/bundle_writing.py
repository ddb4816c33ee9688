"""Writing the entries of a Bundle in one transaction, in an order of our own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

from reporting.fhir.database import persons as fhir_persons
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database.records import Saved, SaveOutcome, StoredResource
from reporting.fhir.http import Api, Request
from reporting.fhir.valid.validate import check
from reporting.fhir.write.bundle_entries import Entry, within
from reporting.fhir.write.bundle_references import BundleReferences, without_conditions
from reporting.fhir.write.writing import (
    Written,
    condition_at,
    lock_of,
    matches,
    must_be_new,
    must_exist,
    prepare,
    save,
)
from service.database.pool import Connection
from service.errors import FhirVersionConflictError


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Where a Bundle is written."""

    api: Api
    request: Request
    connection: Connection  # in the transaction


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What becomes of each entry, by its place."""

    existing: Mapping[int, StoredResource]  # found by ifNoneExist
    twins: Mapping[int, int]  # entry with the same ifNoneExist as an earlier one -> the earlier one
    ids: Mapping[int, str]


def run(desk: Desk, entries: Sequence[Entry]) -> list[Written]:
    """Process entries: first know every id, then the references between them, then write."""
    if any(entry.resource_type == "Patient" for entry in entries):
        fhir_persons.lock(desk.connection)  # before any row is
    for name in sorted(_locks(entries)):  # in one order, whatever that of the entries
        fhir_resources.lock_name(desk.connection, name)
    plan = _plan(desk, entries)
    new = [entry for entry in entries if entry.place not in plan.existing and entry.place not in plan.twins]
    resources = _resolved(desk, entries, new, plan)
    written = {place: _unchanged(stored) for place, stored in plan.existing.items()}
    targets = {(entry.resource_type, plan.ids[entry.place]) for entry in new}
    # by type, as rows are locked; patients are there before what is about them is looked at
    for resource_type in sorted({entry.resource_type for entry in new}):
        group = [entry for entry in new if entry.resource_type == resource_type]
        written |= _save_group(desk, group, resources, targets)
    for place, first in plan.twins.items():
        written[place] = _unchanged(written[first].saved.resource)
    return [written[entry.place] for entry in entries]


def _unchanged(stored: StoredResource) -> Written:
    return Written(saved=Saved(outcome=SaveOutcome.UNCHANGED, resource=stored))


def _locks(entries: Sequence[Entry]) -> set[str]:
    """Names of what the entries create if it is not there."""
    types = {lock_of(entry.resource_type) for entry in entries if entry.if_none_exist is not None}
    return types | {
        lock_of(entry.resource_type, entry.resource_id)
        for entry in entries
        if entry.if_none_match is not None
    }


def _plan(desk: Desk, entries: Sequence[Entry]) -> _Plan:
    existing: dict[int, StoredResource] = {}
    twins: dict[int, int] = {}
    ids: dict[int, str] = {}
    first: dict[tuple[object, ...], int] = {}
    for entry in entries:
        ids[entry.place] = entry.resource_id or str(uuid4())
        if entry.if_none_exist is None:
            continue
        with within(entry.place), condition_at("http.if-none-exist"):
            found = matches(desk.api, desk.request, desk.connection, entry.resource_type, entry.if_none_exist)
        pairs = parse_qsl(entry.if_none_exist.rpartition("?")[2], keep_blank_values=True)
        earlier = first.setdefault((entry.resource_type, *sorted(pairs)), entry.place)
        if found:
            existing[entry.place], ids[entry.place] = found[0], found[0].resource_id
        elif earlier != entry.place:
            twins[entry.place], ids[entry.place] = earlier, ids[earlier]
    return _Plan(existing=existing, twins=twins, ids=ids)


def _resolved(
    desk: Desk,
    entries: Sequence[Entry],
    new: Sequence[Entry],
    plan: _Plan,
) -> Mapping[int, dict[str, Any]]:
    """What is to be written, by place, its references to entries and by condition replaced."""

    def find(resource_type: str, query: str) -> list[StoredResource]:
        return matches(desk.api, desk.request, desk.connection, resource_type, query)

    references = BundleReferences(connection=desk.connection, site=desk.api.site, find=find)
    for entry in entries:
        if entry.full_url:
            references.known[entry.full_url] = f"{entry.resource_type}/{plan.ids[entry.place]}"
    resources: dict[int, dict[str, Any]] = {}
    for entry in new:
        with within(entry.place):
            whole = {**entry.resource, "id": plan.ids[entry.place]}
            resources[entry.place] = references.within(
                whole, entry.resource_type, entry.full_url, entry.place
            )
            check(without_conditions(resources[entry.place]))
    if not references.conditions:
        return resources
    return references.look_up(resources, desk.request.principal.client_id)


def _save_group(
    desk: Desk,
    group: Sequence[Entry],
    resources: Mapping[int, dict[str, Any]],
    targets: Collection[tuple[str, str]],
) -> dict[int, Written]:
    """Save the entries of one type at once."""
    prepared = []
    for entry in group:
        with within(entry.place):
            resource = resources[entry.place]
            if entry.if_none_match is not None:
                must_be_new(desk.connection, resource, entry.if_none_match)
            if entry.exists:
                must_exist(desk.connection, resource)
            access = "c" if entry.method == "POST" else "u"
            prepared.append(
                prepare(
                    desk.api,
                    desk.request,
                    desk.connection,
                    resource,
                    access=access,
                    version=entry.version,
                    planned=targets,
                )
            )
    try:
        saved = save(desk.api, desk.request, desk.connection, prepared)
    except FhirVersionConflictError as exc:
        places = {f"{e.resource_type}/{resources[e.place]['id']}": e.place for e in group}
        with within(places.get(exc.reference, group[0].place)):
            raise
    return {entry.place: done for entry, done in zip(group, saved, strict=True)}
