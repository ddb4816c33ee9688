"""What all result objects share: bytes of the photograph's identity, determinism, checks."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from structlog.testing import capture_logs

from reporting.dicom import parametric_map, secondary_capture, structured_report
from reporting.dicom.context import ReportContext, ResultObject
from reporting.dicom.identity import COPIED
from reporting.dicom.instance import finish
from reporting.identifiers import ResultKind
from service.errors import ResultError
from service.pictures.encode import encode_jpeg
from service.pictures.native_map import NativeMap
from tests.unit.reporting.charsets import CHARSETS, Charset
from tests.unit.reporting.photographs import COLUMNS, ROWS, context, photograph, pixels

MAP = NativeMap(
    difference=np.linspace(0, 2, 64, dtype=np.float32).reshape(8, 8),
    to_photograph=np.array([[2.0, 0, 1], [0, 2, 1]]),
    rows=ROWS,
    columns=COLUMNS,
)
BUILDERS = {
    "secondary-capture": lambda c: secondary_capture.build(c, encode_jpeg(pixels())),
    "structured-report": structured_report.build,
    "parametric-map": lambda c: parametric_map.build(c, MAP),
}


def build(kind: str, given: ReportContext) -> ResultObject:
    result = BUILDERS[kind](given)
    assert isinstance(result, ResultObject)
    return result


def raw(data: bytes, keyword: str) -> bytes:
    element = dcmread(BytesIO(data)).get_item(keyword)
    assert isinstance(element, RawDataElement)
    return element.value or b""


def test_every_copied_attribute_is_in_the_dictionary() -> None:
    assert all(tag_for_keyword(keyword) is not None for keyword in COPIED)
    assert len(set(COPIED)) == len(COPIED)


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize("implicit", [False, True], ids=["explicit", "implicit"])
@pytest.mark.parametrize("charset", CHARSETS.values(), ids=CHARSETS)
def test_identity_is_kept_byte_for_byte(kind: str, charset: Charset, implicit: bool) -> None:
    given = photograph(
        jpeg=False,
        implicit=implicit,
        SpecificCharacterSet=charset.declared or None,
        PatientName=charset.patient_name,
        PatientID=charset.patient_id,
        ReferringPhysicianName=charset.patient_name,
        StudyDescription=charset.patient_id,
    )
    data = build(kind, context(given)).data
    for keyword in (
        "PatientName",
        "PatientID",
        "ReferringPhysicianName",
        "StudyDescription",
        "StudyInstanceUID",
    ):
        assert raw(data, keyword) == raw(given, keyword)
    result = dcmread(BytesIO(data))
    assert result.get("SpecificCharacterSet", "") == dcmread(BytesIO(given)).get("SpecificCharacterSet", "")
    assert str(result.PatientName).rstrip("=") == charset.patient_name.rstrip("=")
    assert result.PatientID == charset.patient_id


def test_text_that_belies_its_character_set_is_kept() -> None:
    given = photograph(PatientName="Muxller^J", PatientID="Muxller").replace(b"Mux", b"M\xfcx")
    data = build("secondary-capture", context(given)).data
    assert raw(data, "PatientName") == raw(given, "PatientName")
    assert b"M\xfcxller" in raw(data, "PatientID")
    assert "SpecificCharacterSet" not in dcmread(BytesIO(data))


@pytest.mark.filterwarnings("ignore:Failed to decode byte string")
def test_utf_8_that_is_none_is_kept() -> None:
    given = photograph(SpecificCharacterSet="ISO_IR 192", PatientName="Muxller^J").replace(b"Mux", b"M\xfcx")
    data = build("secondary-capture", context(given)).data
    assert raw(data, "PatientName") == raw(given, "PatientName") == b"M\xfcxller^J "


@pytest.mark.parametrize("kind", BUILDERS)
def test_a_missing_patient_is_carried_through(kind: str) -> None:
    given = photograph(
        PatientID=None, PatientName=None, IssuerOfPatientID=None, PatientBirthDate=None, PatientSex=None,
        StudyID=None, AccessionNumber=None, StudyTime=None,
    )  # fmt: skip
    result = dcmread(BytesIO(build(kind, context(given)).data))
    for keyword in (
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "StudyID",
        "AccessionNumber",
    ):
        assert keyword in result  # type 2: present
        assert not result[keyword].value
    assert "IssuerOfPatientID" not in result


@pytest.mark.filterwarnings("ignore:Invalid value for VR", "ignore:The value length")  # of writing it, here
def test_malformed_identity_neither_stops_nor_changes() -> None:
    given = photograph(PatientBirthDate="19991345", PatientSex="W", PatientID="x" * 80)
    data = build("secondary-capture", context(given)).data
    for keyword in ("PatientBirthDate", "PatientSex", "PatientID"):
        assert raw(data, keyword) == raw(given, keyword)


@pytest.mark.parametrize("implicit", [False, True], ids=["explicit", "implicit"])
def test_issuer_and_other_ids_are_kept(implicit: bool) -> None:
    issuer = Dataset()
    issuer.UniversalEntityID, issuer.UniversalEntityIDType = "1.2.276.0.76", "ISO"
    other = Dataset()
    other.PatientID, other.IssuerOfPatientID = "Łódź-9", "HOSPITAL-B"
    other.IssuerOfPatientIDQualifiersSequence = [issuer]
    given = photograph(
        jpeg=False,
        implicit=implicit,
        SpecificCharacterSet="ISO_IR 101",
        IssuerOfPatientIDQualifiersSequence=[issuer],
        OtherPatientIDsSequence=[other],
    )
    result = dcmread(BytesIO(build("structured-report", context(given)).data))
    assert result.IssuerOfPatientIDQualifiersSequence[0].UniversalEntityID == "1.2.276.0.76"
    assert result.OtherPatientIDsSequence[0].PatientID == "Łódź-9"
    assert result.OtherPatientIDsSequence[0].IssuerOfPatientIDQualifiersSequence[0] == issuer


@pytest.mark.parametrize("kind", BUILDERS)
def test_the_same_appraisal_gives_the_same_bytes(kind: str) -> None:
    assert build(kind, context()).data == build(kind, context()).data


@pytest.mark.parametrize("implicit", [False, True], ids=["explicit", "implicit"])
def test_results_made_one_after_another_are_those_made_alone(implicit: bool) -> None:
    other = Dataset()
    other.PatientID, other.IssuerOfPatientID = "Łódź-9", "HOSPITAL-B"
    data = photograph(
        jpeg=False, implicit=implicit, SpecificCharacterSet="ISO_IR 101", OtherPatientIDsSequence=[other]
    )
    shared = context(data)
    for kind in (*BUILDERS, *BUILDERS):
        assert build(kind, shared).data == build(kind, context(data)).data


def test_kinds_and_appraisals_differ_in_their_uids() -> None:
    results = [build(kind, context()) for kind in BUILDERS]
    assert len({r.sop_instance_uid for r in results}) == len({r.series_instance_uid for r in results}) == 3


@pytest.mark.parametrize(
    ("charset", "organisation", "kept"),
    [
        ("latin-1", "Universitätsklinikum", True),
        ("latin-1", "病院", False),
        ("utf-8", "病院", True),
        ("gb18030", "病院", True),
        ("japanese", "Universitätsklinikum", False),
        ("japanese", "Clinic", True),
    ],
)
def test_institution_is_named_where_the_character_set_can(
    charset: str, organisation: str, kept: bool
) -> None:
    given = CHARSETS[charset]
    data = photograph(SpecificCharacterSet=given.declared, PatientName=given.patient_name)
    with capture_logs() as logs:
        result = dcmread(BytesIO(build("secondary-capture", context(data, organisation=organisation)).data))
    assert result.get("InstitutionName", "") == (organisation if kept else "")
    assert [log["event"] for log in logs] == ([] if kept else ["institution-left-out"])
    assert str(result.PatientName).rstrip("=") == given.patient_name.rstrip("=")


def test_plain_ascii_becomes_utf_8_for_the_institutions_sake() -> None:
    result = dcmread(BytesIO(build("secondary-capture", context(organisation="Kölner Klinik")).data))
    assert result.InstitutionName == "Kölner Klinik"
    assert result.SpecificCharacterSet == "ISO_IR 192"
    assert result.PatientName == "Doe^Jane"


def test_an_object_without_a_required_value_is_not_sent() -> None:
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.file_meta = Dataset()  # type: ignore[assignment]
    with pytest.raises(ResultError, match="SOPInstanceUID"):
        finish(dataset, context(), ResultKind.SECONDARY_CAPTURE)


@pytest.mark.filterwarnings("ignore:Invalid value for VR")  # of setting it, here
def test_an_object_with_a_malformed_uid_is_not_sent() -> None:
    dataset = dcmread(BytesIO(build("secondary-capture", context()).data))
    dataset.SeriesInstanceUID = "2.25.01"
    with pytest.raises(ResultError, match="SeriesInstanceUID"):
        finish(dataset, context(), ResultKind.SECONDARY_CAPTURE)


@pytest.mark.parametrize(
    ("field", "named"),
    [
        ("patient_id", "PatientID"),
        ("patient_name", "PatientName"),
        ("issuer_of_patient_id", "IssuerOfPatientID"),
        ("study_instance_uid", "study"),
    ],
)
def test_an_object_of_another_patient_or_study_is_not_sent(field: str, named: str) -> None:
    given = context()
    other = replace(given.source.identity, **{field: "2.25.1"})
    with pytest.raises(ResultError, match=named):
        secondary_capture.build(
            replace(given, source=replace(given.source, identity=other)), encode_jpeg(pixels())
        )
