"""What resources are found by, made anew from their texts."""

from __future__ import annotations

import structlog

from reporting.fhir.database import zone as fhir_zone
from reporting.fhir.database.layout import index as fhir_index
from reporting.fhir.database.records import StoredResource
from reporting.fhir.extract import index_of
from reporting.fhir.render import loads
from reporting.fhir.site import Site
from service.database.pool import Connection, Pool, transaction

_AT_ONCE = 500
_UTC_NAMES = ("UTC", "Etc/UTC", "Etc/UCT", "Etc/Universal", "Etc/Zulu", "Universal", "Zulu")
_log = structlog.get_logger(__name__)


def index_again(connection: Connection, stored: StoredResource, site: Site) -> None:
    """Lay out again what a current version is found by.

    Args:
        connection: In a transaction that holds the resource's row.
        stored: Its current version; stays in the compartment it is in.
        site: Of this server.
    """
    index = index_of(loads(stored.body), site=site, patient=stored.patient)
    fhir_index.replace_index(connection, stored.row_id, index)


def _name(site: Site) -> str:
    name = str(site.zone)
    return "UTC" if name in _UTC_NAMES else name


def lay_out_days(pool: Pool, site: Site) -> int:
    """Lay out the days of all resources by the site's zone, if they are by another.

    Returns:
        How many resources were laid out anew.
    """
    name = _name(site)
    with transaction(pool) as connection:
        if fhir_zone.current(connection) == name:
            return 0
    done, after = 0, 0
    while True:
        with transaction(pool) as connection:
            found = fhir_zone.with_days(connection, after, _AT_ONCE)
            for stored in found:
                index_again(connection, stored, site)
        if not found:
            break
        done, after = done + len(found), found[-1].row_id
    with transaction(pool) as connection:
        fhir_zone.current(connection)
        fhir_zone.change(connection, name)
    _log.info("fhir.days_laid_out", zone=name, resources=done)
    return done
