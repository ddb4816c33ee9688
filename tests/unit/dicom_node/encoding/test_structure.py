from __future__ import annotations

import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import pydicom.data
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.filereader import _read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dsutils import encode

from dicom_node.encoding.structure import (
    PATIENT_ID,
    SOP_INSTANCE_UID,
    KeptValues,
    MalformedDataSetError,
    StructureReader,
)
from dicom_node.readers import TRANSFER_SYNTAXES
from service.errors import IncompleteInstanceError
from tests.dicom_objects import photograph

# Files of pydicom's that are damaged, and how.
_DAMAGED = {
    "rtplan_truncated.dcm": IncompleteInstanceError,
    "MR_truncated.dcm": IncompleteInstanceError,
    "SC_rgb_jpeg.dcm": MalformedDataSetError,  # implicit VR under a JPEG transfer syntax
}


_ENCODED = encode(photograph(transfer_syntax=ExplicitVRLittleEndian, size=(4, 4)), False, True) or b""


def read(encoded: bytes, transfer_syntax: str, step: int = 4096) -> KeptValues:
    reader = StructureReader(transfer_syntax)
    for start in range(0, len(encoded), step):
        reader.feed(memoryview(encoded)[start : start + step])
    return reader.finish()


def pydicom_files() -> list[str]:
    found = []
    for path in sorted(map(str, (Path(pydicom.data.__file__).parent / "test_files").glob("*.dcm"))):
        with open(path, "rb") as source:
            if source.read(132)[128:] != b"DICM":
                continue
            if _read_file_meta_info(source).get("TransferSyntaxUID") in TRANSFER_SYNTAXES:
                found.append(path)
    return found


@pytest.mark.parametrize("path", pydicom_files(), ids=lambda path: path.rsplit("/", 1)[-1])
@pytest.mark.parametrize("step", [7, 4096])
def test_agrees_with_pydicom_on_its_own_files(path: str, step: int) -> None:
    with open(path, "rb") as source:
        content = source.read()
    stream = BytesIO(content)
    stream.seek(132)
    transfer_syntax = _read_file_meta_info(stream).TransferSyntaxUID
    data_set = content[stream.tell() :]
    damage = _DAMAGED.get(path.rsplit("/", 1)[-1])
    if damage is not None:
        with pytest.raises(damage):
            read(data_set, transfer_syntax, step)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = dcmread(BytesIO(content))
        values = read(data_set, transfer_syntax, step)
        assert values.text(SOP_INSTANCE_UID) == expected.get("SOPInstanceUID", "")
        assert values.text(PATIENT_ID) == str(expected.get("PatientID") or "").strip()


@pytest.mark.parametrize("transfer_syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_every_cut_is_noticed(transfer_syntax: str) -> None:
    ds = photograph(transfer_syntax=ExplicitVRLittleEndian, size=(4, 4))
    encoded = encode(ds, transfer_syntax.is_implicit_VR, True)
    assert encoded is not None
    boundaries = 0
    for length in range(1, len(encoded)):
        try:
            read(encoded[:length], transfer_syntax)
        except IncompleteInstanceError:
            continue
        boundaries += 1
    # Only a cut exactly between two elements cannot be told from a shorter data set; then pixel data is gone.
    assert boundaries == len(ds) - 1


def test_deflated_stream_that_ends_early() -> None:
    encoded = encode(photograph(transfer_syntax=ExplicitVRLittleEndian), False, True, True)
    assert encoded is not None
    assert read(encoded, DeflatedExplicitVRLittleEndian).text(PATIENT_ID) == "P1"
    with pytest.raises(IncompleteInstanceError):
        read(encoded[:-20], DeflatedExplicitVRLittleEndian)
    with pytest.raises(MalformedDataSetError):
        read(b"\xff" * 100, DeflatedExplicitVRLittleEndian)


def test_deflate_bomb_costs_no_memory() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFF0)
    bomb = packer.compress(head) + packer.compress(b"\0" * (80 << 20)) + packer.flush()
    reader = StructureReader(DeflatedExplicitVRLittleEndian, 64 << 20)
    with pytest.raises(MalformedDataSetError, match="inflates to more than"):
        reader.feed(bomb)


def test_sequences_nested_without_end() -> None:
    sequence = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    with pytest.raises(MalformedDataSetError, match="nest deeper"):
        read((sequence + item) * 100, ExplicitVRLittleEndian)


@pytest.mark.parametrize(
    ("declared", "value", "text", "is_right"),
    [
        (b"ISO_IR 192", b"M\xc3\xbcller", "M\u00fcller", True),
        (b"ISO_IR 192", b"M\xfcller", "M\u00fcller", False),  # Latin-1 in truth
        (b"\0ISO_IR 100", b"M\xfcller", "M\u00fcller", True),
        (b"ISO_IR\0 100", b"M\xfcller", "M\u00fcller", True),
        (b"", b"M\xfcller", "M\u00fcller", False),  # declares none
        (b"NONE OF ANY", b"M\xfcller", "M\u00fcller", True),
        (b"UTF-8", b"M\xc3\xbcller", "M\u00fcller", True),
        (b"ISO_IR 192", b"\x80\x81", "\u20ac\x81", False),
        (b"ISO 2022 IR 6\\ISO 2022 IR 87", b"\x1b(Zx", "\x1b(Zx", False),
    ],
)
def test_text_that_is_not_as_declared_is_read_and_told_of(
    declared: bytes, value: bytes, text: str, is_right: bool
) -> None:
    values = KeptValues(raw={0x00080005: declared, PATIENT_ID: value})
    assert values.text(PATIENT_ID) == text
    assert values.is_declared(PATIENT_ID) is is_right


def element(tag: int, vr: bytes, value: bytes, *, short: bool) -> bytes:
    """An element in explicit VR."""
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    return head + (struct.pack("<H", len(value)) if short else struct.pack("<HI", 0, len(value))) + value


@pytest.mark.parametrize("step", [1, 7, 4096])
@pytest.mark.parametrize(
    ("before", "after", "remark"),
    [
        (element(0x00091001, b"ZZ", b"abcd", short=False), b"", "unknown value representations"),
        (element(0x00091001, b"??", b"abcd", short=True), b"", "unknown value representations"),
        (element(0x00091001, b"\0\0", b"abcd", short=True), b"", "unknown value representations"),
        (element(0x00020010, b"UI", b"1.2.840.10008.1.2\0", short=True), b"", "elements of group 0002"),
        (b"", struct.pack("<HHI", 0xFFFE, 0xE00D, 0), "delimiters that delimit nothing"),
        (b"", struct.pack("<HHI", 0xFFFE, 0xE0DD, 0), "delimiters that delimit nothing"),
        (b"", b"\0" * 3, "zeros after the last element"),
        (b"", b"\0" * 5000, "zeros after the last element"),
    ],
)
def test_what_senders_do_against_the_rules_is_borne_and_said(
    before: bytes, after: bytes, remark: str, step: int
) -> None:
    values = read(before + _ENCODED + after, ExplicitVRLittleEndian, step)
    assert values.text(PATIENT_ID) == "P1"
    assert [each for each in values.remarks if remark in each]
    assert read(_ENCODED, ExplicitVRLittleEndian, step).remarks == ()


@pytest.mark.parametrize("step", [1, 4096])
def test_a_number_that_comes_twice(step: int) -> None:
    """Readers take the first or the last of two, so two that differ are nobody's."""
    same, other = (element(PATIENT_ID, b"LO", value, short=True) for value in (b"P1", b"P2"))
    at = _ENCODED.index(same)
    values = read(_ENCODED[:at] + same + _ENCODED[at:], ExplicitVRLittleEndian, step)
    assert values.remarks == ("elements that come twice",)
    for twice in (_ENCODED[:at] + other + _ENCODED[at:], _ENCODED + other):
        with pytest.raises(MalformedDataSetError, match="00100020 comes twice, with different values"):
            read(twice, ExplicitVRLittleEndian, step)
    whole = _ENCODED[:at] + _ENCODED[at + len(same) :] + same
    with pytest.raises(MalformedDataSetError, match="00100020 comes after the pixel data"):
        read(whole, ExplicitVRLittleEndian, step)


@pytest.mark.parametrize("after", [b"\0" * 9 + b"x", b"\0\0x", b"\0" * 16 + _ENCODED])
def test_padding_holds_zeros_alone(after: bytes) -> None:
    with pytest.raises(IncompleteInstanceError):
        read(_ENCODED + after, ExplicitVRLittleEndian)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=600), st.sampled_from(TRANSFER_SYNTAXES), st.integers(1, 64))
def test_noise_is_refused_and_never_crashes(noise: bytes, transfer_syntax: str, step: int) -> None:
    try:
        values = read(noise, transfer_syntax, step)
    except IncompleteInstanceError:
        return
    assert sum(map(len, values.raw.values())) <= len(noise) * 1100


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_data_sets_never_crash(data: st.DataObject) -> None:
    encoded = bytearray(_ENCODED)
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        read(bytes(encoded), ExplicitVRLittleEndian)
    except IncompleteInstanceError:
        return
