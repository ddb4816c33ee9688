"""Result objects as other people's programs see them: dciodvfy, dcmtk, Orthanc and its DICOMweb."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from pydicom.uid import MultiFrameTrueColorSecondaryCaptureImageStorage

from reporting.dicom import parametric_map, secondary_capture, structured_report
from reporting.dicom.context import ReportContext, ResultObject
from reporting.identifiers import ResultKind
from service.pictures.encode import decode, encode_jpeg, encode_png
from service.pictures.native_map import NativeMap
from service.records import RejectionReason
from tests.integration.reporting.dicom.orthanc import running_orthanc
from tests.unit.reporting.charsets import CHARSETS, Charset
from tests.unit.reporting.photographs import (
    COLUMNS,
    ROWS,
    SOP_UID,
    STUDY_UID,
    context,
    photograph,
    pixels,
    rejected,
)

PICTURE = encode_jpeg(pixels(60, 50))
SHOWN = decode(PICTURE)
LOSSLESS = encode_png(pixels(60, 50))
MAP = NativeMap(
    difference=np.linspace(0, 2, 32 * 32, dtype=np.float32).reshape(32, 32),
    to_photograph=np.array([[1.1, -0.2, 3], [0.2, 1.1, 4.5]]),
    rows=ROWS,
    columns=COLUMNS,
)
# Every type 2 attribute the photograph's IOD wants, so that Orthanc and dciodvfy take it, too.
COMPLETE = {"ReferringPhysicianName": "", "PatientOrientation": "", "LossyImageCompression": "01"}


def everything(given: ReportContext) -> list[ResultObject]:
    images = [
        secondary_capture.build(given, PICTURE),
        secondary_capture.build(given, LOSSLESS, ResultKind.SECONDARY_CAPTURE_LOSSLESS),
        parametric_map.build(given, MAP),
    ]
    return [*images, structured_report.build(given, images)]


def faults(path: Path) -> list[str]:
    """What dciodvfy calls an error; it must also have recognised the IOD."""
    run = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
    lines = (run.stdout + run.stderr).splitlines()
    assert any(line in {"SCImage", "Comprehensive3DSR", "ParametricMap"} for line in lines), lines
    return [line for line in lines if line.startswith(("Error", "Abort"))]


def written(directory: Path, results: list[ResultObject]) -> list[Path]:
    paths = []
    for result in results:
        path = directory / f"{result.kind}.dcm"
        path.write_bytes(result.data)
        paths.append(path)
    return paths


PHOTOGRAPHS = {
    "jpeg": photograph(**COMPLETE),
    "uncompressed": photograph(jpeg=False, **COMPLETE),
    "implicit": photograph(jpeg=False, implicit=True),
    "no-patient": photograph(PatientID=None, PatientName=None, PatientBirthDate=None, PatientSex=None),
    "no-study": photograph(StudyDate=None, StudyTime=None, StudyID=None, AccessionNumber=None),
    "no-zone": photograph(TimezoneOffsetFromUTC=None),
    "frames": photograph(
        SOPClassUID=MultiFrameTrueColorSecondaryCaptureImageStorage, NumberOfFrames=2, Modality="OT"
    ),
    "bare": photograph(Manufacturer=None, ManufacturerModelName=None, InstanceNumber=None, SeriesNumber=None),
}


@pytest.mark.peers("dciodvfy")
@pytest.mark.parametrize("data", PHOTOGRAPHS.values(), ids=PHOTOGRAPHS)
def test_dciodvfy_finds_no_error(data: bytes, tmp_path: Path) -> None:
    for path in written(tmp_path, everything(context(data))):
        assert faults(path) == []


@pytest.mark.peers("dciodvfy")
@pytest.mark.parametrize("charset", CHARSETS.values(), ids=CHARSETS)
def test_dciodvfy_finds_no_error_in_any_character_set(charset: Charset, tmp_path: Path) -> None:
    data = photograph(
        SpecificCharacterSet=charset.declared or None,
        PatientName=charset.patient_name,
        PatientID=charset.patient_id,
    )
    for path in written(tmp_path, everything(context(data))):
        assert faults(path) == []


@pytest.mark.peers("dciodvfy")
def test_dciodvfy_finds_no_error_in_a_rejection(tmp_path: Path) -> None:
    result = structured_report.build(context(saved=rejected(*RejectionReason)))
    (path,) = written(tmp_path, [result])
    assert faults(path) == []


@pytest.mark.peers("dciodvfy")
def test_dciodvfy_would_find_an_error(tmp_path: Path) -> None:
    result = secondary_capture.build(context(), PICTURE)
    path = tmp_path / "broken.dcm"
    path.write_bytes(
        result.data.replace(b"WSD ", b"XYZ ", 1).replace(b"DERIVED\\SECONDARY", b"DERIVEX\\SECONDARY")
    )
    assert faults(path) != []


def decoded(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.mark.peers("storescu")
@pytest.mark.parametrize("program", ["dcmj2pnm"])
def test_dcmtk_shows_the_heatmap_as_it_is(program: str, tmp_path: Path) -> None:
    (path,) = written(tmp_path, [secondary_capture.build(context(), PICTURE)])
    picture = tmp_path / "heatmap.ppm"
    subprocess.run([program, str(path), str(picture)], check=True, capture_output=True)
    assert np.abs(decoded(picture).astype(int) - SHOWN).max() <= 3  # decoders round and interpolate apart


@pytest.mark.peers("storescu")
def test_dcmtk_reads_the_report(tmp_path: Path) -> None:
    (path,) = written(tmp_path, [structured_report.build(context())])
    # The template is in the content, so that dcmtk checks value types and relationships of the IOD.
    run = subprocess.run(["dsrdump", "+Pc", str(path)], check=True, capture_output=True, text=True)
    assert '(score,99SEMBLANCE,"Facial normality score")="2.34375"' in run.stdout
    assert "E:" not in run.stderr


@pytest.mark.peers("storescu")
def test_dcmtk_reads_why_a_photograph_was_rejected(tmp_path: Path) -> None:
    (path,) = written(tmp_path, [structured_report.build(context(saved=rejected(RejectionReason.NO_FACE)))])
    run = subprocess.run(["dsrdump", "+Pc", str(path)], check=True, capture_output=True, text=True)
    assert "(no-face,99SEMBLANCE" in run.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc"), free_port(), free_port()) as client:
        yield client


def stored(orthanc: httpx.Client, data: bytes) -> str:
    """Give Orthanc an object; returns its own id."""
    answer = orthanc.post("/instances", content=data, headers={"Content-Type": "application/dicom"})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["ID"])


@pytest.mark.peers("Orthanc")
def test_orthanc_files_results_under_the_photographs_study(orthanc: httpx.Client) -> None:
    charset = CHARSETS["japanese"]
    data = photograph(SpecificCharacterSet=charset.declared, PatientName=charset.patient_name)
    studies = {
        orthanc.get(f"/instances/{stored(orthanc, each)}/study").json()["ID"]
        for each in (data, *(result.data for result in everything(context(data))))
    }
    (study,) = studies
    found = orthanc.get(f"/studies/{study}").json()
    assert found["MainDicomTags"]["StudyInstanceUID"] == STUDY_UID
    assert found["PatientMainDicomTags"]["PatientID"] == "P-001"
    assert len(found["Series"]) == 5


@pytest.mark.peers("Orthanc")
def test_orthanc_shows_the_heatmap_as_it_is(orthanc: httpx.Client) -> None:
    instance = stored(orthanc, secondary_capture.build(context(), PICTURE).data)
    answer = orthanc.get(f"/instances/{instance}/preview", headers={"Accept": "image/png"})
    with Image.open(BytesIO(answer.content)) as picture:
        assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - SHOWN).max() <= 3


@pytest.mark.peers("Orthanc")
def test_a_dicomweb_viewer_gets_the_heatmap_as_it_is(orthanc: httpx.Client) -> None:
    result = secondary_capture.build(context(), PICTURE)
    stored(orthanc, result.data)
    path = f"/dicom-web/studies/{STUDY_UID}/series/{result.series_instance_uid}"
    answer = orthanc.get(
        f"{path}/instances/{result.sop_instance_uid}/rendered", headers={"Accept": "image/png"}
    )
    assert answer.status_code == 200, answer.text
    with Image.open(BytesIO(answer.content)) as picture:
        assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - SHOWN).max() <= 3


@pytest.mark.peers("Orthanc")
def test_a_dicomweb_client_finds_source_and_score(orthanc: httpx.Client) -> None:
    for result in everything(context()):
        stored(orthanc, result.data)
    found = {}
    for result in everything(context()):
        answer = orthanc.get(
            f"/dicom-web/studies/{STUDY_UID}/series/{result.series_instance_uid}"
            f"/instances/{result.sop_instance_uid}/metadata",
            headers={"Accept": "application/dicom+json"},
        )
        assert answer.status_code == 200, answer.text
        found[result.kind.value] = answer.json()[0]
    source = found["secondary-capture"]["00082112"]["Value"][0]
    assert source["00081155"]["Value"] == [SOP_UID]
    assert "2.34375" in str(found["structured-report"])
    frame = found["parametric-map"]["52009230"]["Value"][0]
    assert frame["00089124"]["Value"][0]["00082112"]["Value"][0]["00081155"]["Value"] == [SOP_UID]
