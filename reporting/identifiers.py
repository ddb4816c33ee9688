"""Identifiers of everything we make, derived and never drawn at random.

A re-run of a step makes the same identifiers, so that a result can neither be doubled nor change
its name. UIDs are UUID-derived (DICOM PS3.5 section B.2, ``2.25.``), which needs no registered root.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from uuid import UUID, uuid5

UUID_DERIVED_ROOT = "2.25"  # PS3.5 section B.2; ITU-T X.667
NAMESPACE = UUID("ff4fb2ea-c9a1-40f2-9e68-3a7a4b375972")  # drawn once for Semblance


class ResultKind(StrEnum):
    """What is made of one appraisal."""

    SECONDARY_CAPTURE = "secondary-capture"
    SECONDARY_CAPTURE_LOSSLESS = "secondary-capture-lossless"  # for destinations that want it so
    STRUCTURED_REPORT = "structured-report"
    PARAMETRIC_MAP = "parametric-map"
    DIMENSION_ORGANIZATION = "dimension-organization"  # of the parametric map


def uid_of(uuid: UUID) -> str:
    """Derive the UID of a UUID: ``2.25.`` and its decimal value, at most 44 characters."""
    return f"{UUID_DERIVED_ROOT}.{uuid.int}"


def _derived(*parts: str) -> UUID:
    """UUIDv5 of parts, unambiguous whatever characters they hold."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return uuid5(NAMESPACE, digest.hexdigest())


def named_uid(*parts: str) -> str:
    """Derive the UID of a fixed thing of ours (a coding scheme, a device) from its name."""
    return uid_of(_derived("uid", *parts))


def result_uid(appraisal_id: UUID, kind: ResultKind, version: int = 1) -> str:
    """UID of a result object.

    Args:
        appraisal_id: The appraisal the object reports.
        kind: Which of its objects.
        version: Of the photograph: a corrected header gives objects of their own.
    """
    later = (str(version),) if version > 1 else ()
    return uid_of(_derived("result", str(appraisal_id), kind, *later))


def series_uid(study_instance_uid: str, source_series_uid: str, device_uid: str, kind: ResultKind) -> str:
    """UID of the series that holds the results of one kind, by one device, of one series of photographs."""
    return uid_of(_derived("series", study_instance_uid, source_series_uid, device_uid, kind))


def frame_of_reference_uid(sop_instance_uid: str) -> str:
    """UID of the frame of reference whose plane is the photograph of that SOP Instance UID."""
    return uid_of(_derived("frame-of-reference", sop_instance_uid))


def tracking_uid(issuer_of_patient_id: str, patient_id: str, study_instance_uid: str, site: str) -> str:
    """UID that names the same site of the same patient in every photograph (TID 4108).

    Args:
        issuer_of_patient_id: Issuer of the patient ID, "" when unknown.
        patient_id: "" when the photograph has none; then the study stands for the patient.
        study_instance_uid: Of the photograph.
        site: What is tracked, a ``Region`` value.
    """
    patient = ("patient", issuer_of_patient_id, patient_id) if patient_id else ("study", study_instance_uid)
    return uid_of(_derived("tracking", *patient, site))


def fhir_id(resource_type: str, *parts: str) -> str:
    """Logical id of a FHIR resource (R4: 1 to 64 of ``[A-Za-z0-9-.]``), derived from what it is about.

    Args:
        resource_type: For example ``Observation``.
        parts: What makes it one of its kind, in a fixed order.
    """
    return str(_derived("fhir", resource_type, *parts))


def change_id(before: UUID, after: UUID) -> UUID:
    """Id of the change between two appraisals, UUIDv5 of both."""
    return _derived("change", str(before), str(after))


def case_id(source: str, *parts: str) -> UUID:
    """Id of an operation, derived from what names it in its source."""
    return _derived("procedure-case", source, *parts)


def conflict_id(case: UUID, kind: str, window: str, instance_ids: tuple[int, ...]) -> UUID:
    """Id of a conflict about a case's photographs."""
    return _derived("conflict", str(case), kind, window, *map(str, sorted(instance_ids)))


def signal_id(*parts: str) -> UUID:
    """Id of a signal, derived from its chart, rule, point and evidence."""
    return _derived("signal", *parts)


def issuer_key(issuer: str, universal_id: str, universal_id_type: str) -> str:
    """Who issued a patient number, in one text; "" when nobody is said.

    Args:
        issuer: Issuer of Patient ID (0010,0021), or the namespace ID of an assigning authority; it counts
            where it is there.
        universal_id: Universal Entity ID (0040,0032), or the universal ID of the authority.
        universal_id_type: Of that one (0040,0033): ISO, UUID, DNS and others.
    """
    if issuer or not universal_id:
        return issuer
    return f"{universal_id_type.upper()}:{universal_id}"


def own_patient_id(issuer_of_patient_id: str, patient_id: str, study_instance_uid: str) -> str:
    """Logical id of the Patient of a photograph's own number; without a number it is its study's own.

    Args:
        issuer_of_patient_id: As ``issuer_key`` has it; "" when the photograph does not say.
        patient_id: "" when the photograph has none.
        study_instance_uid: Of the photograph.
    """
    if patient_id:
        return fhir_id("Patient", issuer_of_patient_id, patient_id)
    return fhir_id("Patient", "study", study_instance_uid)


IMPLEMENTATION_CLASS_UID = named_uid("implementation", "semblance")  # (0002,0012)


def observation_id_of(appraisal_id: str) -> str:
    """Logical id of the Observation of an appraisal."""
    return fhir_id("Observation", appraisal_id)
