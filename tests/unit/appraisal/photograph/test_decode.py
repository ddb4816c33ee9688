from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps
from pydicom import dcmread
from pydicom.encaps import get_frame
from pydicom.uid import (
    MPEG2MPML,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from service.appraisal.photograph.decode import (
    photograph_from_bytes,
    photograph_from_dicom,
    photograph_from_rgb,
    read_photograph,
)
from service.errors import UndecodablePhotographError, UnsupportedPhotographError
from tests.unit.appraisal.photographs import (
    EXACT,
    LOSSY,
    encoded,
    jpeg,
    native,
    part10,
    portrait,
    with_frames,
)


@pytest.mark.parametrize("syntax", EXACT, ids=lambda uid: uid.keyword)
def test_lossless_syntaxes_give_the_pixels_back(syntax):
    assert np.array_equal(photograph_from_bytes(encoded(portrait(), syntax)).rgb, portrait())


@pytest.mark.parametrize("syntax", LOSSY, ids=lambda uid: uid.keyword)
def test_lossy_syntaxes_come_close(syntax):
    rgb = photograph_from_bytes(encoded(portrait(), syntax)).rgb
    assert np.abs(rgb.astype(int) - portrait()).mean() < 4


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGLSLossless, JPEG2000Lossless, *EXACT[:5]])
def test_pixel_data_cut_short_is_an_error(syntax):
    ds = dcmread(io.BytesIO(encoded(portrait(), syntax)))
    if syntax.is_encapsulated and syntax != RLELossless:
        frame = get_frame(ds.PixelData, 0, number_of_frames=1)
        with_frames(ds, [frame[: len(frame) // 2]], syntax, ds.PhotometricInterpretation)
    else:
        ds.PixelData = ds.PixelData[: len(ds.PixelData) // 2]
    with pytest.raises(UndecodablePhotographError):
        photograph_from_dicom(ds)


@pytest.mark.parametrize("syntax", [*EXACT, *LOSSY], ids=lambda uid: uid.keyword)
def test_a_file_cut_short_is_an_error(syntax):
    data = encoded(portrait(), syntax)
    with pytest.raises(UndecodablePhotographError):
        photograph_from_bytes(data[: len(data) * 2 // 3])


def test_native_ybr_full_becomes_rgb():
    ybr = np.asarray(Image.fromarray(portrait()).convert("YCbCr"))
    rgb = photograph_from_dicom(native(ybr, "YBR_FULL")).rgb
    assert np.abs(rgb.astype(int) - portrait()).max() <= 3


def test_planar_configuration_1():
    planes = np.ascontiguousarray(portrait().transpose(2, 0, 1)).tobytes()
    ds = native(portrait(), PlanarConfiguration=1, PixelData=planes)
    assert np.array_equal(photograph_from_dicom(ds).rgb, portrait())


def test_sixteen_bits_are_scaled_by_bits_stored():
    wide = native(portrait().astype(np.uint16) * 16, BitsStored=12, HighBit=11)
    assert np.abs(photograph_from_dicom(wide).rgb.astype(int) - portrait()).max() <= 1


def test_monochrome_2_and_1():
    grey = portrait()[..., 1].copy()
    light = photograph_from_dicom(native(grey, "MONOCHROME2")).rgb
    dark = photograph_from_dicom(native(255 - grey, "MONOCHROME1")).rgb
    assert np.array_equal(light, np.repeat(grey[..., None], 3, axis=2))
    assert np.array_equal(light, dark)


def test_monochrome_window_is_applied():
    grey = portrait()[..., 1].astype(np.uint16) * 4 + 1000
    ds = native(grey, "MONOCHROME2", WindowCenter=1512, WindowWidth=1024)
    rgb = photograph_from_dicom(ds).rgb[..., 0].astype(int)
    assert np.corrcoef(rgb.ravel(), portrait()[..., 1].ravel())[0, 1] > 0.999
    assert np.ptp(rgb) > 200


def test_palette_colour():
    image = Image.fromarray(portrait()).quantize(64)
    table = np.zeros((256, 3), np.uint8)
    colours = np.array(image.getpalette(), np.uint8).reshape(-1, 3)
    table[: len(colours)] = colours
    elements = {
        f"{colour}PaletteColorLookupTable{part}": value
        for column, colour in enumerate(("Red", "Green", "Blue"))
        for part, value in (
            ("Descriptor", [256, 0, 16]),
            ("Data", (table[:, column].astype(np.uint16) * 257).tobytes()),
        )
    }
    rgb = photograph_from_dicom(native(np.asarray(image), "PALETTE COLOR", **elements)).rgb
    assert np.array_equal(rgb, np.asarray(image.convert("RGB")))


def test_the_first_of_several_frames_is_taken():
    other = portrait()[::-1].copy()
    ds = native(portrait(), NumberOfFrames=2, PixelData=portrait().tobytes() + other.tobytes())
    assert np.array_equal(photograph_from_dicom(ds).rgb, portrait())
    ds = with_frames(
        native(portrait(), NumberOfFrames=2),
        [jpeg(portrait()), jpeg(other)],
        JPEGBaseline8Bit,
        "YBR_FULL_422",
    )
    assert np.abs(photograph_from_dicom(ds).rgb.astype(int) - portrait()).mean() < 4


def _wide_profile() -> bytes:
    """An ICC profile whose numbers mean something other than sRGB's."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def _swapped_profile() -> bytes:
    """The sRGB profile with its red and blue primaries exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(profile[128:132], "big")
    tags = {bytes(profile[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    profile[red + 4 : red + 12], profile[blue + 4 : blue + 12] = (
        profile[blue + 4 : blue + 12],
        profile[red + 4 : red + 12],
    )
    return bytes(profile)


def test_an_icc_profile_is_brought_to_srgb_in_dicom_and_files():
    out = io.BytesIO()
    Image.fromarray(portrait()).save(out, "PNG", icc_profile=_swapped_profile())
    for photograph in (
        photograph_from_dicom(native(portrait(), ICCProfile=_swapped_profile())),
        photograph_from_bytes(out.getvalue()),
    ):
        assert np.abs(photograph.rgb.astype(int) - portrait()[..., ::-1]).mean() < 3
        assert photograph.warnings == ()


@pytest.mark.parametrize("profile", [b"no profile at all" * 20, _wide_profile()])
def test_an_unusable_icc_profile_is_said(profile):
    photograph = photograph_from_dicom(native(portrait(), ICCProfile=profile))
    assert np.array_equal(photograph.rgb, portrait())
    assert "ICC profile" in photograph.warnings[0]


def exif_jpeg(pixels: np.ndarray, orientation: int, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(np.ascontiguousarray(pixels), exif=exif, **options)


def framed(frame: bytes, rows: int, columns: int, syntax: str = JPEGBaseline8Bit, **elements: object):
    """A photograph whose one frame is a JPEG stream."""
    ds = native(np.zeros((rows, columns, 3), np.uint8), **elements)
    return with_frames(ds, [frame], syntax, "YBR_FULL_422")


def is_portrait(rgb: np.ndarray, expected: np.ndarray, most: float = 4) -> bool:
    return rgb.shape == expected.shape and np.abs(rgb.astype(int) - expected).mean() < most


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_file_and_the_same_in_dicom_are_the_same_photograph(orientation):
    wide = portrait()[:200]
    frame = exif_jpeg(wide, orientation, icc_profile=_swapped_profile())
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(exif_jpeg(wide, orientation)))))
    from_file, from_dicom = photograph_from_bytes(frame), photograph_from_dicom(framed(frame, 200, 320))
    assert from_file.pixel_sha256 == from_dicom.pixel_sha256
    assert is_portrait(from_dicom.rgb, expected[..., ::-1])  # the profile exchanges red and blue


def test_what_the_data_set_says_of_colour_and_orientation_counts():
    frame = exif_jpeg(portrait(), 3, icc_profile=_swapped_profile())
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    ds = framed(frame, 320, 320, PatientOrientation=["L", "F"], ICCProfile=own)
    assert is_portrait(photograph_from_dicom(ds).rgb, portrait())


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (["L", "F"], lambda p: p),
        (["R", "F"], lambda p: p[:, ::-1]),
        (["R", "H"], lambda p: p[::-1, ::-1]),
        (["L", "H"], lambda p: p[::-1]),
        (["F", "L"], lambda p: p.swapaxes(0, 1)),
        (["F", "R"], np.rot90),
        (["H", "L"], lambda p: np.rot90(p, -1)),
        (["H", "R"], lambda p: np.rot90(p, 2).swapaxes(0, 1)),
        (["LA", "FP"], lambda p: p),
        (["A", "F"], lambda p: p),
        (["P", "H"], lambda p: p[::-1, ::-1]),
        (["F", "A"], np.rot90),
        (["H", "P"], lambda p: np.rot90(p, -1)),
        (["X", "Y"], lambda p: p),
        (["L"], lambda p: p),
    ],
)
def test_patient_orientation_is_honoured(orientation, stored):
    upright = portrait()[:250]
    ds = native(np.ascontiguousarray(stored(upright)), PatientOrientation=orientation)
    assert np.array_equal(photograph_from_dicom(ds).rgb, upright)


def test_rows_and_columns_that_are_those_after_exif():
    wide = portrait()[:200]
    frame = exif_jpeg(np.rot90(wide), 6)  # stored on its side
    for orientation in ([], ["L", "F"]):
        ds = framed(frame, 200, 320, PatientOrientation=orientation)  # as it is shown
        photograph = photograph_from_dicom(ds)
        assert is_portrait(photograph.rgb, wide)
        assert "exchanged" in photograph.warnings[0]
    silent = framed(jpeg(np.ascontiguousarray(np.rot90(wide))), 200, 320)
    assert is_portrait(photograph_from_dicom(silent).rgb, np.rot90(wide))


@pytest.mark.parametrize(
    "elements",
    [
        {"PixelAspectRatio": [4, 3]},
        {"PixelSpacing": [0.4, 0.3]},
        {"ImagerPixelSpacing": [0.04, 0.03]},
        {"PixelAspectRatio": [3, 4]},
    ],
)
def test_pixels_that_are_not_square_are_made_so(elements):
    ((high, wide),) = elements.values()
    height, width = (240, 320) if high > wide else (320, 240)
    squeezed = np.asarray(Image.fromarray(portrait()).resize((width, height), Image.Resampling.LANCZOS))
    photograph = photograph_from_dicom(native(squeezed, **elements))
    assert is_portrait(photograph.rgb, portrait(), 8)
    assert "not square" in photograph.warnings[0]


@pytest.mark.parametrize("ratio", [[1, 1], [0, 0], [-4, 3], [4, 0], [1, 100], [1]])
def test_a_pixel_aspect_ratio_that_says_nothing_changes_nothing(ratio):
    assert np.array_equal(photograph_from_dicom(native(portrait(), PixelAspectRatio=ratio)).rgb, portrait())


def test_progressive_jpeg():
    ds = framed(jpeg(portrait(), progressive=True), 320, 320, "1.2.840.10008.1.2.4.55")
    assert is_portrait(photograph_from_dicom(ds).rgb, portrait())


@pytest.mark.parametrize(
    "elements",
    [
        {"RescaleSlope": None, "RescaleIntercept": None, "WindowCenter": 128, "WindowWidth": 256},
        {"RescaleSlope": 0, "RescaleIntercept": 0},
        {"WindowCenter": 0, "WindowWidth": 0},
        {"WindowCenter": [0, 128], "WindowWidth": [0, 256]},
        {"WindowCenter": None, "WindowWidth": None},
        {"WindowCenter": 128},
        {"VOILUTFunction": "NONE OF ANY", "WindowCenter": 128, "WindowWidth": 256},
    ],
)
def test_grey_transformations_that_cannot_be_used_count_as_none(elements):
    grey = portrait()[..., 1].copy()
    rgb = photograph_from_dicom(native(grey, "MONOCHROME2", **elements)).rgb
    assert np.abs(rgb[..., 0].astype(int) - grey).max() <= 3


@pytest.mark.parametrize("photometric", ["RGB", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("shift", "elements"),
    [
        (4, {"BitsStored": 12, "HighBit": 11}),
        (8, {"BitsStored": 12, "HighBit": 15}),  # in the high bits
        (4, {"BitsStored": 12, "HighBit": 15}),  # said to be, and are not
        (0, {}),  # of 8, 10, 12 and 14, said to be of 16
        (2, {}),
        (4, {}),
        (6, {}),
    ],
)
def test_fewer_bits_in_sixteen_are_as_bright_as_they_were(photometric, shift, elements):
    pixels = portrait() if photometric == "RGB" else portrait()[..., 1]
    wide = pixels.astype(np.uint16) << shift
    rgb = photograph_from_dicom(native(wide, photometric, **elements)).rgb
    shown = rgb if photometric == "RGB" else rgb[..., 0]
    assert np.abs(shown.astype(int) - pixels).max() <= 2


def png(pixels: np.ndarray, significant: int | None) -> bytes:
    """A PNG of 16 bits a sample, (H, W) or (H, W, 3) uint16, with a chunk that says how many are used."""
    _, encoded = cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    data = encoded.tobytes()
    if significant is None:
        return data
    content = b"sBIT" + bytes([significant] * (3 if pixels.ndim == 3 else 1))
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return data[:33] + chunk + data[33:]  # after IHDR


@pytest.mark.parametrize("channels", [slice(None), 1])
@pytest.mark.parametrize(
    ("scale", "significant"), [(257, None), (257, 12), (16, 12), (16, None), (64, 14), (64, None), (4, None)]
)
def test_a_png_of_sixteen_bits_is_as_bright_as_it_was(channels, scale, significant):
    pixels = portrait()[..., channels]
    rgb = photograph_from_bytes(png(pixels.astype(np.uint16) * scale, significant)).rgb
    shown = rgb if pixels.ndim == 3 else rgb[..., 0]
    assert np.abs(shown.astype(int) - pixels).max() <= 2


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS:UserWarning")
@pytest.mark.parametrize("elements", [{"PhotometricInterpretation": "rgb "}, {"PlanarConfiguration": None}])
def test_pixels_that_are_described_carelessly(elements):
    dataset = native(portrait())
    for name, value in elements.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    assert np.array_equal(photograph_from_dicom(part10(dataset)).rgb, portrait())


@pytest.mark.parametrize("table", [b"", b"\0" * 4, b"\x39\x30\0\0"])
@pytest.mark.parametrize("pieces", [1, 3])
def test_the_offset_table_of_a_single_frame_may_be_wrong(table, pieces):
    whole = encoded(portrait(), JPEGBaseline8Bit)
    dataset = dcmread(io.BytesIO(whole))
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    step = -(-len(frame) // pieces) // 2 * 2 + 2
    fragments = [frame[at : at + step] for at in range(0, len(frame), step)]
    items = [table, *(each + b"\0" * (len(each) % 2) for each in fragments)]
    dataset.PixelData = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(each)) + each for each in items)
    assert np.array_equal(photograph_from_dicom(part10(dataset)).rgb, photograph_from_dicom(whole).rgb)


def test_a_stray_group_2_in_the_data_set_does_not_rule():
    data = part10(native(portrait()))
    stray = struct.pack("<HH2sH", 2, 0x10, b"UI", 22) + JPEGBaseline8Bit.encode()
    at = data.index(struct.pack("<HH", 0x0008, 0x0016))
    assert np.array_equal(photograph_from_bytes(data[:at] + stray + data[at:]).rgb, portrait())


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16", "1"])
def test_files_of_every_mode_are_read(mode):
    image = Image.fromarray(portrait())
    if mode == "I;16":
        image = Image.fromarray(portrait()[..., 1].astype(np.uint16) * 257)
    else:
        image = image.convert(mode)
    out = io.BytesIO()
    image.save(out, "TIFF" if mode == "CMYK" else "PNG")
    rgb = photograph_from_bytes(out.getvalue()).rgb
    assert rgb.shape == portrait().shape
    if mode != "1":
        assert np.corrcoef(rgb[..., 1].ravel(), portrait()[..., 1].ravel())[0, 1] > 0.95


@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "WEBP"])
def test_a_picture_file_cut_short_is_an_error(suffix):
    out = io.BytesIO()
    Image.fromarray(portrait()).save(out, suffix)
    with pytest.raises(UndecodablePhotographError):
        photograph_from_bytes(out.getvalue()[: len(out.getvalue()) // 2])


@pytest.mark.parametrize("data", [b"", b"nothing", b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICMgarbage" * 50])
def test_rubbish_is_undecodable(data):
    with pytest.raises(UndecodablePhotographError):
        photograph_from_bytes(data)


def test_no_pixel_data_is_undecodable():
    ds = native(portrait())
    del ds.PixelData
    with pytest.raises(UndecodablePhotographError):
        photograph_from_bytes(part10(ds))


def test_a_jpeg_of_another_size_than_announced_is_undecodable():
    ds = with_frames(native(portrait()), [jpeg(portrait()[:100])], JPEGBaseline8Bit, "YBR_FULL_422")
    with pytest.raises(UndecodablePhotographError):
        photograph_from_dicom(ds)


def test_video_is_unsupported():
    ds = with_frames(native(portrait()), [jpeg(portrait())], MPEG2MPML, "YBR_PARTIAL_420")
    with pytest.raises(UnsupportedPhotographError):
        photograph_from_dicom(ds)


def test_a_photograph_far_too_large_or_small_is_unsupported():
    with pytest.raises(UnsupportedPhotographError):
        photograph_from_dicom(native(portrait(), Rows=60_000, Columns=60_000))
    with pytest.raises(UnsupportedPhotographError):
        photograph_from_rgb(np.zeros((8, 300, 3), np.uint8))


def test_the_hash_is_of_shape_and_pixels():
    one, same = photograph_from_rgb(portrait()), photograph_from_rgb(portrait().copy())
    wide = photograph_from_rgb(portrait().reshape(160, 640, 3))
    assert one.pixel_sha256 == same.pixel_sha256 != wide.pixel_sha256
    assert not one.rgb.flags.writeable


def test_a_missing_file_is_undecodable(tmp_path):
    with pytest.raises(UndecodablePhotographError):
        read_photograph(tmp_path / "none.jpg")
