"""A patient's token opens what is of the person, whichever of the person's Patients it names."""

from __future__ import annotations

from dataclasses import replace

from reporting.fhir.access import Principal
from reporting.fhir.database import persons as fhir_persons
from service.database.pool import Pool, transaction


def known_person(pool: Pool, principal: Principal) -> Principal:
    """The principal with every Patient of its patient's person; unchanged without a patient context.

    Raises:
        DatabaseUnavailableError: PostgreSQL cannot be reached.
    """
    if principal.patient is None:
        return principal
    with transaction(pool) as connection:
        return replace(principal, patients=fhir_persons.members(connection, principal.patient))
