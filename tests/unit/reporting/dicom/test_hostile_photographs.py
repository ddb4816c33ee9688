"""Photographs with arbitrary bytes where identity and description should be: results all the same."""

from __future__ import annotations

import subprocess
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from reporting.dicom import secondary_capture, structured_report
from reporting.dicom.context import ResultObject
from reporting.dicom.identity import COPIED
from service.pictures.encode import encode_jpeg
from tests.unit.reporting.photographs import context, photograph, pixels

HEATMAP = pixels()
KEYWORDS = (
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "AccessionNumber",
    "AcquisitionDateTime",
    "InstanceNumber",
    "SeriesNumber",
    "NumberOfFrames",
    "Manufacturer",
    "ManufacturerModelName",
    "BurnedInAnnotation",
    "PatientOrientation",
    "PhotometricInterpretation",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
VALUES = st.one_of(
    st.binary(max_size=80),
    st.text(alphabet="0123456789.+-\\ ^=", max_size=40).map(str.encode),
    st.sampled_from(
        [b"ISO_IR 192", b"\\ISO 2022 IR 87", b"GB18030", b"ISO_IR 999", b"01", b"+0100", b"\x1b$B"]
    ),
)


def with_bytes(values: dict[str, bytes]) -> bytes:
    """A photograph whose attributes hold these very bytes."""
    dataset: Dataset = dcmread(BytesIO(photograph()))
    for keyword, value in values.items():
        tag = tag_for_keyword(keyword)
        assert tag is not None
        even = value + b" " * (len(value) % 2)
        vr = dictionary_VR(tag)
        dataset[tag] = RawDataElement(Tag(tag), vr, len(even), even, 0, False, True)
    dataset.set_original_encoding(False, True, dataset._character_set)
    stream = BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


HOSTILE = [
    {"LossyImageCompression": b"01", "LossyImageCompressionRatio": b"abc"},
    {"LossyImageCompression": b"01", "LossyImageCompressionRatio": b"9" * 60},
    {"LossyImageCompression": b"01", "LossyImageCompressionRatio": b"1.5\\x"},
    {"LossyImageCompression": b"01", "LossyImageCompressionMethod": b"\xff\xfe" * 10},
    {"PatientOrientation": b"\xff\\x"},
    {"PatientOrientation": b"L"},
    {"SpecificCharacterSet": b"ISO_IR 999", "PatientName": b"M\xfc"},
    {"SpecificCharacterSet": b"\xff\xff"},
    {"SpecificCharacterSet": b"GB18030\\ISO 2022 IR 87"},
    {"SpecificCharacterSet": b"ISO_IR 192", "PatientName": b"\xff\xfe", "PatientID": b"\xff"},
    {"SpecificCharacterSet": b"\\ISO 2022 IR 87", "PatientName": b"\x1b$B\x3b\x33"},
    {"Manufacturer": b"a\\b\\c", "ManufacturerModelName": b"a\x00\x1b"},
    {"AccessionNumber": b"A\\B"},
    {"AccessionNumber": b"x" * 70},
    {"PatientID": b"A\\B", "PatientName": b"A\\B"},
    {"InstanceNumber": b"99999999999", "NumberOfFrames": b"99999999999"},
    {"InstanceNumber": b"-5", "NumberOfFrames": b"-5", "TimezoneOffsetFromUTC": b"-0000"},
]


def build_all(data: bytes) -> list[ResultObject]:
    heatmap = secondary_capture.build(context(data), encode_jpeg(HEATMAP))
    return [heatmap, structured_report.build(context(data), [heatmap])]


@pytest.mark.peers("dciodvfy")
@pytest.mark.parametrize("values", HOSTILE, ids=str)
@pytest.mark.filterwarnings("ignore")  # pydicom warns of each malformed value; they are the point
def test_nothing_malformed_spreads_to_what_is_ours(values: dict[str, bytes], tmp_path: Path) -> None:
    for result in build_all(with_bytes(values)):
        path = tmp_path / "result.dcm"
        path.write_bytes(result.data)
        run = subprocess.run(
            ["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False, errors="replace"
        )
        said = (run.stdout + run.stderr).splitlines()
        errors = [line for line in said if line.startswith(("Error", "Abort"))]
        copied = [keyword for keyword in values if keyword in COPIED]
        assert [line for line in errors if not any(keyword in line for keyword in copied)] == []


@pytest.mark.filterwarnings("ignore")  # pydicom warns of each malformed value; they are the point
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(values=st.dictionaries(st.sampled_from(KEYWORDS), VALUES, max_size=6))
def test_results_are_made_and_identity_is_kept(values: dict[str, bytes]) -> None:
    data = with_bytes(values)
    sent = dcmread(BytesIO(data), stop_before_pixels=True)
    for result in build_all(data):
        made = dcmread(BytesIO(result.data))
        for keyword in set(values) & set(COPIED):
            raw, kept = sent.get_item(keyword), made.get_item(keyword)
            assert raw is not None
            assert kept is not None
            assert (kept.value or b"") == (raw.value or b"")
