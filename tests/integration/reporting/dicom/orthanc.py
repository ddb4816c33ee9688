"""A real Orthanc with its DICOMweb plugin, on loopback, for one test session."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.peers import find_peer
from tests.waiting import wait_until

_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@contextmanager
def running_orthanc(directory: Path, http_port: int, dicom_port: int) -> Iterator[httpx.Client]:
    """Run Orthanc until the context ends.

    Args:
        directory: For its database, its configuration and its log.
        http_port: Free.
        dicom_port: Free.
    """
    program = find_peer("Orthanc")
    assert program is not None
    configuration = directory / "orthanc.json"
    configuration.write_text(
        json.dumps(
            {
                "Name": "PACS",
                "StorageDirectory": str(directory / "storage"),
                "IndexDirectory": str(directory / "storage"),
                "HttpPort": http_port,
                "DicomPort": dicom_port,
                "DicomAet": "PACS",
                "RemoteAccessAllowed": False,
                "AuthenticationEnabled": False,
                "Plugins": [str(_PLUGIN)],
                "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            }
        )
    )
    with (directory / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([program, str(configuration)], stdout=log, stderr=log)
    client = httpx.Client(base_url=f"http://127.0.0.1:{http_port}", timeout=30)
    try:
        wait_until(lambda: _answers(client), timeout_s=60, what="Orthanc's REST API")
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(30)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/system").status_code == 200
    except httpx.TransportError:
        return False
