"""A FHIR API over a real database, asked without a socket."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid5

import pytest

from reporting.dicom.context import ReportContext, ResultObject
from reporting.fhir.database.records import Saved
from reporting.fhir.http import Api
from reporting.fhir.results import save_results
from reporting.fhir.site import Site
from reporting.http.fhir_app import FhirApp
from reporting.http.server import make_api
from reporting.identifiers import ResultKind, result_uid
from service.config import Settings
from service.database import appraisals, instances
from service.database.pool import Connection, transaction
from service.records import AppraisalStatus, NewInstance, SavedAppraisal
from tests.unit.reporting.photographs import appraised, context, photograph

BASE_URL = "http://127.0.0.1:8080/fhir"
SITE = Site(base_url=BASE_URL, zone=UTC)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the API answered."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)

    def ids(self, mode: str = "match") -> list[str]:
        """Logical ids of a searchset's entries."""
        entries = self.json().get("entry", [])
        return [e["resource"]["id"] for e in entries if e["search"]["mode"] == mode]

    def link(self, relation: str) -> str | None:
        """URL of a Bundle's link."""
        return next((x["url"] for x in self.json().get("link", []) if x["relation"] == relation), None)


class Client:
    """Asks the ASGI application's synchronous core."""

    def __init__(self, app: FhirApp) -> None:
        self.app = app

    def ask(self, method: str, url: str, body: Any = None, **headers: str) -> Answer:
        """Ask; header names are given with underscores."""
        parts = urlsplit(url if url.startswith("http") else f"{BASE_URL}/{url}")
        sent = [(name.replace("_", "-").lower().encode(), value.encode()) for name, value in headers.items()]
        payload = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
        scope = {
            "type": "http", "method": method, "path": parts.path, "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(), "headers": sent, "client": ("127.0.0.1", 1),
        }  # fmt: skip
        response = self.app.serve(scope, payload, "test-request")
        content = b"".join(response.chunks) if response.chunks is not None else response.body
        return Answer(
            status=response.status,
            headers={name.lower(): value for name, value in response.headers}
            | {"content-type": response.content_type},
            content=content,
        )

    def get(self, url: str, **headers: str) -> Answer:
        return self.ask("GET", url, **headers)


@pytest.fixture
def api(settings: Settings) -> Iterator[Api]:
    """The API of this test's database."""
    made = make_api(settings.model_copy(update={"api_port": 8080}))
    yield made
    made.close()


@pytest.fixture
def client(api: Api) -> Client:
    """Asks this test's API."""
    return Client(FhirApp(api))


def secondary_capture(made_from: ReportContext) -> ResultObject:
    """The Secondary Capture of an appraisal, by name only."""
    appraisal_id = made_from.saved.appraisal.appraisal_id
    return ResultObject(
        kind=ResultKind.SECONDARY_CAPTURE,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.7",
        sop_instance_uid=result_uid(appraisal_id, ResultKind.SECONDARY_CAPTURE),
        series_instance_uid=made_from.series_uid(ResultKind.SECONDARY_CAPTURE),
        series_number=9801,
        series_description="Semblance heatmap",
        instance_number=made_from.instance_number,
        modality="OT",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        data=b"",
    )


Save = Callable[..., list[Saved]]


@pytest.fixture
def save(api: Api) -> Save:
    """Saves the results of a photograph, as the reporting step does."""

    def run(saved: SavedAppraisal | None = None, **attributes: Any) -> list[Saved]:
        made_from = context(photograph(**attributes), saved or appraised())
        judged = made_from.saved.appraisal.status is AppraisalStatus.APPRAISED
        objects = (secondary_capture(made_from),) if judged else ()
        with transaction(api.pool) as connection:
            return save_results(connection, made_from, objects, api.settings)

    return run


@pytest.fixture
def save_photograph(save: Save) -> Callable[..., list[Saved]]:
    """Saves the results of a numbered photograph of a patient, with a score."""
    from dataclasses import replace

    def run(
        number: int, patient: str = "P-001", score: float = 2.0, when: str = "20260101120000", **more: object
    ) -> list[Saved]:
        saved = appraised()
        appraisal = replace(
            saved.appraisal, appraisal_id=uuid5(UUID(int=7), f"{patient} {number}"), score=score
        )
        attributes = {
            "SOPInstanceUID": f"2.25.1000{number}", "PatientID": patient, "AcquisitionDateTime": when,
            "StudyInstanceUID": f"2.25.{abs(hash(patient)) % 10**9}",
        } | more  # fmt: skip
        return save(replace(saved, appraisal=appraisal), **attributes)

    return run


def keep_appraisal(connection: Connection, saved: SavedAppraisal) -> None:
    """Write down an appraisal and the photograph it is of."""
    received, instance_id = instances.receive(
        connection,
        NewInstance(
            sop_instance_uid=saved.appraisal.sop_instance_uid, sop_class_uid="1.2",
            study_instance_uid="1.3", series_instance_uid="1.4", transfer_syntax_uid="1.5",
            patient_id="P", issuer_of_patient_id="", calling_ae_title="A", called_ae_title="B",
            peer_address="127.0.0.1", sha256="0" * 64, size_bytes=1,
        ),
    )  # fmt: skip
    assert received == "new"
    appraisals.save(
        connection,
        instance_id=instance_id,
        appraisal=saved.appraisal,
        heatmap_sha256=saved.heatmap_sha256,
        difference_map_sha256=saved.difference_map_sha256,
    )


_JAVASCRIPT = Path(__file__).with_name("javascript")


@pytest.fixture(scope="session")
def javascript_clients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the npm clients installed."""
    directory = tmp_path_factory.mktemp("javascript")
    shutil.copytree(_JAVASCRIPT, directory, dirs_exist_ok=True)
    subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--omit=optional", "--ignore-scripts"],
        cwd=directory, check=True, capture_output=True, timeout=600,
    )  # fmt: skip
    return directory
