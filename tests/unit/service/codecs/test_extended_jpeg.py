"""JPEG Extended with 12-bit samples: pydicom's own files, dcmtk as the judge, and frames that lie."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import get_frame
from pydicom.uid import JPEGExtended12Bit

from service.appraisal.photograph.decode import photograph_from_bytes, photograph_from_dicom
from service.codecs.decode import decode_frame
from service.codecs.frame import geometry_of
from service.errors import UndecodablePhotographError
from tests.unit.appraisal.photographs import jpeg, native, part10, portrait, with_frames

FILES = ("JPEG-lossy.dcm", "JPGExtended.dcm")


def of_pydicom(name):
    return dcmread(get_testdata_file(name))


@pytest.mark.parametrize("name", FILES)
def test_pydicoms_own_files_are_read(name):
    ds = of_pydicom(name)
    assert ds.file_meta.TransferSyntaxUID == JPEGExtended12Bit
    photo = photograph_from_dicom(ds)
    assert (photo.height, photo.width) == (ds.Rows, ds.Columns)
    assert photo.rgb.std() > 1


@pytest.mark.peers("storescu")
@pytest.mark.parametrize("name", FILES)
def test_grey_pixels_are_those_of_dcmtk(name, tmp_path: Path):
    subprocess.run(["dcmdjpeg", get_testdata_file(name), tmp_path / "plain.dcm"], check=True)  # type: ignore[list-item]
    ds = of_pydicom(name)
    decoded = decode_frame(get_frame(ds.PixelData, 0, number_of_frames=1), geometry_of(ds))
    assert np.array_equal(decoded.pixels, dcmread(tmp_path / "plain.dcm").pixel_array)


@pytest.mark.peers("storescu")
@pytest.mark.parametrize("colours", ["+cr", "+cy"])
def test_colours_come_back(colours, tmp_path: Path):
    """Encoded by dcmtk as RGB and as YBR with halved chroma."""
    ds = native(portrait(), BitsAllocated=16, BitsStored=12, HighBit=11)
    ds.PixelData = (portrait().astype(np.uint16) * 16).tobytes()
    ds["PixelData"].VR = "OW"
    (tmp_path / "plain.dcm").write_bytes(part10(ds))
    encoded = tmp_path / "encoded.dcm"
    subprocess.run(["dcmcjpeg", "+ee", colours, tmp_path / "plain.dcm", encoded], check=True)
    assert dcmread(encoded).file_meta.TransferSyntaxUID == JPEGExtended12Bit
    rgb = photograph_from_bytes(encoded.read_bytes()).rgb
    assert np.abs(rgb.astype(int) - portrait()).mean() < 3


@pytest.mark.parametrize(
    "change",
    [{"Rows": 100}, {"Columns": 99}, {"SamplesPerPixel": 3}, {"BitsAllocated": 8}],
    ids=str,
)
def test_a_frame_that_is_not_as_described_is_undecodable(change):
    ds = of_pydicom(FILES[0])
    for keyword, value in change.items():
        setattr(ds, keyword, value)
    with pytest.raises(UndecodablePhotographError):
        photograph_from_dicom(ds)


def test_a_frame_of_8_bits_under_12_is_undecodable():
    ds = with_frames(native(portrait(), BitsStored=12), [jpeg(portrait())], JPEGExtended12Bit, "YBR_FULL_422")
    with pytest.raises(UndecodablePhotographError):
        photograph_from_dicom(ds)


@pytest.mark.parametrize("length", [0, 1, 3, 5, 20, 200])
def test_a_frame_that_ends_early_is_undecodable(length):
    ds = of_pydicom(FILES[0])
    frame = get_frame(ds.PixelData, 0, number_of_frames=1)
    with pytest.raises(UndecodablePhotographError):
        decode_frame(frame[:length], geometry_of(ds))
