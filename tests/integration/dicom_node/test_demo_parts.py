"""The demonstration's wrapper and PACS."""

from __future__ import annotations

import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import JPEGBaseline8Bit, VLPhotographicImageStorage
from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from dicom_node.demo.pacs import AE_TITLE, DemoPacs
from dicom_node.demo.run import Shot, Shown, Stack, _next_steps
from dicom_node.demo.wrap import Wrapping, wrap_photograph
from dicom_node.encoding.photographic import encode
from service.peers import Destination
from tests.photographs import face, photograph
from tests.unit.reporting.photographs import appraised


def test_a_wrapped_picture_is_the_picture() -> None:
    dataset = dcmread(BytesIO(encode(wrap_photograph(face(), Wrapping(name="a", study="s")))))
    assert dataset.SOPClassUID == VLPhotographicImageStorage
    assert dataset.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
    difference = np.abs(dataset.pixel_array.astype(int) - face().astype(int))
    assert difference.mean() < 3


def test_the_same_picture_and_name_give_the_same_bytes() -> None:
    one, again = (encode(wrap_photograph(face(), Wrapping(name="a", study="s"))) for _ in range(2))
    assert one == again
    other = wrap_photograph(face(), Wrapping(name="b", study="s"))
    first = wrap_photograph(face(), Wrapping(name="a", study="s"))
    assert other.SOPInstanceUID != first.SOPInstanceUID
    assert other.StudyInstanceUID == first.StudyInstanceUID
    assert other.SeriesInstanceUID == first.SeriesInstanceUID


@pytest.mark.parametrize("stays_up", [True, False])
@pytest.mark.parametrize("option", ["", " --data-dir 'my files/var'"])
def test_what_it_advises_finds_its_stack(stays_up: bool, option: str) -> None:
    shot = Shot(name="a", file=Path("a.png"), sop_instance_uid="1.2", study_instance_uid="1.3", known=False)
    shown = Shown(
        shot=shot, saved=appraised(), took_s=1.0, capture=Path("c.dcm"), picture=Path("p.png"),
        observation_url="", observation="",
    )  # fmt: skip
    stack = Stack(
        node=Destination(name="node", ae_title="S", host="127.0.0.1", port=1),
        fhir_url="http://127.0.0.1:2/fhir",
        pacs_directory=Path("pacs"),
        output=Path("demo"),
        stays_up=stays_up,
        option=option,
    )
    lines = _next_steps(shown, stack).splitlines()
    commands = [line for line in lines if "semblance status" in line or "semblance up" in line]
    assert len(commands) == (2 if stays_up else 3)
    assert all(option in line for line in commands)
    assert lines[2 if stays_up else 3].endswith(f"status{option}")


@pytest.mark.peers("dciodvfy")
def test_a_wrapped_picture_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "photograph.dcm"
    path.write_bytes(encode(photograph()))
    checked = subprocess.run(["dciodvfy", str(path)], check=False, capture_output=True, text=True)
    assert "Error" not in checked.stderr + checked.stdout
    assert "VLPhotographicImage" in checked.stderr + checked.stdout


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_the_pacs_keeps_what_it_is_sent_and_nothing_hostile(tmp_path: Path) -> None:
    pacs = DemoPacs(tmp_path)
    sent = photograph()
    entity = AE(ae_title="TEST")
    entity.add_requested_context(VLPhotographicImageStorage, JPEGBaseline8Bit)
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", pacs.port, ae_title=AE_TITLE)
    assert association.is_established
    try:
        assert association.send_c_echo().Status == 0
        assert association.send_c_store(sent).Status == 0
        assert association.send_c_store(sent).Status == 0
        kept = dcmread(tmp_path / sent.StudyInstanceUID / f"{sent.SOPInstanceUID}.dcm")
        assert kept.PixelData == sent.PixelData
        hostile = photograph()
        hostile.StudyInstanceUID = "../../escaped"
        assert association.send_c_store(hostile).Status == 0xC000
    finally:
        association.release()
        pacs.stop()
    assert not list(tmp_path.parent.parent.glob("escaped"))
