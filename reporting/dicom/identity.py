"""Patient and study, as the sender wrote them: byte for byte, in the sender's character set."""

from __future__ import annotations

from copy import deepcopy

import structlog
from pydicom import Dataset
from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.valuerep import VR

from reporting.dicom.context import ReportContext
from reporting.source import encodings, text
from service.dicom.part10 import READ_ERRORS
from service.dicom.writing import keep_malformed_as_bytes

_UTF_8 = "ISO_IR 192"
_ASCII_ONLY = {"", "ISO_IR 6", "ISO 2022 IR 6"}
_log = structlog.get_logger(__name__)

# Patient, Clinical Trial Subject, General Study, Patient Study and Clinical Trial Study modules
# (PS3.3 sections C.7.1.1, C.7.1.3, C.7.2.1, C.7.2.2, C.7.2.3), and what of SOP Common gives them meaning.
COPIED = (
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",
    "PatientName",
    "PatientID",
    "TypeOfPatientID",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientSex",
    "OtherPatientIDs",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "EthnicGroup",
    "PatientComments",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "ReferencedPatientSequence",
    "QualityControlSubject",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianName",
    "ReferringPhysicianIdentificationSequence",
    "PhysiciansOfRecord",
    "ConsultingPhysicianName",
    "ProcedureCodeSequence",
    "ReferencedStudySequence",
    "ReasonForPerformedProcedureCodeSequence",
    "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientSexNeutered",
    "Occupation",
    "AdditionalPatientHistory",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
    "ServiceEpisodeID",
    "IssuerOfServiceEpisodeIDSequence",
    "ServiceEpisodeDescription",
    "PatientState",
)
# Type 2: present even where the photograph leaves them out.
TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)


def copied(context: ReportContext) -> list[DataElement | RawDataElement]:
    """The photograph's patient and study elements, fit to be written to explicit VR little endian."""
    header = context.source.header
    elements: list[DataElement | RawDataElement] = []
    for keyword in COPIED:
        tag = tag_for_keyword(keyword)
        assert tag is not None  # noqa: S101 -- COPIED is a constant; a test checks every keyword
        if tag not in header:
            continue
        if dictionary_VR(tag) == VR.SQ:
            elements += _sequence(header, tag)
            continue
        element = header.get_item(tag)
        if isinstance(element, RawDataElement):
            value = element.value or b""
            pad = b"\0" if dictionary_VR(tag) == VR.UI else b" "
            value += pad * (len(value) % 2)
            element = element._replace(VR=dictionary_VR(tag), value=value, length=len(value))
        elements.append(element)
    return elements


def _sequence(header: Dataset, tag: int) -> list[DataElement]:
    """A sequence of the photograph's, unless it cannot be read as one: it is then no use to anybody."""
    try:
        element = deepcopy(header[tag])  # written, an item belongs to one data set
    except READ_ERRORS:
        _log.warning("sequence-left-out", tag=f"{tag:08X}")
        return []
    if element.VR != VR.SQ:
        return []
    for item in element.value:
        keep_malformed_as_bytes(item, encodings(header))
    return [element]


def name_institution(
    dataset: Dataset, context: ReportContext, copied: list[DataElement | RawDataElement]
) -> str | list[str]:
    """Name the institution where the character set has its letters; type 3, so it may be left out.

    A photograph that declares no character set and uses none but ASCII becomes UTF-8 for its sake.

    Returns:
        Python encodings of the object's text.
    """
    header, name = context.source.header, context.organisation
    declared = text(header, "SpecificCharacterSet")
    if name.isascii():
        dataset.InstitutionName = name[:64]
    elif not declared and all(_is_ascii(element) for element in copied):
        dataset.InstitutionName = name[:64]
        dataset.SpecificCharacterSet = _UTF_8
        return convert_encodings(_UTF_8)
    elif declared.split("\\")[0] not in _ASCII_ONLY and _fits(name, encodings(header)[0]):
        dataset.InstitutionName = name[:64]
    else:
        _log.warning(
            "institution-left-out",
            sop_instance_uid=context.source.identity.sop_instance_uid,
            character_set=declared,
        )
    return encodings(header) if declared else default_encoding


def _is_ascii(element: DataElement | RawDataElement) -> bool:
    return not isinstance(element.value, bytes) or element.value.isascii()


def _fits(value: str, python_encoding: str) -> bool:
    try:
        value.encode(python_encoding)
    except UnicodeEncodeError:
        return False
    return True
