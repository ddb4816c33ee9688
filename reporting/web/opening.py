"""Opening a patient: whose a photograph is, and for what it is looked at."""

from __future__ import annotations

from dataclasses import dataclass

from reporting.fhir.database import persons
from reporting.identifiers import own_patient_id
from reporting.outcomes.database import photographs
from reporting.web.database import sessions
from reporting.web.page import PageProblemError, PurposeNeededError, Visit
from service.database import instances
from service.database.pool import Connection
from service.records import Instance


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A photograph that may be looked at."""

    instance: Instance
    patient: str  # logical id of the person
    purpose: str


def photograph_of(connection: Connection, visit: Visit) -> Opened:
    """The photograph that a page's path names.

    Raises:
        PageProblemError: 404: there is none.
        PurposeNeededError: Its patient was not opened in this session.
    """
    instance = instances.by_uid(connection, visit.parameters["uid"])
    if instance is None:
        raise PageProblemError(404, "There is no such photograph.")
    patient = person_of(connection, instance)
    return Opened(instance=instance, patient=patient, purpose=purpose_of(connection, visit, patient))


def person_of(connection: Connection, instance: Instance) -> str:
    """Logical id of the person of a photograph, also of one that has no result yet."""
    noted = photographs.patient_of(connection, instance.instance_id)
    own = noted or own_patient_id(
        instance.issuer_of_patient_id, instance.patient_id, instance.study_instance_uid
    )
    return persons.persons_of(connection, [own])[own]


def purpose_of(connection: Connection, visit: Visit, patient: str) -> str:
    """For what a person was opened in this session.

    Raises:
        PurposeNeededError: They were not.
    """
    given = sessions.purpose(connection, visit.token_sha256, patient)
    if not given:
        raise PurposeNeededError(patient)
    return given
