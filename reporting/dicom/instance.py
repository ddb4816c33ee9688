"""From a data set that highdicom built to a finished file: identity, time, equipment, checks, bytes.

Patient and study are copied as the sender wrote them, byte for byte and in its character set, so that
no PACS sees another patient in them. Everything else is ASCII or is left out where the character set
has no room for it. Nothing depends on the clock: the same appraisal gives the same bytes.
"""

from __future__ import annotations

from io import BytesIO

from pydicom import Dataset, dcmread, dcmwrite
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGBaseline8Bit

from reporting.dicom.context import (
    MANUFACTURER,
    MODEL_NAME,
    ReportContext,
    ResultObject,
    device_serial_number,
    device_uid,
    software_versions,
)
from reporting.dicom.identity import COPIED, TYPE_2, copied, name_institution
from reporting.identifiers import IMPLEMENTATION_CLASS_UID, ResultKind
from reporting.source import text
from reporting.terminology import (
    ACQUISITION_EQUIPMENT,
    CODE_SYSTEM,
    CODE_SYSTEM_VERSION,
    PROCESSING_EQUIPMENT,
    Concept,
)
from service.errors import ResultError

IMPLEMENTATION_VERSION_NAME = "SEMBLANCE"

# Type 1 of the modules every result has (Patient/Study/Series/Equipment/SOP Common).
_TYPE_1 = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "SeriesNumber",
    "InstanceNumber",
    "Manufacturer",
    "ContributingEquipmentSequence",
)


def da(context: ReportContext) -> str:
    """Date of the appraisal, as DA."""
    return context.created_at.strftime("%Y%m%d")


def tm(context: ReportContext) -> str:
    """Time of the appraisal, as TM."""
    return context.created_at.strftime("%H%M%S.%f")


def dt(context: ReportContext) -> str:
    """Moment of the appraisal with its offset, as DT."""
    return context.created_at.strftime("%Y%m%d%H%M%S.%f%z")[:26]


def item(concept: Concept) -> Dataset:
    """A concept as an item of a code sequence (PS3.3 section 8.8)."""
    dataset = Dataset()
    dataset.CodeValue = concept.code
    dataset.CodingSchemeDesignator = concept.system.designator
    if concept.system is CODE_SYSTEM:
        dataset.CodingSchemeVersion = CODE_SYSTEM_VERSION
    dataset.CodeMeaning = concept.display
    return dataset


def is_plain(value: str, most: int) -> bool:
    """Whether a text is one value, not empty, that any character set can carry, of ``most`` characters."""
    return 0 < len(value) <= most and value.isascii() and value.isprintable() and "\\" not in value


def stand_in(context: ReportContext) -> Dataset:
    """The photograph as highdicom's constructors want it: references and geometry, no patient.

    Patient and study are copied by ``finish``, byte for byte; highdicom would decode and check them.
    """
    identity = context.source.identity
    dataset = Dataset()
    dataset.SOPClassUID = identity.sop_class_uid
    dataset.SOPInstanceUID = identity.sop_instance_uid
    dataset.StudyInstanceUID = identity.study_instance_uid
    dataset.SeriesInstanceUID = identity.series_instance_uid
    dataset.Modality = "XC"
    for keyword in TYPE_2:
        setattr(dataset, keyword, None)
    if identity.rows is not None and identity.columns is not None:
        dataset.Rows, dataset.Columns = identity.rows, identity.columns
    return dataset


def finish(
    dataset: Dataset, context: ReportContext, kind: ResultKind, *, required: tuple[str, ...] = ()
) -> ResultObject:
    """Complete, check and encode a result object.

    Args:
        dataset: As built; altered.
        context: What it reports.
        kind: Which object it is.
        required: Type 1 attributes of its own modules, beside the common ones.

    Raises:
        ResultError: The object lacks what its IOD requires, or does not read back as it was meant.
    """
    _stamp(dataset, context)
    _identify_equipment(dataset, context)
    _check(dataset, (*_TYPE_1, *required))
    data = _encode(dataset, context)
    _compare(dcmread(BytesIO(data)), dataset, context)
    return ResultObject(
        kind=kind,
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        series_number=int(dataset.SeriesNumber),
        series_description=str(dataset.SeriesDescription),
        instance_number=int(dataset.InstanceNumber),
        modality=str(dataset.Modality),
        transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID),
        data=data,
    )


def _stamp(dataset: Dataset, context: ReportContext) -> None:
    """Put the appraisal's own time where highdicom put the clock's."""
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = da(context), tm(context)
    dataset.ContentDate, dataset.ContentTime = da(context), tm(context)
    dataset.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    dataset.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME


def _identify_equipment(dataset: Dataset, context: ReportContext) -> None:
    """Name the software and the camera (PS3.3 sections C.7.5.1, C.12.1)."""
    method = context.saved.appraisal.method
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = MODEL_NAME
    dataset.SoftwareVersions = list(software_versions(method))
    dataset.DeviceSerialNumber = device_serial_number(method)
    dataset.DeviceUID = device_uid(method)
    own = Dataset()
    own.PurposeOfReferenceCodeSequence = [item(PROCESSING_EQUIPMENT)]
    own.Manufacturer = MANUFACTURER
    own.ManufacturerModelName = MODEL_NAME
    own.SoftwareVersions = list(software_versions(method))
    own.DeviceUID = device_uid(method)
    own.ContributionDateTime = dt(context)
    own.ContributionDescription = f"Appraisal of facial difference by method {method.name} {method.version}"
    dataset.ContributingEquipmentSequence = [*_camera(context), own]
    scheme = Dataset()
    scheme.CodingSchemeDesignator = CODE_SYSTEM.designator
    scheme.CodingSchemeUID = CODE_SYSTEM.uid
    scheme.CodingSchemeName = CODE_SYSTEM.name
    scheme.CodingSchemeVersion = CODE_SYSTEM_VERSION
    scheme.CodingSchemeResponsibleOrganization = MANUFACTURER
    dataset.CodingSchemeIdentificationSequence = [scheme]


def _camera(context: ReportContext) -> list[Dataset]:
    """The equipment that took the photograph, as far as it named itself in plain letters."""
    identity = context.source.identity
    if not is_plain(identity.manufacturer, 64):
        return []
    camera = Dataset()
    camera.PurposeOfReferenceCodeSequence = [item(ACQUISITION_EQUIPMENT)]
    camera.Manufacturer = identity.manufacturer
    if is_plain(identity.manufacturer_model_name, 64):
        camera.ManufacturerModelName = identity.manufacturer_model_name
    return [camera]


def _check(dataset: Dataset, required: tuple[str, ...]) -> None:
    """Type 1 attributes present and filled, UIDs well formed (PS3.5 sections 7.4.1, 9.1)."""
    absent = [keyword for keyword in required if dataset.get(keyword) in (None, "", [])]
    if absent:
        raise ResultError(f"{dataset.get('SOPClassUID')}: no value for {', '.join(absent)}")
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"):
        if not UID(dataset[keyword].value).is_valid:
            raise ResultError(f"{keyword} is malformed")


def _encode(dataset: Dataset, context: ReportContext) -> bytes:
    """Encode as a Part 10 file in the photograph's character set.

    Raises:
        ResultError: pydicom cannot write it.
    """
    for keyword in COPIED:
        if keyword in dataset:
            delattr(dataset, keyword)
    for keyword in TYPE_2:
        setattr(dataset, keyword, None)
    elements = copied(context)
    character_set = name_institution(dataset, context, elements)
    correct_ambiguous_vr(dataset, True)
    for element in elements:
        dataset[element.tag] = element
    # What pydicom takes for unchanged it writes as it stands: the copied values stay as sent.
    dataset.set_original_encoding(False, True, character_set)
    stream = BytesIO()
    try:
        dcmwrite(stream, dataset, enforce_file_format=True)
    except (ValueError, TypeError, AttributeError, KeyError, OSError) as exc:
        raise ResultError(f"{dataset.SOPClassUID} cannot be encoded") from exc
    return stream.getvalue()


def _compare(read: Dataset, written: Dataset, context: ReportContext) -> None:
    """Read back, compare: the same object, in the photograph's study, of the photograph's patient."""
    identity = context.source.identity
    if read.SOPInstanceUID != written.SOPInstanceUID or read.SOPClassUID != written.SOPClassUID:
        raise ResultError("the result does not read back as itself")
    if text(read, "StudyInstanceUID") != identity.study_instance_uid:
        raise ResultError("the result is not in the photograph's study")
    for keyword, expected in (
        ("PatientID", identity.patient_id),
        ("PatientName", identity.patient_name),
        ("IssuerOfPatientID", identity.issuer_of_patient_id),
    ):
        if text(read, keyword) != expected:
            raise ResultError(f"the result's {keyword} is not the photograph's")
    if read.file_meta.TransferSyntaxUID not in (ExplicitVRLittleEndian, JPEGBaseline8Bit):
        raise ResultError("the result is in a transfer syntax nobody asked for")
