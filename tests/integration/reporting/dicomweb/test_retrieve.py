"""WADO-RS: instances, metadata, bulk data, frames, pictures."""

from __future__ import annotations

import base64
import struct
from email import message_from_bytes
from io import BytesIO

import numpy as np
import pytest
from httpx import Response
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from tests.dicom_objects import photograph
from tests.integration.reporting.dicomweb.conftest import BASE_URL, Web, part10

ANY_DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*'
ANY_FRAME = "multipart/related; type=application/octet-stream; transfer-syntax=*"
JSON = "application/dicom+json"


def path_of(ds: Dataset) -> str:
    return f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"


def parts(answer: Response) -> list[tuple[str, bytes]]:
    """Content type and content of each part."""
    assert answer.status_code == 200, answer.text
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = message_from_bytes(head + answer.content)
    boundary = message.get_boundary()
    assert boundary is not None
    pieces = answer.content.split(f"--{boundary}".encode())
    assert pieces[0] == b""
    assert pieces[-1].startswith(b"--")
    found = []
    for piece in pieces[1:-1]:
        headers, _, content = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        content_type = next(x for x in headers.decode().split("\r\n") if x.startswith("Content-Type"))
        found.append((content_type.partition(": ")[2], content.removesuffix(b"\r\n")))
    return found


def test_a_study_comes_as_stored(web: Web, held: list[Dataset]) -> None:
    answer = web.get(f"/studies/{held[0].StudyInstanceUID}", ANY_DICOM)
    received = [dcmread(BytesIO(content)) for _, content in parts(answer)]
    sent = {ds.SOPInstanceUID: ds for ds in held[:3]}
    assert {ds.SOPInstanceUID for ds in received} == set(sent)
    for ds in received:
        assert ds == sent[ds.SOPInstanceUID]
        assert ds.file_meta.TransferSyntaxUID == sent[ds.SOPInstanceUID].file_meta.TransferSyntaxUID


def test_without_a_wish_the_default_is_explicit_little_endian(web: Web, held: list[Dataset]) -> None:
    ((content_type, content),) = parts(
        web.get(path_of(held[0]), 'multipart/related; type="application/dicom"')
    )
    assert content_type == f"application/dicom; transfer-syntax={ExplicitVRLittleEndian}"
    ds = dcmread(BytesIO(content))
    assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert ds.PhotometricInterpretation == "RGB"
    expected = Image.open(BytesIO(get_frame(held[0].PixelData, 0, number_of_frames=1))).convert("RGB")
    assert np.abs(ds.pixel_array.astype(int) - np.asarray(expected).astype(int)).max() <= 2


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, JPEGLSLossless, JPEG2000Lossless, RLELossless],
)
def test_recoded_without_loss(web: Web, held: list[Dataset], syntax: str) -> None:
    accept = f'multipart/related; type="application/dicom"; transfer-syntax={syntax}'
    ((_, content),) = parts(web.get(path_of(held[1]), accept))
    ds = dcmread(BytesIO(content))
    assert ds.file_meta.TransferSyntaxUID == syntax
    assert ds.SOPInstanceUID == held[1].SOPInstanceUID
    assert np.array_equal(ds.pixel_array, held[1].pixel_array)


def test_one_instance_by_itself(web: Web, held: list[Dataset]) -> None:
    answer = web.get(path_of(held[0]), "application/dicom; transfer-syntax=*")
    assert answer.headers["content-type"] == f"application/dicom; transfer-syntax={JPEGBaseline8Bit}"
    assert dcmread(BytesIO(answer.content)) == held[0]
    etag = answer.headers["etag"]
    again = web.get(path_of(held[0]), "application/dicom; transfer-syntax=*", if_none_match=etag)
    assert (again.status_code, again.content) == (304, b"")
    piece = web.get(path_of(held[0]), "application/dicom; transfer-syntax=*", range="bytes=128-131")
    assert (piece.status_code, piece.content) == (206, b"DICM")
    assert piece.headers["content-range"] == f"bytes 128-131/{len(answer.content)}"
    tail = web.get(path_of(held[0]), "application/dicom; transfer-syntax=*", range="bytes=-10")
    assert tail.content == answer.content[-10:]
    beyond = web.get(path_of(held[0]), "application/dicom; transfer-syntax=*", range="bytes=99999999-")
    assert beyond.status_code == 416


def test_lossy_is_never_made(web: Web, held: list[Dataset]) -> None:
    accept = f'multipart/related; type="application/dicom"; transfer-syntax={JPEGBaseline8Bit}'
    assert web.get(path_of(held[1]), accept).status_code == 406


def test_metadata(web: Web, held: list[Dataset]) -> None:
    answer = web.get(f"/studies/{held[0].StudyInstanceUID}/metadata", JSON)
    assert answer.headers["content-type"] == JSON
    found = {each["00080018"]["Value"][0]: each for each in answer.json()}
    assert set(found) == {ds.SOPInstanceUID for ds in held[:3]}
    one = found[held[0].SOPInstanceUID]
    assert one["00280010"] == {"vr": "US", "Value": [48]}
    assert one["00200013"] == {"vr": "IS", "Value": [1]}
    assert one["00083002"]["Value"] == [JPEGBaseline8Bit]
    assert one["7FE00010"]["BulkDataURI"] == f"{BASE_URL}{path_of(held[0])}/bulkdata/7FE00010"
    assert one["00090010"] == {"vr": "LO", "Value": ["HOSPITAL"]}
    assert one["00091001"]["BulkDataURI"].endswith("/bulkdata/00091001")
    read = Dataset.from_json({tag: element for tag, element in one.items() if "BulkDataURI" not in element})
    assert (read.PatientName, read.StudyDescription) == ("Doe^Jane", held[0].StudyDescription)
    again = web.get(
        f"/studies/{held[0].StudyInstanceUID}/metadata", JSON, if_none_match=answer.headers["etag"]
    )
    assert again.status_code == 304


def test_metadata_of_another_character_set(web: Web, held: list[Dataset]) -> None:
    (one,) = web.get(f"{path_of(held[3])}/metadata", JSON).json()
    assert one["00100010"]["Value"] == [{"Alphabetic": "Müller^Jörg"}]
    assert one["00080005"]["Value"] == ["ISO_IR 192"]


def test_bulk_data(web: Web, held: list[Dataset]) -> None:
    private = f"{path_of(held[0])}/bulkdata/00091001"
    assert web.get(private, "application/octet-stream").content == bytes(range(256)) * 8
    ((_, content),) = parts(web.get(private, 'multipart/related; type="application/octet-stream"'))
    assert content == bytes(range(256)) * 8
    native = web.get(f"{path_of(held[1])}/bulkdata/7FE00010", "application/octet-stream")
    assert native.content == held[1].PixelData
    piece = web.get(
        f"{path_of(held[1])}/bulkdata/7FE00010", "application/octet-stream", range="bytes=100-199"
    )
    assert piece.content == held[1].PixelData[100:200]
    compressed = parts(web.get(f"{path_of(held[2])}/bulkdata/7FE00010", ANY_FRAME))
    assert len(compressed) == 3


@pytest.mark.parametrize(
    ("below", "status"),
    [
        ("/bulkdata/00091099", 404),
        ("/bulkdata/0009", 400),
        ("/bulkdata/00091001/1/00080018", 404),
        ("/frames/2", 404),
        ("/frames/0", 400),
        ("/frames/one", 400),
        ("/rendered?quality=0", 400),
        ("/rendered?viewport=many", 400),
        ("/rendered?viewport=100000,1", 400),
        ("/rendered?viewport=64,48,5000,5000,10,10", 400),
        ("/rendered?window=1", 400),
        ("/rendered?window=1,0,linear", 400),
        ("/rendered?window=1,10,cubic", 400),
    ],
)
def test_refusals(web: Web, held: list[Dataset], below: str, status: int) -> None:
    answer = web.get(path_of(held[0]) + below)
    assert answer.status_code == status
    assert answer.json()["error"]


@pytest.mark.parametrize("path", ["", "/metadata", "/rendered", "/thumbnail", "/frames/1"])
def test_what_is_not_held(web: Web, held: list[Dataset], path: str) -> None:
    missing = f"/studies/{held[0].StudyInstanceUID}/series/1.2.3/instances/1.2.4{path}"
    assert web.get(missing).status_code == 404


@pytest.mark.parametrize("path", ["", "/frames/1", "/rendered", "/metadata"])
def test_what_cannot_be_made(web: Web, held: list[Dataset], path: str) -> None:
    assert web.get(path_of(held[0]) + path, "text/html").status_code == 406


def test_a_frame_as_stored(web: Web, held: list[Dataset]) -> None:
    expected = get_frame(held[0].PixelData, 0, number_of_frames=1)
    for accept, content_type in (
        (ANY_FRAME, f"application/octet-stream; transfer-syntax={JPEGBaseline8Bit}"),
        ("multipart/related; type=image/jpeg", f"image/jpeg; transfer-syntax={JPEGBaseline8Bit}"),
        (
            f'multipart/related; type="image/jls"; transfer-syntax={JPEGBaseline8Bit}, {ANY_FRAME};q=0.5',
            f"application/octet-stream; transfer-syntax={JPEGBaseline8Bit}",
        ),
        ("*/*", f"image/jpeg; transfer-syntax={JPEGBaseline8Bit}"),
    ):
        answer = web.get(f"{path_of(held[0])}/frames/1", accept)
        ((found, content),) = parts(answer)
        assert found == content_type
        assert content.rstrip(b"\0") == expected.rstrip(b"\0")
    single = web.get(f"{path_of(held[0])}/frames/1", "image/jpeg")
    assert single.headers["content-type"].startswith("image/jpeg")
    assert Image.open(BytesIO(single.content)).size == (64, 48)


def test_frames_of_a_multi_frame_instance(web: Web, held: list[Dataset]) -> None:
    found = parts(web.get(f"{path_of(held[2])}/frames/3,1", ANY_FRAME))
    colours = [Image.open(BytesIO(content)).convert("RGB").getpixel((5, 5)) for _, content in found]
    assert [np.argmax(colour) for colour in colours] == [2, 0]


def test_native_frames(web: Web, held: list[Dataset]) -> None:
    native = 'multipart/related; type="application/octet-stream"'
    ((content_type, content),) = parts(web.get(f"{path_of(held[1])}/frames/1", native))
    assert content_type == f"application/octet-stream; transfer-syntax={ExplicitVRLittleEndian}"
    assert content == held[1].PixelData
    ((_, decoded),) = parts(web.get(f"{path_of(held[2])}/frames/2", native))
    assert np.argmax(np.frombuffer(decoded, np.uint8).reshape(32, 48, 3)[4, 4]) == 1


@pytest.mark.parametrize(
    ("media_type", "syntax"), [("image/jls", JPEGLSLossless), ("image/jp2", JPEG2000Lossless)]
)
def test_frames_are_compressed_as_asked(web: Web, held: list[Dataset], media_type: str, syntax: str) -> None:
    ((content_type, content),) = parts(
        web.get(f"{path_of(held[1])}/frames/1", f'multipart/related; type="{media_type}"')
    )
    assert content_type == f"{media_type}; transfer-syntax={syntax}"
    assert content[:2] in (b"\xff\xd8", b"\xff\x4f")


def picture(answer: Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(BytesIO(answer.content))


def test_rendered(web: Web, held: list[Dataset]) -> None:
    shown = picture(web.get(f"{path_of(held[1])}/rendered", "image/png"))
    assert shown.format == "PNG"
    assert np.array_equal(np.asarray(shown), held[1].pixel_array)
    jpeg = web.get(f"{path_of(held[1])}/rendered", "image/jpeg")
    assert picture(jpeg).format == "JPEG"
    rough = web.get(f"{path_of(held[1])}/rendered?quality=10", "image/jpeg")
    assert len(rough.content) < len(jpeg.content)
    by_parameter = web.get(f"{path_of(held[1])}/rendered?accept=image/png")
    assert picture(by_parameter).format == "PNG"
    again = web.get(f"{path_of(held[1])}/rendered", "image/jpeg", if_none_match=jpeg.headers["etag"])
    assert again.status_code == 304


def test_viewports(web: Web, held: list[Dataset]) -> None:
    path = f"{path_of(held[1])}/rendered?viewport="
    assert picture(web.get(path + "32,1000", "image/png")).size == (32, 24)
    region = picture(web.get(path + "10,10,20,10,10,10", "image/png"))
    assert np.array_equal(np.asarray(region), held[1].pixel_array[10:20, 20:30])
    mirrored = picture(web.get(path + "10,10,20,10,-10,10", "image/png"))
    assert np.array_equal(np.asarray(mirrored), held[1].pixel_array[10:20, 20:30][:, ::-1])


def test_frames_and_thumbnails(web: Web, held: list[Dataset]) -> None:
    green = picture(web.get(f"{path_of(held[2])}/frames/2/rendered", "image/png"))
    assert np.argmax(np.asarray(green)[4, 4]) == 1
    study = f"/studies/{held[0].StudyInstanceUID}"
    small = picture(web.get(f"{study}/thumbnail", "image/jpeg"))
    assert max(small.size) == 256
    assert picture(web.get(f"{study}/series/{held[2].SeriesInstanceUID}/thumbnail")).size == (256, 171)
    every = parts(web.get(f"{study}/rendered", 'multipart/related; type="image/jpeg"'))
    assert [content_type for content_type, _ in every] == ["image/jpeg"] * 3


def grey(**attributes: object) -> Dataset:
    """A ramp of 0 to 4095 in 12 bits."""
    ds = photograph(size=(16, 64), transfer_syntax=ExplicitVRLittleEndian)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    del ds.PlanarConfiguration
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.PixelData = np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (16, 1)).tobytes()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def test_windows_and_inversion(web: Web) -> None:
    plain, inverse = grey(), grey(PhotometricInterpretation="MONOCHROME1")
    assert web.store(part10(plain), part10(inverse)).status_code == 200
    row = np.asarray(picture(web.get(f"{path_of(plain)}/rendered", "image/png")))[0].astype(int)
    assert (row[0], row[-1]) == (0, 255)
    turned = np.asarray(picture(web.get(f"{path_of(inverse)}/rendered", "image/png")))[0].astype(int)
    assert np.array_equal(turned, 255 - row)
    narrow = picture(web.get(f"{path_of(plain)}/rendered?window=2048,100,linear", "image/png"))
    shown = np.asarray(narrow)[0]
    assert (shown[20], shown[44]) == (0, 255)
    soft = picture(web.get(f"{path_of(plain)}/rendered?window=2048,2000,sigmoid", "image/png"))
    assert 0 < np.asarray(soft)[0][20] < 128


def test_broken_pixel_data_are_no_picture(web: Web) -> None:
    ds = photograph()
    ds.PixelData = ds.PixelData[:60] + b"\0" * 40
    ds["PixelData"].is_undefined_length = True
    broken = photograph(transfer_syntax=ExplicitVRLittleEndian)
    broken.PixelData = broken.PixelData[:100]
    assert web.store(part10(broken)).status_code == 200
    assert web.get(f"{path_of(broken)}/rendered").status_code == 406
    assert web.get(f"{path_of(broken)}/frames/1", ANY_FRAME).status_code == 406


def test_what_can_be_sent_arrives_though_the_rest_cannot(web: Web) -> None:
    """A damaged picture, and a UL of three bytes: the one is left out, the other comes."""
    study = generate_uid()
    whole, damaged, odd = (photograph(patient_id=name) for name in ("WHOLE", "DAMAGED", "ODD"))
    for ds in (whole, damaged, odd):
        ds.StudyInstanceUID = study
    damaged.PixelData = encapsulate([b"\xff\xd8 no picture \xff\xd9"])
    contents = [part10(whole), part10(damaged)]
    strange = struct.pack("<HH2sH", 0x0018, 0x9219, b"UL", 3) + b"abc"
    content = part10(odd)
    at = content.index(struct.pack("<HH2s", 0x0020, 0x000D, b"UI"))
    assert web.store(*contents, content[:at] + strange + content[at:]).status_code == 200
    implicit = 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2'
    answer = web.get(f"/studies/{study}", implicit)
    assert answer.status_code == 200
    came = {dcmread(BytesIO(content)).PatientID for _, content in parts(answer)}
    assert came == {"WHOLE", "ODD"}
    pictures = web.get(f"/studies/{study}/rendered", "multipart/related; type=image/png")
    assert (pictures.status_code, len(parts(pictures))) == (200, 2)


def test_inline_values_survive(web: Web) -> None:
    ds = photograph()
    ds.private_block(0x0011, "X", create=True).add_new(0x01, "UN", b"\x01\x02\x03\x04")
    assert web.store(part10(ds)).status_code == 200
    (one,) = web.get(f"{path_of(ds)}/metadata", JSON).json()
    assert base64.b64decode(one["00111001"]["InlineBinary"]) == b"\x01\x02\x03\x04"
