"""An archive that forwards whatever it stores, back to us too: one photograph is appraised once.

Orthanc is the archive, and does so by a script of its own.
"""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread, dcmwrite
from skimage import data

from dicom_node.demo.wrap import Wrapping, wrap_photograph
from service.database.pool import transaction
from service.peers import Destination
from service.records import InstanceState
from tests.orthanc import Orthanc, captures
from tests.stack import RunningStack, run_stack
from tests.waiting import wait_until

FORWARD = """
function OnStoredInstance(instanceId, tags, metadata, origin)
  SendToModality(instanceId, 'semblance')
end
"""


@pytest.mark.peers("Orthanc")
@pytest.mark.timeout(300)
def test_what_an_archive_sends_back_is_kept_and_not_appraised(tmp_path: Path) -> None:
    (tmp_path / "forward.lua").write_text(FORWARD)
    orthanc = Orthanc(tmp_path / "orthanc", LuaScripts=[str(tmp_path / "forward.lua")])
    destination = Destination(name="orthanc", ae_title="ORTHANC", host="127.0.0.1", port=orthanc.dicom_port)
    photograph = wrap_photograph(data.astronaut(), Wrapping(name="loop", study="loop", patient_id="LOOP"))
    encoded = BytesIO()
    dcmwrite(encoded, photograph, enforce_file_format=True)
    with run_stack(destinations=(destination,), demo_pacs=False) as stack:
        orthanc.configuration["DicomModalities"] = {
            "semblance": ["SEMBLANCE", "127.0.0.1", stack.facts.dicom_port]
        }
        with orthanc:
            source = orthanc.upload(encoded.getvalue())
            capture = wait_until(
                lambda: next(iter(captures(orthanc, source)), None), timeout_s=120, what="the heatmap"
            )
            heatmap = orthanc.client.get(f"/instances/{capture}/file").content
            uid = str(dcmread(BytesIO(heatmap)).SOPInstanceUID)
            wait_until(lambda: is_here(stack, uid), timeout_s=60, what="the heatmap to come back")
            stack.wait_for(uid, InstanceState.KEPT)
            # another system gives it a UID of its own
            change = json.dumps({"Replace": {"PatientID": "OTHER"}, "Force": True})
            changed = orthanc.client.post(f"/instances/{capture}/modify", content=change)
            rewritten = changed.raise_for_status().content
            uid = str(dcmread(BytesIO(rewritten)).SOPInstanceUID)
            orthanc.upload(rewritten)
            wait_until(lambda: is_here(stack, uid), timeout_s=60, what="the rewritten heatmap to come back")
            stack.wait_for(uid, InstanceState.KEPT)
            stack.wait_for(str(photograph.SOPInstanceUID), InstanceState.DELIVERED)
        with transaction(stack.pool) as connection:
            counts = connection.execute(
                "SELECT (SELECT count(*) FROM appraisal) AS appraisals,"
                " (SELECT count(*) FROM fhir_resource WHERE type = 'Observation') AS observations,"
                " (SELECT count(*) FROM instance WHERE state NOT IN ('kept', 'delivered')) AS unfinished"
            ).fetchone()
        assert counts == {"appraisals": 1, "observations": 1, "unfinished": 0}


def is_here(stack: RunningStack, uid: str) -> bool:
    with transaction(stack.pool) as connection:
        found = connection.execute("SELECT FROM instance WHERE sop_instance_uid = %s", (uid,)).fetchone()
    return found is not None
