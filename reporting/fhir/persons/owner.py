"""Whose a photograph is, and which of its study's resources are that person's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reporting.fhir.builders.subject import Owner, identifier_system, patient_id
from reporting.fhir.database import persons as fhir_persons
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.persons.changing import follow
from reporting.fhir.persons.grouping import AUTHOR, Grouping
from reporting.fhir.search_table import RESOURCE_TYPES
from reporting.fhir.site import Site
from reporting.identifiers import fhir_id
from reporting.source import SourceIdentity
from service.database.pool import Connection


def owner_of(
    connection: Connection, identity: SourceIdentity, systems: Mapping[str, str], site: Site
) -> Owner:
    """Find whose a photograph is, by its own number.

    Args:
        connection: In a transaction that holds the lock of the photograph's study.
        identity: The photograph's.
        systems: ``Settings.fhir_identifier_systems``.
        site: Of this server.
    """
    own = patient_id(identity)
    if identity.patient_id:
        number = (identifier_system(identity, systems), identity.patient_id)
        if fhir_persons.number_of(connection, own) != number:
            fhir_persons.lock(connection)
            fhir_persons.put_number(connection, own, *number)
            changes = Grouping(connection=connection, site=site).regroup([own])
            follow(connection, changes, author=AUTHOR, site=site)
    patient = fhir_persons.person_of(connection, own)
    members = fhir_persons.members(connection, own)
    return Owner(
        patient=patient,
        members=members,
        study=_part(connection, "ImagingStudy", identity.study_instance_uid, patient, members),
        report=_part(connection, "DiagnosticReport", identity.study_instance_uid, patient, members),
        is_unknown=patient == own and fhir_resources.read(connection, "Patient", own) is None,
    )


def _part(
    connection: Connection, resource_type: str, study_instance_uid: str, patient: str, members: Sequence[str]
) -> str:
    """The person's own resource of a study: the one there is, or the id of a new one.

    The first person of a study has the id derived of the study alone, every other one's names the Patient
    as well.
    """
    number = RESOURCE_TYPES[resource_type].parameters["identifier"].number
    named = fhir_persons.studies_named(connection, study_instance_uid, resource_type, number)
    mine = [each for each, owner in named if owner in members]
    if mine:
        return mine[0]
    first = fhir_id(resource_type, study_instance_uid)
    return (
        first
        if all(each != first for each, _ in named)
        else fhir_id(resource_type, study_instance_uid, patient)
    )
