"""Patient of a photograph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reporting.fhir.elements import V2_0203, Element, coded, without_empty
from reporting.identifiers import issuer_key, named_uid, own_patient_id
from reporting.source import PersonNameParts, SourceIdentity

_GENDERS = {"M": "male", "F": "female", "O": "other"}
_REPRESENTATIONS = {"alphabetic": "ABC", "ideographic": "IDE", "phonetic": "SYL"}
_REPRESENTATION_EXTENSION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Where a photograph's results belong."""

    patient: str  # logical id of the Patient that stands for its person
    members: tuple[str, ...]  # every Patient of the person
    study: str  # logical id of the person's ImagingStudy of the photograph's study
    report: str  # logical id of the person's DiagnosticReport of it
    is_unknown: bool  # there is no such Patient yet: one is made of the photograph


def identifier_system(identity: SourceIdentity, systems: Mapping[str, str]) -> str:
    """URI of who issued the patient ID; "" when the photograph does not say.

    Args:
        identity: The photograph's.
        systems: ``Settings.fhir_identifier_systems``: URI by (0010,0021), which win.
    """
    return system_of(
        identity.issuer_of_patient_id,
        identity.issuer_universal_id,
        identity.issuer_universal_id_type,
        systems,
    )


def system_of(issuer: str, universal_id: str, universal_id_type: str, systems: Mapping[str, str]) -> str:
    """URI of an issuer of patient numbers, as DICOM and HL7 version 2 name it; "" when nobody does.

    Args:
        issuer: Issuer of Patient ID, or namespace ID of an assigning authority.
        universal_id: Of the same; "" without one.
        universal_id_type: ISO, UUID, URI or another.
        systems: ``Settings.fhir_identifier_systems``: URI by issuer, which win.
    """
    key = issuer_key(issuer, universal_id, universal_id_type)
    if issuer in systems and (issuer or not key):  # "" is for numbers of which nobody says who issued them
        return systems[issuer]
    prefix = {"ISO": "urn:oid:", "UUID": "urn:uuid:", "URI": ""}.get(universal_id_type.upper())
    if universal_id and prefix is not None:
        return prefix + universal_id
    return f"urn:oid:{named_uid('issuer-of-patient-id', key)}" if key else ""


def patient_id(identity: SourceIdentity) -> str:
    """Logical id; a photograph without a patient ID has a Patient of its study's own."""
    return own_patient_id(identity.issuer, identity.patient_id, identity.study_instance_uid)


def build_patient(identity: SourceIdentity, systems: Mapping[str, str]) -> Element:
    """Make the Patient.

    Args:
        identity: The photograph's.
        systems: URI of identifier systems by issuer.
    """
    identifier = without_empty(
        {
            "use": "usual",
            "type": coded(V2_0203, "MR", "Medical record number"),
            "system": identifier_system(identity, systems),
            "value": identity.patient_id,
            "assigner": {"display": identity.issuer_of_patient_id} if identity.issuer_of_patient_id else None,
        }
    )
    return without_empty(
        {
            "resourceType": "Patient",
            "id": patient_id(identity),
            "identifier": [identifier] if identity.patient_id else None,
            "name": [_name(name) for name in identity.patient_names],
            "gender": _GENDERS.get(identity.patient_sex),
            "birthDate": identity.patient_birth_date.isoformat() if identity.patient_birth_date else None,
        }
    )


def _name(name: PersonNameParts) -> Element:
    representation = _REPRESENTATIONS[name.representation]
    parts = (name.prefix, name.given, name.middle, name.family, name.suffix)
    return without_empty(
        {
            "extension": None
            if representation == "ABC"
            else [{"url": _REPRESENTATION_EXTENSION, "valueCode": representation}],
            "text": " ".join(part for part in parts if part),
            "family": name.family,
            "given": [part for part in (name.given, name.middle) if part],
            "prefix": [name.prefix] if name.prefix else None,
            "suffix": [name.suffix] if name.suffix else None,
        }
    )
