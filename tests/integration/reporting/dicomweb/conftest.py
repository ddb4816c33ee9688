"""A DICOMweb service over a real database and store, with STOW-RS, asked without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from httpx import Response
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    generate_uid,
)
from starlette.applications import Starlette

from dicom_node.intake.group_commit import GroupCommit
from dicom_node.intake.ingest import Ingest
from dicom_node.intake.journal import Journal
from dicom_node.intake.stow import StowReceiver
from reporting.dicomweb.app import dicomweb_app
from reporting.fhir.http import Api
from reporting.http.server import make_api
from service.config import Settings
from service.stack.servers import EmbeddedPostgres
from tests.conftest import cloned_database, settings_of
from tests.dicom_objects import photograph

BASE_URL = "http://127.0.0.1:8080/dicom-web"


def part10(ds: Dataset) -> bytes:
    """A Part 10 file."""
    made = BytesIO()
    ds.save_as(made, enforce_file_format=True)
    return made.getvalue()


class Http:
    """An HTTP client of an ASGI application, without a socket."""

    def __init__(self, app: Starlette) -> None:
        self._app = app

    def ask(self, method: str, path: str, **more: Any) -> Response:
        async def asked() -> Response:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
                return await client.request(method, path, **more)

        return asyncio.run(asked())

    def get(self, path: str, **more: Any) -> Response:
        return self.ask("GET", path, **more)

    def post(self, path: str, **more: Any) -> Response:
        return self.ask("POST", path, **more)

    def options(self, path: str, **more: Any) -> Response:
        return self.ask("OPTIONS", path, **more)


class Web:
    """Asks the application; paths are below its base URL."""

    def __init__(self, api: Api, ingest: Ingest | None) -> None:
        receive = StowReceiver(api.settings, ingest).begin if ingest is not None else None
        self.http = Http(dicomweb_app(api, receive))
        self.api = api

    def get(self, path: str, accept: str = "*/*", **headers: str) -> Response:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.get(f"/dicom-web{path}", headers={"accept": accept, **names})

    def store(self, *contents: bytes, study: str = "", **headers: str) -> Response:
        body = b"".join(
            b"--B\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n" for content in contents
        )
        return self.http.post(
            f"/dicom-web/studies{'/' + study if study else ''}",
            content=body + b"--B--\r\n",
            headers={"content-type": 'multipart/related; type="application/dicom"; boundary=B', **headers},
        )


@pytest.fixture(scope="module")
def settings(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Of a database and store shared by the tests of a module."""
    with cloned_database(postgres) as url:
        directory: Path = tmp_path_factory.mktemp("dicomweb")
        made = settings_of(url, directory)
        yield made.model_copy(
            update={"api_port": 8080, "dicomweb_allowed_origins": ("https://viewer.hospital.example",)}
        )


@pytest.fixture(scope="module")
def api(settings: Settings) -> Iterator[Api]:
    """What the handlers work with."""
    made = make_api(settings)
    yield made
    made.close()


@pytest.fixture(scope="module")
def ingest(api: Api) -> Iterator[Ingest]:
    """The way in."""
    commit, journal = GroupCommit(api.settings), Journal(api.pool)
    yield Ingest(settings=api.settings, store=api.store, pool=api.pool, commit=commit, journal=journal)
    commit.close()


@pytest.fixture(scope="module")
def web(api: Api, ingest: Ingest) -> Web:
    """The service."""
    return Web(api, ingest)


def multi_frame() -> Dataset:
    """Three frames of JPEG, each of one colour: red, green, blue."""
    frames = []
    for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255)):
        made = BytesIO()
        Image.fromarray(np.full((32, 48, 3), colour, dtype=np.uint8)).save(made, "JPEG", quality=95)
        frames.append(made.getvalue())
    ds = photograph(size=(32, 48), sop_class=MultiFrameTrueColorSecondaryCaptureImageStorage)
    ds.NumberOfFrames = "3"
    ds.PixelData = encapsulate(frames)
    return ds


@pytest.fixture(scope="module")
def held(web: Web) -> list[Dataset]:
    """A study of a JPEG, a native and a multi-frame photograph; and a study of another patient."""
    study, series = generate_uid(), generate_uid()
    photographs = [
        photograph(size=(48, 64)),
        photograph(size=(48, 64), transfer_syntax=ExplicitVRLittleEndian, seed=2),
        multi_frame(),
    ]
    for number, ds in enumerate(photographs, start=1):
        ds.StudyInstanceUID, ds.InstanceNumber = study, str(number)
        if number < 3:
            ds.SeriesInstanceUID = series
        ds.StudyDescription = "Cleft lip, before surgery"
        block = ds.private_block(0x0009, "HOSPITAL", create=True)
        block.add_new(0x01, "OB", bytes(range(256)) * 8)
    other = photograph(
        patient_id="P2",
        patient_name="Müller^Jörg",
        character_set="ISO_IR 100",
        transfer_syntax=JPEGBaseline8Bit,
    )
    other.StudyDate = "20250615"
    photographs.append(other)
    answer = web.store(*map(part10, photographs))
    assert answer.status_code == 200, answer.text
    return photographs
