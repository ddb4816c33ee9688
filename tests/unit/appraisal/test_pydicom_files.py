"""pydicom's own files: its transfer syntaxes, its photometric interpretations, and its damaged ones."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from pydicom import dcmread
from pydicom.pixels import pixel_array
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from service.appraisal.photograph.decode import MIN_SIDE, photograph_from_bytes
from service.errors import PhotographError, UndecodablePhotographError, UnsupportedPhotographError

_FILES = Path(pydicom.data.__file__).parent / "test_files"
# JFIF in the stream says YCbCr, the attribute says RGB: we follow the stream, pydicom the attribute.
_CONTRADICT = {"SC_rgb_jpeg.dcm"}


def _files() -> list[Path]:
    return [path for path in sorted(_FILES.rglob("*.dcm")) if path.read_bytes()[128:132] == b"DICM"]


@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, about its own damaged files
@pytest.mark.parametrize("path", _files(), ids=lambda path: path.name)
def test_a_file_is_read_as_pydicom_reads_it_or_refused_for_a_reason(path: Path) -> None:
    ds = dcmread(path)
    try:
        photo = photograph_from_bytes(path.read_bytes())
    except UnsupportedPhotographError:
        assert min(ds.Rows, ds.Columns) < MIN_SIDE
        return
    except UndecodablePhotographError:
        with pytest.raises(Exception):  # noqa: B017, PT011 -- pydicom's errors are of every kind
            pixel_array(ds, index=0)
        return
    assert (photo.height, photo.width) == (ds.Rows, ds.Columns)
    if ds.SamplesPerPixel == 3 and ds.BitsStored == 8 and path.name not in _CONTRADICT:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = pixel_array(ds, index=0)
        assert np.abs(photo.rgb.astype(int) - expected).mean() < 3


def test_enough_of_them_are_read() -> None:
    """Among them every transfer syntax the node takes but JPEG Lossless with other predictors."""
    read = set()
    for path in _files():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                photograph_from_bytes(path.read_bytes())
            except PhotographError:
                continue
            ds = dcmread(path, stop_before_pixels=True)
        read.add(str(ds.file_meta.TransferSyntaxUID))
        read.add(str(ds.PhotometricInterpretation))
    assert {"MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "PALETTE COLOR"} <= read
    assert {
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        JPEGBaseline8Bit,
        JPEGExtended12Bit,
        JPEGLosslessSV1,
        JPEGLSLossless,
        JPEGLSNearLossless,
        JPEG2000Lossless,
        JPEG2000,
        RLELossless,
    } <= read


def test_what_is_no_picture_at_all_says_so() -> None:
    with pytest.raises(UndecodablePhotographError, match="neither DICOM nor"):
        photograph_from_bytes(b"plain text that goes on for a while")
