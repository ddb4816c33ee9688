"""A search as of a past moment: versions that were current then are looked at as they were then.

What a resource is found by is kept of its current version alone. Of the few that changed since, the version
of that moment is laid out in its place, searched, and taken back: nobody else sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from reporting.fhir.database import exports as fhir_exports
from reporting.fhir.database.layout import index as fhir_index
from reporting.fhir.database.records import Criterion, Search, StoredResource, TokenValue
from reporting.fhir.database.searching import search as fhir_search
from reporting.fhir.extract import index_of
from reporting.fhir.render import loads
from reporting.fhir.search_table import RESOURCE_TYPES
from reporting.fhir.site import Site
from service.database.pool import Connection


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Some of the matches, in the order of their rows."""

    versions: Sequence[StoredResource]  # as they were at the moment
    after: int | None  # row to go on after; None at the end


def search_as_of(connection: Connection, wanted: Search, site: Site, moment: datetime, after: int) -> Chunk:
    """Read the next matches of a search as of a moment.

    Args:
        connection: In a transaction of which no statement has run; it becomes REPEATABLE READ.
        wanted: Its order is that of rows; its count bounds the chunk.
        site: Of this server.
        moment: That all writes before are visible of.
        after: Row to begin after.

    Raises:
        TransactionConflictError: What is looked at changes meanwhile; to be run again.
    """
    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    cursor = (str(after),) if after else ()
    page = fhir_search.search(connection, replace(wanted, sort=(), in_row_order=True, after=cursor))
    last = page.resources[-1].row_id if page.after else None
    changed = fhir_exports.changed_since(
        connection, wanted.resource_type, moment, after=after, last=last, count=wanted.count
    )
    if len(changed) == wanted.count:
        last = changed[-1].row_id
    found = {
        stored.row_id: stored
        for stored in page.resources
        if stored.last_updated <= moment and (last is None or stored.row_id <= last)
    }
    found |= {version.row_id: version for version in _matching(connection, wanted, site, changed)}
    return Chunk(versions=[found[row_id] for row_id in sorted(found)], after=last)


def _matching(
    connection: Connection, wanted: Search, site: Site, changed: Sequence[StoredResource]
) -> list[StoredResource]:
    """Which of superseded versions match, each searched in the place of the current one."""
    if not changed:
        return []
    ids = tuple(TokenValue(system=None, code=version.resource_id) for version in changed)
    these = Criterion(parameter=RESOURCE_TYPES[wanted.resource_type].parameters["_id"], values=ids)
    with connection.transaction(force_rollback=True):
        for version in changed:
            index = index_of(loads(version.body), site=site, patient=version.patient)
            fhir_index.replace_index(connection, version.row_id, index)
            fhir_index.set_last_updated(connection, version.row_id, version.last_updated)
        found = fhir_search.search(
            connection,
            replace(
                wanted, criteria=(*wanted.criteria, these), in_row_order=True, after=(), count=len(changed)
            ),
        ).resources
    rows = {stored.row_id for stored in found}
    return [version for version in changed if version.row_id in rows]
