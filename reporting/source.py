"""What the source photograph says about patient, study and itself, read once from its stored bytes.

Values are decoded here without pydicom's value validation: a malformed birth date must neither stop a
result nor reach a log line. What is copied into result objects is copied as sent, undecoded; see
``reporting.dicom.instance``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from io import BytesIO
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.multival import MultiValue
from tzlocal import get_localzone

from reporting.identifiers import issuer_key
from service.dicom.part10 import READ_ERRORS, UnreadablePart10Error, read_header
from service.dicom.text import decode, encodings_of, trimmed
from service.errors import ConfigurationError, ResultError

_LOCAL_TIME = Path("/etc/localtime")
_DATE = re.compile(r"(\d{4})[.\-]?(\d{2})[.\-]?(\d{2})$")  # DA, and its ACR-NEMA form, PS3.5 Table 6.2-1
_TIME = re.compile(r"(\d{2}):?(\d{2})?:?(\d{2})?(?:\.(\d{1,6}))?$")
_DATE_TIME = re.compile(r"(\d{8})(\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?)([+-]\d{4})?$")
_OFFSET = re.compile(r"([+-])(\d{2})(\d{2})$")


@dataclass(frozen=True, kw_only=True)
class PersonNameParts:
    """One representation of a person name (PS3.5 section 6.2.1)."""

    representation: str  # "alphabetic", "ideographic" or "phonetic"
    family: str
    given: str
    middle: str
    prefix: str
    suffix: str


@dataclass(frozen=True, kw_only=True)
class SourceIdentity:
    """Who, what and when; "" or None where the photograph does not say."""

    patient_id: str
    issuer_of_patient_id: str  # local namespace, (0010,0021)
    issuer_universal_id: str  # (0040,0032) in (0010,0024)
    issuer_universal_id_type: str  # (0040,0033): ISO, DNS, UUID, ...
    patient_name: str  # as sent, decoded, with ^ and =
    patient_names: tuple[PersonNameParts, ...]
    patient_birth_date: date | None
    patient_sex: str  # M, F, O or ""
    accession_number: str
    study_id: str
    study_instance_uid: str
    study_date: date | None
    study_at: datetime | None  # aware; None when date or time is missing
    study_description: str
    series_instance_uid: str
    series_number: int | None
    series_description: str
    modality: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    instance_number: int | None
    number_of_frames: int
    rows: int | None
    columns: int | None
    acquired_on: date | None  # best date of the photograph itself, then series, then study
    acquired_at: datetime | None  # the same with its time, aware; None when only the date is known
    body_part_examined: str
    institution_name: str
    manufacturer: str
    manufacturer_model_name: str
    timezone_offset: str  # (0008,0201) as sent, e.g. "+0100"; "" when the photograph does not say

    @property
    def issuer(self) -> str:
        """Who issued the patient ID; "" when the photograph does not say."""
        return issuer_key(self.issuer_of_patient_id, self.issuer_universal_id, self.issuer_universal_id_type)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A stored photograph, ready to be reported on."""

    identity: SourceIdentity
    header: Dataset  # everything before the pixel data, undecoded; not to be read by attribute
    pixel_data_bytes: int  # length of what follows the header
    zone: tzinfo  # of dates and times that carry no zone of their own


def default_zone(name: str) -> tzinfo:
    """Zone of a name of the IANA database, or this machine's for "".

    Args:
        name: ``Settings.timezone``, checked there.

    Raises:
        ConfigurationError: The machine's own zone (``TZ``) is no zone.
    """
    if name:
        return ZoneInfo(name)
    if not os.environ.get("TZ") and not _LOCAL_TIME.exists():
        return UTC  # as the C library has it
    try:
        return get_localzone()
    except (ZoneInfoNotFoundError, ValueError) as exc:
        raise ConfigurationError(f"the machine's time zone: {exc}") from exc


def read_source(data: bytes, zone: tzinfo) -> Source:
    """Read a stored photograph.

    Args:
        data: The Part 10 file.
        zone: Of dates and times without (0008,0201).

    Raises:
        ResultError: Not a Part 10 file, or without a UID a result must refer to.
    """
    stream = BytesIO(data)
    try:
        read = read_header(stream)
    except UnreadablePart10Error as exc:
        raise ResultError("the stored photograph cannot be read back as a DICOM file") from exc
    header = read.dataset
    identity = _identity(header, zone)
    for name in ("sop_class_uid", "sop_instance_uid", "series_instance_uid", "study_instance_uid"):
        if not getattr(identity, name):
            raise ResultError(f"the stored photograph has no {name}")
    pixels_at = read.pixels.offset if read.pixels is not None else len(data)
    return Source(identity=identity, header=header, pixel_data_bytes=max(0, len(data) - pixels_at), zone=zone)


def offset_zone(offset: str) -> timezone | None:
    """Zone of a DICOM offset such as ``+0100`` (PS3.3 section C.12.1.1.8); None when malformed."""
    match = _OFFSET.match(offset)
    if match is None:
        return None
    sign, hours, minutes = match.groups()
    delta = timedelta(hours=int(hours), minutes=int(minutes))
    if int(minutes) > 59 or delta > timedelta(hours=14):
        return None
    return timezone(-delta if sign == "-" else delta)


def encodings(header: Dataset) -> list[str]:
    """Python encodings of the data set's text, in the order of (0008,0005)."""
    return encodings_of(_decoded(header, "SpecificCharacterSet", ["iso8859"]))


def text(header: Dataset, keyword: str) -> str:
    """Decoded value of a text attribute; "" when absent or empty; values joined by a backslash."""
    return trimmed(_decoded(header, keyword, encodings(header)))


def _decoded(header: Dataset, keyword: str, python_encodings: Sequence[str]) -> str:
    element = header.get_item(keyword)
    if element is None or element.value is None:
        return ""
    if isinstance(element.value, bytes):
        return decode(element.value, python_encodings).replace("\0", "")
    if isinstance(element.value, MultiValue):
        return "\\".join(map(str, element.value))
    return str(element.value)


def _values(header: Dataset, keyword: str, python_encodings: Sequence[str]) -> list[str]:
    return [trimmed(value) for value in _decoded(header, keyword, python_encodings).split("\\")]


def _integer(header: Dataset, keyword: str) -> int | None:
    """Value of an IS or US attribute; None when absent or malformed."""
    element = header.get_item(keyword)
    if element is None or element.value is None:
        return None
    if isinstance(element.value, bytes) and tag_for_keyword(keyword) in _BINARY:
        return int.from_bytes(element.value, "little") if len(element.value) == 2 else None
    value = text(header, keyword)
    return int(value) if re.fullmatch(r"[+-]?\d{1,12}", value) else None


_BINARY = {tag_for_keyword("Rows"), tag_for_keyword("Columns")}


def _date(value: str) -> date | None:
    match = _DATE.match(value)
    try:
        return date(*map(int, match.groups())) if match else None
    except ValueError:
        return None


def _time(value: str) -> time | None:
    match = _TIME.match(value)
    if match is None:
        return None
    hour, minute, second, fraction = match.groups()
    try:
        microseconds = int((fraction or "0").ljust(6, "0"))
        return time(int(hour), int(minute or 0), min(int(second or 0), 59), microseconds)  # no leap second
    except ValueError:
        return None


def _moment(day: date | None, clock: time | None, zone: tzinfo) -> datetime | None:
    return datetime.combine(day, clock, zone) if day is not None and clock is not None else None


def _acquired(header: Dataset, zone: tzinfo) -> tuple[date | None, datetime | None]:
    """Date and moment of the photograph: acquisition, then content, series, study."""
    match = _DATE_TIME.match(text(header, "AcquisitionDateTime"))
    if match:
        day, clock, offset = match.groups()
        moment = _moment(_date(day), _time(clock), (offset_zone(offset) if offset else None) or zone)
        if moment is not None:
            return moment.date(), moment
    first_day = None
    for level in ("Acquisition", "Content", "Series", "Study"):
        day_only = _date(text(header, f"{level}Date"))
        first_day = first_day or day_only
        if day_only is not None and day_only == first_day:
            moment = _moment(day_only, _time(text(header, f"{level}Time")), zone)
            if moment is not None:
                return day_only, moment
    return first_day, None


def _person_names(value: str) -> tuple[PersonNameParts, ...]:
    names = []
    for representation, group in zip(
        ("alphabetic", "ideographic", "phonetic"), value.split("\\", maxsplit=1)[0].split("="), strict=False
    ):
        family, given, middle, prefix, suffix = ([*map(str.strip, group.split("^")), "", "", "", "", ""])[:5]
        if any((family, given, middle, prefix, suffix)):
            names.append(
                PersonNameParts(
                    representation=representation,
                    family=family,
                    given=given,
                    middle=middle,
                    prefix=prefix,
                    suffix=suffix,
                )
            )
    return tuple(names)


def issuer_of(header: Dataset) -> str:
    """Who issued the patient ID of a data set, as ``SourceIdentity.issuer`` has it."""
    return issuer_key(text(header, "IssuerOfPatientID"), *_issuer(header))


def _issuer(header: Dataset) -> tuple[str, str]:
    """Universal entity ID of the issuer and its type, (0010,0024)."""
    try:
        items: Any = header.get("IssuerOfPatientIDQualifiersSequence")
        item = items[0] if items else None
    except READ_ERRORS:
        return "", ""
    if not isinstance(item, Dataset):
        return "", ""
    return text(item, "UniversalEntityID"), text(item, "UniversalEntityIDType")


def _identity(header: Dataset, default: tzinfo) -> SourceIdentity:
    offset = text(header, "TimezoneOffsetFromUTC")
    zone = offset_zone(offset) or default
    name = text(header, "PatientName")
    sex = text(header, "PatientSex").upper()
    study_date = _date(text(header, "StudyDate"))
    acquired_on, acquired_at = _acquired(header, zone)
    universal_id, universal_id_type = _issuer(header)
    return SourceIdentity(
        patient_id=text(header, "PatientID"),
        issuer_of_patient_id=text(header, "IssuerOfPatientID"),
        issuer_universal_id=universal_id,
        issuer_universal_id_type=universal_id_type,
        patient_name=name,
        patient_names=_person_names(name),
        patient_birth_date=_date(text(header, "PatientBirthDate")),
        patient_sex=sex if sex in {"M", "F", "O"} else "",
        accession_number=text(header, "AccessionNumber"),
        study_id=text(header, "StudyID"),
        study_instance_uid=text(header, "StudyInstanceUID"),
        study_date=study_date,
        study_at=_moment(study_date, _time(text(header, "StudyTime")), zone),
        study_description=text(header, "StudyDescription"),
        series_instance_uid=text(header, "SeriesInstanceUID"),
        series_number=_integer(header, "SeriesNumber"),
        series_description=text(header, "SeriesDescription"),
        modality=text(header, "Modality"),
        sop_class_uid=text(header, "SOPClassUID"),
        sop_instance_uid=text(header, "SOPInstanceUID"),
        transfer_syntax_uid=str(header.file_meta.get("TransferSyntaxUID", "")),
        instance_number=_integer(header, "InstanceNumber"),
        number_of_frames=_integer(header, "NumberOfFrames") or 1,
        rows=_integer(header, "Rows"),
        columns=_integer(header, "Columns"),
        acquired_on=acquired_on,
        acquired_at=acquired_at,
        body_part_examined=text(header, "BodyPartExamined"),
        institution_name=text(header, "InstitutionName"),
        manufacturer=text(header, "Manufacturer"),
        manufacturer_model_name=text(header, "ManufacturerModelName"),
        timezone_offset=offset if offset_zone(offset) else "",
    )
