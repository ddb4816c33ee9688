"""Which attribute belongs to which level, and whether it is matched (DICOM PS3.4 C.6.2, PS3.18 10.6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

from reporting.holdings.database.holding_records import Level

# Modules Patient, Patient Study, General Study, and the patient's and study's own extensions (PS3.3).
_STUDY_KEYWORDS = """
SpecificCharacterSet TimezoneOffsetFromUTC
PatientName PatientID IssuerOfPatientID IssuerOfPatientIDQualifiersSequence TypeOfPatientID
OtherPatientIDsSequence OtherPatientNames PatientBirthDate PatientBirthTime PatientSex EthnicGroup
PatientComments PatientIdentityRemoved DeidentificationMethod PatientSpeciesDescription
ResponsiblePerson ResponsibleOrganization QualityControlSubject
StudyInstanceUID StudyDate StudyTime StudyID AccessionNumber IssuerOfAccessionNumberSequence
ReferringPhysicianName ConsultingPhysicianName PhysiciansOfRecord NameOfPhysiciansReadingStudy
StudyDescription ProcedureCodeSequence ReferencedStudySequence RequestingService
AdmittingDiagnosesDescription AdmittingDiagnosesCodeSequence PatientAge PatientSize PatientWeight
Occupation AdditionalPatientHistory AdmissionID ServiceEpisodeID ServiceEpisodeDescription
ReasonForVisit PregnancyStatus SmokingStatus LastMenstrualDate Allergies MedicalAlerts PatientState
ReasonForPerformedProcedureCodeSequence
"""
# Modules General Series, General Equipment, Frame of Reference.
_SERIES_KEYWORDS = """
Modality SeriesInstanceUID SeriesNumber Laterality SeriesDate SeriesTime SeriesDescription
SeriesDescriptionCodeSequence PerformingPhysicianName OperatorsName ProtocolName BodyPartExamined
PatientPosition ReferencedPerformedProcedureStepSequence RequestAttributesSequence
PerformedProcedureStepID PerformedProcedureStepStartDate PerformedProcedureStepStartTime
PerformedProcedureStepEndDate PerformedProcedureStepEndTime PerformedProcedureStepDescription
PerformedProtocolCodeSequence CommentsOnThePerformedProcedureStep AnatomicalOrientationType
Manufacturer InstitutionName InstitutionAddress StationName InstitutionalDepartmentName
ManufacturerModelName DeviceSerialNumber SoftwareVersions DeviceUID
FrameOfReferenceUID PositionReferenceIndicator
"""
# Made for the answer, in no data set.
_COMPUTED = {
    "ModalitiesInStudy": Level.STUDY, "SOPClassesInStudy": Level.STUDY,
    "NumberOfStudyRelatedSeries": Level.STUDY, "NumberOfStudyRelatedInstances": Level.STUDY,
    "NumberOfSeriesRelatedInstances": Level.SERIES,
    "RetrieveURL": Level.STUDY, "RetrieveAETitle": Level.STUDY, "InstanceAvailability": Level.STUDY,
    "AvailableTransferSyntaxUID": Level.IMAGE,
}  # fmt: skip
_UNMATCHED = frozenset(
    {
        "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances", "NumberOfSeriesRelatedInstances",
        "RetrieveURL", "RetrieveAETitle", "InstanceAvailability", "AvailableTransferSyntaxUID",
        "SpecificCharacterSet", "TimezoneOffsetFromUTC",
    }
)  # fmt: skip
_UNMATCHED_VRS = frozenset({"SQ", "OB", "OD", "OF", "OL", "OV", "OW", "UN", "AT", "FL", "FD", "DS"})

# Returned by QIDO-RS without being asked for (PS3.18 tables 10.6.3-3 to 10.6.3-5).
_DEFAULT = {
    Level.STUDY: """
        StudyDate StudyTime AccessionNumber InstanceAvailability ModalitiesInStudy ReferringPhysicianName
        TimezoneOffsetFromUTC RetrieveURL PatientName PatientID PatientBirthDate PatientSex
        StudyInstanceUID StudyID NumberOfStudyRelatedSeries NumberOfStudyRelatedInstances
        StudyDescription IssuerOfPatientID SOPClassesInStudy
    """,
    Level.SERIES: """
        Modality TimezoneOffsetFromUTC SeriesDescription RetrieveURL SeriesInstanceUID SeriesNumber
        NumberOfSeriesRelatedInstances PerformedProcedureStepStartDate PerformedProcedureStepStartTime
        RequestAttributesSequence BodyPartExamined
    """,
    Level.IMAGE: """
        SOPClassUID SOPInstanceUID InstanceAvailability TimezoneOffsetFromUTC RetrieveURL InstanceNumber
        Rows Columns BitsAllocated NumberOfFrames AvailableTransferSyntaxUID
    """,
}


@dataclass(frozen=True, kw_only=True)
class Key:
    """An attribute that may be asked about."""

    tag: str  # eight hexadecimal digits
    keyword: str  # "" of an attribute the dictionary does not have
    vr: str
    level: Level
    matched: bool  # whether a value is compared; if not, it is only returned


def tag_of(keyword: str) -> str:
    """Tag of a keyword, as eight hexadecimal digits.

    Raises:
        KeyError: The dictionary does not have it.
    """
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return f"{tag:08X}"


_LEVELS: Mapping[str, Level] = MappingProxyType(
    {tag_of(keyword): Level.STUDY for keyword in _STUDY_KEYWORDS.split()}
    | {tag_of(keyword): Level.SERIES for keyword in _SERIES_KEYWORDS.split()}
    | {tag_of(keyword): level for keyword, level in _COMPUTED.items()}
)
STUDY_TAGS = frozenset(tag for tag, level in _LEVELS.items() if level is Level.STUDY)
SERIES_TAGS = frozenset(tag for tag, level in _LEVELS.items() if level is Level.SERIES)
DEFAULT_TAGS: Mapping[Level, tuple[str, ...]] = MappingProxyType(
    {level: tuple(tag_of(keyword) for keyword in text.split()) for level, text in _DEFAULT.items()}
)
UNIQUE_KEYS: Mapping[Level, str] = MappingProxyType(
    {Level.STUDY: "0020000D", Level.SERIES: "0020000E", Level.IMAGE: "00080018"}
)
# PS3.4 tables C.6-2 to C.6-4.
REQUIRED_KEYS: Mapping[Level, tuple[str, ...]] = MappingProxyType(
    {
        Level.STUDY: ("StudyDate", "StudyTime", "AccessionNumber", "PatientName", "PatientID", "StudyID"),
        Level.SERIES: ("Modality", "SeriesNumber"),
        Level.IMAGE: ("InstanceNumber",),
    }
)
LEVEL_ORDER = (Level.STUDY, Level.SERIES, Level.IMAGE)


def key_of(tag: str) -> Key:
    """The key of a tag; one that the dictionary does not have belongs to the image.

    Args:
        tag: Eight hexadecimal digits, upper case.
    """
    number = int(tag, 16)
    keyword = keyword_for_tag(number)
    vr = str(dictionary_VR(number)) if keyword else "UN"
    matched = keyword not in _UNMATCHED and vr not in _UNMATCHED_VRS and bool(keyword)
    return Key(
        tag=tag, keyword=keyword, vr=vr, level=_LEVELS.get(tag, Level.IMAGE), matched=matched and len(vr) == 2
    )


def is_at_or_above(level: Level, other: Level) -> bool:
    """Whether a level is another one or above it."""
    return LEVEL_ORDER.index(level) <= LEVEL_ORDER.index(other)
