"""Clients that others wrote, over a socket: what an EHR or a warehouse really sends."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc.jwk import ECKey, KeySet

from reporting.identifiers import fhir_id
from service.commands.program import PROGRAM
from service.config import Settings
from tests.integration.reporting.fhir.conftest import Save

ANNA = fhir_id("Patient", "HOSPITAL-A", "ANNA")


@dataclass(frozen=True, kw_only=True)
class Served:
    """A running API."""

    url: str
    private_jwks: Path  # of the registered client ``warehouse``


@pytest.fixture
def served(settings: Settings, save_photograph: Save, tmp_path: Path) -> Iterator[Served]:
    """The API as a process, over three Observations of ANNA and one of BEN; without authorisation."""
    yield from _serve(settings, save_photograph, tmp_path, with_auth=False)


@pytest.fixture
def guarded(settings: Settings, save_photograph: Save, tmp_path: Path) -> Iterator[Served]:
    """The same with authorisation."""
    yield from _serve(settings, save_photograph, tmp_path, with_auth=True)


def _serve(settings: Settings, save_photograph: Save, tmp_path: Path, *, with_auth: bool) -> Iterator[Served]:
    for number in range(3):
        save_photograph(number, "ANNA", 2.0 + number, f"202501{10 + number}100000")
    save_photograph(9, "BEN")
    key = ECKey.generate_key("P-384", {"kid": "k1", "use": "sig", "alg": "ES384"}, auto_kid=False)
    public, private, registry = (tmp_path / name for name in ("public.jwks", "private.jwks", "auth.toml"))
    public.write_text(json.dumps(KeySet([key]).as_dict(private=False)))
    exported = key.as_dict(private=True) | {"key_ops": ["sign"]}
    private.write_text(json.dumps({"keys": [exported]}))
    registry.write_text(
        f'[[clients]]\nclient_id = "warehouse"\nscopes = "system/*.rs"\njwks_file = "{public}"\n'
    )
    environment = os.environ | {
        "SEMBLANCE_DATABASE_URL": settings.database_url,
        "SEMBLANCE_STORAGE_DIR": str(settings.storage_dir),
        "SEMBLANCE_API_PORT": "0",
    }
    if with_auth:
        environment["SEMBLANCE_FHIR_AUTH_FILE"] = str(registry)
    command = [*PROGRAM, "api"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Served(url=json.loads(process.stdout.readline())["url"], private_jwks=private)
        finally:
            process.kill()


def test_fhirclient(served: Served) -> None:
    """PyPI fhirclient: true R4 models, strict about what they read."""
    from fhirclient import client
    from fhirclient.models.observation import Observation
    from fhirclient.models.patient import Patient

    smart = client.FHIRClient(settings={"app_id": "test", "api_base": served.url})
    patient = Patient.read(ANNA, smart.server)
    assert patient.identifier[0].value == "ANNA"
    search = Observation.where({"patient": ANNA, "code": "score", "_sort": "date"})
    found = list(search.perform_resources_iter(smart.server))
    assert [o.valueQuantity.value for o in found] == [2.0, 3.0, 4.0]
    paged = Observation.where({"patient": ANNA, "_count": "1"}).perform_iter(smart.server)
    assert sum(len(bundle.entry) for bundle in paged) == 3
    smart.server.session.close()  # it never does, and its sockets would warn in a later test


def test_fhirpy(served: Served) -> None:
    """PyPI fhirpy: counts with ``_totalMethod``, follows next links, writes with references."""
    from fhirpy import SyncFHIRClient

    client = SyncFHIRClient(served.url)
    assert client.resources("Observation").search(patient=ANNA).count() == 3
    assert len(client.resources("Observation").search(patient=ANNA).limit(1).fetch_all()) == 3
    first = client.resources("Observation").search(patient=ANNA).sort("-date").first()
    assert first.get_by_path(["valueQuantity", "value"]) == 4.0
    patient = client.resource("Patient", name=[{"family": "Fhirpy"}])
    patient.save()
    assert client.resources("Patient").search(name="fhirpy").get().id == patient.id
    procedure = client.resource("Procedure", status="completed", subject=patient.to_reference())
    procedure.save()
    procedure["code"] = {"text": "repair"}
    procedure.save()
    assert client.reference("Procedure", procedure.id).to_resource()["meta"]["versionId"] == "2"


def test_smart_fetch_exports_everything_with_es384(guarded: Served, tmp_path: Path) -> None:
    """PyPI smart-fetch: discovery, private_key_jwt, Bulk Data export, file downloads, clean-up."""
    assert httpx.get(f"{guarded.url}/Observation").status_code == 401
    output = tmp_path / "out"
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("smart-fetch")), "bulk", str(output),
            f"--fhir-url={guarded.url}", "--smart-client-id=warehouse", f"--smart-key={guarded.private_jwks}",
            "--type=Observation,Patient,DiagnosticReport,Device", "--no-default-filters",
        ],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [
        json.loads(line)
        for path in output.rglob("*.ndjson.gz")
        for line in gzip.decompress(path.read_bytes()).decode().splitlines()
    ]
    counted = {t: sum(r.get("resourceType") == t for r in rows) for t in ("Observation", "Patient", "Device")}
    assert counted == {"Observation": 4, "Patient": 2, "Device": 1}


@pytest.mark.peers("node", "npm")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("script", ["fhir-kit-client.mjs", "fhirclient.mjs", "medplum-core.mjs"])
def test_javascript_clients(served: Served, javascript_clients: Path, script: str) -> None:
    """npm fhir-kit-client, fhirclient and @medplum/core."""
    done = subprocess.run(
        ["node", script, served.url, ANNA],
        cwd=javascript_clients, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer == {
        "fhirVersion": "4.0.1",
        "patient": ANNA,
        "scores": [4, 3, 2],
        "pages": 3,
        "missing": 404,
    }
