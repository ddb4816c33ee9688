"""What the components of a JPEG are: its own word against the header's."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import JPEGBaseline8Bit

from service.appraisal.photograph.decode import photograph_from_bytes, photograph_from_dicom
from tests.unit.appraisal.photographs import jpeg, native, portrait, with_frames


@pytest.mark.parametrize("declared", ["RGB", "YBR_FULL", "YBR_FULL_422"])
def test_a_jpegs_own_colour_space_wins_over_a_wrong_attribute(declared):
    ds = with_frames(native(portrait()), [jpeg(portrait())], JPEGBaseline8Bit, declared)
    assert np.abs(photograph_from_dicom(ds).rgb.astype(int) - portrait()).mean() < 4


def _declared(data, samples, photometric):
    """The portrait's frame under a header of a sender's own."""
    ds = with_frames(native(portrait()), [data], JPEGBaseline8Bit, photometric)
    ds.SamplesPerPixel = samples
    return ds


@pytest.mark.parametrize(
    ("samples", "photometric"), [(3, "RGB"), (3, "YBR_FULL_422"), (1, "MONOCHROME2"), (1, "YBR_FULL")]
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_says_itself_how_many_components_it_has(mode, samples, photometric):
    out = io.BytesIO()
    image = Image.fromarray(portrait()).convert(mode)
    image.save(out, "JPEG", quality=95, subsampling=0)
    shown = np.asarray(image.convert("RGB")).astype(int)
    rgb = photograph_from_dicom(_declared(out.getvalue(), samples, photometric)).rgb
    assert np.abs(rgb.astype(int) - shown).mean() < 4


@pytest.mark.parametrize(("samples", "photometric"), [(3, "RGB"), (3, "YBR_FULL_422"), (4, "CMYK")])
def test_printers_colours_are_those_of_the_same_file(samples, photometric):
    out = io.BytesIO()
    Image.fromarray(portrait()).convert("CMYK").save(out, "JPEG", quality=95)
    of_file = photograph_from_bytes(out.getvalue())
    of_dicom = photograph_from_dicom(_declared(out.getvalue(), samples, photometric))
    assert np.abs(of_file.rgb.astype(int) - portrait()).mean() < 8
    assert of_dicom.pixel_sha256 == of_file.pixel_sha256


def test_a_jpeg_that_does_not_say_follows_the_attribute():
    # Components as they are, without JFIF or Adobe marker: the attribute says they are RGB.
    raw = Image.frombytes("YCbCr", portrait().shape[1::-1], portrait().tobytes())
    out = io.BytesIO()
    raw.save(out, "JPEG", quality=95, subsampling=0)
    data = out.getvalue()
    length = int.from_bytes(data[4:6], "big")
    silent = data[:2] + data[4 + length :]
    ds = with_frames(native(portrait()), [silent], JPEGBaseline8Bit, "RGB")
    assert np.abs(photograph_from_dicom(ds).rgb.astype(int) - portrait()).mean() < 4
