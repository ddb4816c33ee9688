"""The main job with a foreign PACS: Orthanc sends the photograph, Orthanc gets the heatmap back.

Everything is real and asserted by Orthanc's REST API.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from skimage import data

from dicom_node.demo.wrap import Wrapping, wrap_photograph
from dicom_node.encoding.photographic import encode
from service.commands.program import PROGRAM
from service.config import Settings
from service.database import instances
from service.database.pool import connect
from service.peers import Destination
from service.stack.stack import Stack, StackOptions, free_port
from service.stack.waiting import wait_until
from tests.orthanc import Orthanc, captures


@pytest.mark.peers("Orthanc")
@pytest.mark.timeout(300)
def test_orthanc_sends_a_photograph_and_holds_its_heatmap(tmp_path: Path, open_directory: Path) -> None:
    node_port = free_port()
    photograph = wrap_photograph(
        data.astronaut(),
        Wrapping(name="orthanc", study="orthanc", patient_id="ÄÖ-7", patient_name="Müller^Änne"),
    )
    following = wrap_photograph(data.astronaut(), Wrapping(name="orthanc-2", study="orthanc-2"))
    with Orthanc(tmp_path, **recipe(tmp_path, node_port)) as orthanc:
        destination = Destination(
            name="orthanc", ae_title="ORTHANC", host="127.0.0.1", port=orthanc.dicom_port
        )
        options = StackOptions(
            data_dir=open_directory / "stack",
            dicom_port=node_port,
            demo_pacs=False,
            environment={"SEMBLANCE_DESTINATIONS": json.dumps([destination.model_dump()])},
        )
        stack = Stack(options, Settings(destinations=(destination,)), PROGRAM)
        facts = stack.start()
        try:
            assert orthanc.post("/modalities/semblance/echo", {}) == {}
            source = orthanc.upload(encode(photograph))  # its script sends it on
            capture = wait_until(
                lambda: next(iter(captures(orthanc, source)), None),
                timeout_s=180,
                what="the Secondary Capture in Orthanc",
                interval_s=0.5,
            )
            wait_until(
                lambda: len(orthanc.get("/instances")) == 3,
                timeout_s=120,
                what="photograph, heatmap and report in Orthanc",
                interval_s=0.5,
            )
            # Orthanc's script sends in turn: with the next photograph here, a result would be, too.
            orthanc.upload(encode(following))
            wait_until(
                lambda: following.SOPInstanceUID in held(facts.database_url),
                timeout_s=60,
                what="the next photograph",
            )
            assert held(facts.database_url) == {photograph.SOPInstanceUID, following.SOPInstanceUID}
        finally:
            stack.stop()
        study = orthanc.get(f"/instances/{source}/study")
        assert orthanc.get(f"/instances/{capture}/study")["ID"] == study["ID"]
        tags = orthanc.get(f"/instances/{capture}/simplified-tags")
        assert tags["StudyInstanceUID"] == photograph.StudyInstanceUID
        assert tags["SeriesInstanceUID"] != photograph.SeriesInstanceUID
        assert (tags["PatientID"], tags["PatientName"]) == ("ÄÖ-7", "Müller^Änne")
        assert tags["SourceImageSequence"][0]["ReferencedSOPInstanceUID"] == photograph.SOPInstanceUID
        picture = orthanc.client.get(f"/instances/{capture}/preview", headers={"Accept": "image/png"})
        assert picture.content.startswith(b"\x89PNG")


def held(database_url: str) -> set[str]:
    """SOP Instance UIDs of what the node has."""
    with connect(Settings(database_url=database_url)) as connection:
        return {each.sop_instance_uid for each in instances.newest(connection, 10)}


def recipe(directory: Path, node_port: int) -> dict[str, object]:
    """The configuration of docs/connecting.md as it stands there, at this test's port and paths."""
    document = (Path(__file__).resolve().parents[2] / "docs" / "connecting.md").read_text(encoding="utf-8")
    (configuration,) = re.findall(r"```json\n(.*?)```", document, re.DOTALL)
    (script,) = re.findall(r"```lua\n(.*?)```", document, re.DOTALL)
    (directory / "semblance.lua").write_text(script)
    here = configuration.replace("/etc/orthanc", str(directory)).replace(
        "semblance.hospital.example", "127.0.0.1"
    )
    read: dict[str, object] = json.loads(here.replace("11112", str(node_port)))
    return read
