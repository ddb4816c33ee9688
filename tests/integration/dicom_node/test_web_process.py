"""The API's process: FHIR, DICOMweb and the way in of STOW-RS together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from io import BytesIO

import httpx

from service.commands.program import PROGRAM
from service.config import Settings
from service.database import instances
from service.database.pool import Pool, transaction
from tests.dicom_objects import photograph


def test_takes_in_and_shows(settings: Settings, pool: Pool) -> None:
    environment = os.environ | {
        "SEMBLANCE_DATABASE_URL": settings.database_url,
        "SEMBLANCE_STORAGE_DIR": str(settings.storage_dir),
        "SEMBLANCE_STORAGE_LOW_WATERMARK_BYTES": "0",
        "SEMBLANCE_API_PORT": "0",
    }
    ds, content = photograph(), BytesIO()
    ds.save_as(content, enforce_file_format=True)
    command = [*PROGRAM, "api"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            with httpx.Client(base_url=url.removesuffix("/fhir"), timeout=60) as http:
                stored = http.post(
                    "/dicom-web/studies",
                    content=b"--B\r\nContent-Type: application/dicom\r\n\r\n"
                    + content.getvalue()
                    + b"\r\n--B--\r\n",
                    headers={"Content-Type": 'multipart/related; type="application/dicom"; boundary=B'},
                )
                assert stored.status_code == 200, stored.text
                found = http.get("/dicom-web/studies", headers={"Accept": "application/dicom+json"})
                assert [each["0020000D"]["Value"][0] for each in found.json()] == [ds.StudyInstanceUID]
                assert http.get("/fhir/metadata").status_code == 200
                assert http.get("/healthz").status_code == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) in (0, -signal.SIGTERM)
        finally:
            process.kill()
    with transaction(pool) as connection:
        assert instances.by_uid(connection, ds.SOPInstanceUID) is not None
