"""The examples of docs/fhir-examples.md run as they stand there, against a real API process."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from service.commands.program import PROGRAM
from service.config import Settings
from tests.integration.reporting.http.environment import environment

pytestmark = pytest.mark.peers("curl", "openssl")
DOCUMENT = (Path(__file__).resolve().parents[4] / "docs" / "fhir-examples.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", DOCUMENT, re.DOTALL)


def ran(command: list[str], text: str, where: Path, **more: str) -> str:
    done = subprocess.run(
        command,
        input=text,
        cwd=where,
        env=os.environ | more,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def registered(settings: Settings, tmp_path: Path, save_photograph: Callable[..., object]) -> Iterator[str]:
    """Base URL of an API that serves the client of the examples, with results of two patients."""
    for number, patient in ((1, "P-001"), (2, "P-001"), (3, "P-002")):
        save_photograph(number, patient=patient)
    keys, *_ = blocks("sh")
    ran(["bash", "-euo", "pipefail"], keys, tmp_path)
    (registry,) = blocks("toml")
    (tmp_path / "auth.toml").write_text(registry)
    served = environment(settings, SEMBLANCE_FHIR_AUTH_FILE=str(tmp_path / "auth.toml"))
    command = [*PROGRAM, "api"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=served, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        yield str(json.loads(process.stdout.readline())["url"])
        process.kill()


def test_curl(registered: str, tmp_path: Path) -> None:
    _, *examples = blocks("sh")
    assert len(examples) == 3
    ran(["bash", "-euo", "pipefail"], "\n".join(examples), tmp_path, FHIR=registered)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["total"] == 2
    lines = (tmp_path / "observations.ndjson").read_text().splitlines()
    assert [json.loads(line)["resourceType"] for line in lines] == ["Observation"] * 3


def test_python(registered: str, tmp_path: Path) -> None:
    (example,) = blocks("python")
    said = ran([sys.executable, "-"], example, tmp_path, FHIR=registered)
    assert len(said.splitlines()) == 2
    assert len((tmp_path / "exported.ndjson").read_text().splitlines()) == 3


def test_what_may_be_asked_for_is_granted(registered: str) -> None:
    found = httpx.get(f"{registered}/.well-known/smart-configuration").json()["scopes_supported"]
    assert {"system/*.rs", "system/Observation.rs", "system/Patient.crus"} <= set(found)
    assert not any(scope.startswith("patient/") for scope in found)
