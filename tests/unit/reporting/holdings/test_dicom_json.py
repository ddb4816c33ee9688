"""Headers as the DICOM JSON Model, malformed ones too."""

from __future__ import annotations

from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from reporting.holdings.dicom_json import to_json, with_bulk_data_at
from tests.dicom_objects import photograph


def read(ds: Dataset, implicit: bool = False) -> Dataset:
    """As it is read from bytes."""
    made = BytesIO()
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(made, enforce_file_format=True)
    return dcmread(BytesIO(made.getvalue()), stop_before_pixels=True)


def raw(tag: int, vr: bytes, value: bytes) -> Dataset:
    """A data set of one element of any bytes."""
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    ds = Dataset()
    element = RawDataElement(Tag(tag), vr.decode(), len(value), value, 0, False, True)
    ds._dict[Tag(tag)] = element
    return ds


@pytest.mark.parametrize("implicit", [False, True])
def test_values_by_their_representation(implicit: bool) -> None:
    ds = photograph(transfer_syntax=ExplicitVRLittleEndian)
    ds.ImageComments = "two\r\nlines "
    ds.PixelSpacing = ["0.5", "0.25"]
    ds.SoftwareVersions = ["a", "", "b"]
    item = Dataset()
    item.CodeValue, item.CodeMeaning = "X", "Meaning"
    ds.ProcedureCodeSequence = [item, Dataset()]
    ds.FrameIncrementPointer = 0x00181063
    made = to_json(read(ds, implicit))
    assert made["00280010"] == {"vr": "US", "Value": [48]}
    assert made["00200013"] == {"vr": "IS", "Value": [1]}
    assert made["00280030"] == {"vr": "DS", "Value": [0.5, 0.25]}
    assert made["00181020"] == {"vr": "LO", "Value": ["a", None, "b"]}
    assert made["00204000"]["Value"] == ["two\r\nlines"]
    assert made["00080050"] == {"vr": "SH"}
    assert made["00280009"] == {"vr": "AT", "Value": ["00181063"]}
    code = made["00081032"]["Value"]
    assert code[0]["00080100"] == {"vr": "SH", "Value": ["X"]}
    assert code[1] == {}


@pytest.mark.parametrize(
    ("character_set", "name", "expected"),
    [
        ("ISO_IR 100", "Müller^Jörg", {"Alphabetic": "Müller^Jörg"}),
        ("ISO_IR 192", "Wang^XiaoDong=王^小东", {"Alphabetic": "Wang^XiaoDong", "Ideographic": "王^小东"}),
        ("GB18030", "Wang^XiaoDong=王^小东", {"Alphabetic": "Wang^XiaoDong", "Ideographic": "王^小东"}),
    ],
)
def test_names(character_set: str, name: str, expected: dict[str, str]) -> None:
    ds = photograph(patient_name=name, character_set=character_set, transfer_syntax=ExplicitVRLittleEndian)
    assert to_json(read(ds))["00100010"] == {"vr": "PN", "Value": [expected]}


@pytest.mark.parametrize(
    ("tag", "vr", "value", "expected"),
    [
        (0x00080020, b"DA", b"yesterday ", {"vr": "DA", "Value": ["yesterday"]}),
        (0x00200013, b"IS", b"many", {"vr": "IS", "Value": ["many"]}),
        (0x00280010, b"US", b"\x01\x00\x02", {"vr": "UN", "InlineBinary": "AQAC"}),
        (0x00189074, b"FD", b"\0\0\0\0\0\0\xf8\x7f", {"vr": "FD", "Value": ["NaN"]}),
        (0x00080018, b"UI", b"1.2.3\0", {"vr": "UI", "Value": ["1.2.3"]}),
        (0x00091001, b"UN", b"\x01\x02", {"vr": "UN", "InlineBinary": "AQI="}),
        (0x00091001, b"OB", bytes(2000), {"vr": "OB", "BulkDataURI": "00091001"}),
        (0x00080000, b"UL", b"\x01\0\0\0", None),
    ],
)
def test_what_was_sent_is_passed_on(
    tag: int, vr: bytes, value: bytes, expected: dict[str, object] | None
) -> None:
    assert to_json(raw(tag, vr, value)).get(f"{tag:08X}") == expected


def test_places_of_values_become_urls() -> None:
    ds = photograph(transfer_syntax=ExplicitVRLittleEndian)
    item = Dataset()
    item.private_block(0x0009, "X", create=True).add_new(0x01, "OB", bytes(2000))
    ds.ProcedureCodeSequence = [item]
    placed = with_bulk_data_at(to_json(read(ds)), "http://here/bulkdata/")
    inner = placed["00081032"]["Value"][0]["00091001"]
    assert inner["BulkDataURI"] == "http://here/bulkdata/00081032/1/00091001"
