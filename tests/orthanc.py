"""Orthanc as the foreign PACS: a process of its own on free ports, asked by its REST API."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx
from pydicom.uid import SecondaryCaptureImageStorage

from service.stack.stack import free_port
from service.stack.waiting import wait_until
from tests.peers import find_peer


class Orthanc:
    """One running Orthanc with a database in a directory of the test's own."""

    def __init__(
        self,
        directory: Path,
        modalities: Mapping[str, Sequence[object]] | None = None,
        **configuration: object,
    ) -> None:
        """Nothing runs before the context is entered.

        Args:
            directory: For its files.
            modalities: Name -> (AE title, host, port).
            configuration: Further keys of its configuration.
        """
        self.directory = directory
        self.dicom_port = free_port()
        self.http_port = free_port()
        self.configuration: dict[str, Any] = {
            "Name": "Orthanc",
            "StorageDirectory": str(directory / "orthanc"),
            "IndexDirectory": str(directory / "orthanc"),
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAet": "ORTHANC",
            "DicomPort": self.dicom_port,
            "DicomModalities": {name: list(row) for name, row in (modalities or {}).items()},
            "DicomAlwaysAllowStore": True,
            "DicomCheckModalityHost": False,
            "Plugins": [],
        } | configuration
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.http_port}", timeout=30)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start, and wait until its REST API answers."""
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop."""
        self.stop()
        self.client.close()

    def start(self) -> None:
        """Start the process."""
        program = find_peer("Orthanc")
        assert program is not None
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / "orthanc.json"
        path.write_text(json.dumps(self.configuration))
        with (self.directory / "orthanc.log").open("ab") as log:
            self._process = subprocess.Popen([program, str(path)], stdout=log, stderr=log)
        wait_until(self._answers, timeout_s=30, what="Orthanc's REST API")

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def _answers(self) -> bool:
        try:
            return self.client.get("/system").status_code == 200
        except httpx.TransportError:
            return False

    def get(self, path: str) -> Any:
        """GET a resource as JSON."""
        return self.client.get(path).raise_for_status().json()

    def post(self, path: str, body: object) -> Any:
        """POST JSON (or bytes) and answer JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.post(path, content=content).raise_for_status().json()

    def upload(self, content: bytes) -> str:
        """Put a Part 10 object into it; answers its id there."""
        return str(self.post("/instances", content)["ID"])

    def send(self, modality: str, *orthanc_ids: str) -> Any:
        """Have it send instances by C-STORE; answers the job's result."""
        return self.post(
            f"/modalities/{modality}/store", {"Resources": list(orthanc_ids), "Synchronous": True}
        )

    def job(self, path: str, timeout_s: float = 60) -> Any:
        """Wait for a job's end."""
        deadline = time.monotonic() + timeout_s
        return wait_until(
            lambda: (found := self.get(path))["State"] in {"Success", "Failure"} and found,
            timeout_s=deadline - time.monotonic(),
            what=f"Orthanc's job {path}",
        )


def captures(orthanc: Orthanc, source: str) -> list[str]:
    """Ids of the Secondary Captures in the study of an instance."""
    held = orthanc.get(f"/studies/{orthanc.get(f'/instances/{source}/study')['ID']}/instances")
    return [
        each["ID"]
        for each in held
        if orthanc.client.get(f"/instances/{each['ID']}/metadata/SopClassUid").text
        == SecondaryCaptureImageStorage
    ]
