"""`semblance doctor`: what is well, what is not, and what it says to do."""

from __future__ import annotations

import configparser
import json
import os
import shlex
import socket
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from service.commands.deferred import COMMANDS
from service.commands.doctor.command import examinations
from service.commands.doctor.findings import Finding, State
from service.commands.program import PROGRAM
from service.config import Settings
from service.peers import Destination

UNITS = Path(__file__).resolve().parents[4] / "docs" / "systemd"


def examined(settings: Settings, subject: str) -> dict[str, Finding]:
    """What one examination finds, by subject."""
    (examination,) = [each for each in examinations(settings) if each.subject == subject]
    return {each.subject: each for each in examination.findings()}


@pytest.fixture
def fit(settings: Settings, broker_url: str, free_port: Callable[[], int]) -> Settings:
    settings.storage_dir.mkdir(exist_ok=True, mode=0o700)
    settings.storage_dir.chmod(0o700)
    return settings.model_copy(
        update={
            "broker_url": broker_url,
            "dicom_port": free_port(),
            "api_port": free_port(),
            "method": "symmetry",
        }
    )


def test_a_fit_machine_is_told_so_with_exit_code_0(fit: Settings) -> None:
    environment = os.environ | {
        "SEMBLANCE_DATABASE_URL": fit.database_url,
        "SEMBLANCE_BROKER_URL": fit.broker_url,
        "SEMBLANCE_STORAGE_DIR": str(fit.storage_dir),
        "SEMBLANCE_DICOM_PORT": str(fit.dicom_port),
        "SEMBLANCE_API_PORT": str(fit.api_port),
        "SEMBLANCE_METHOD": "symmetry",
        "SEMBLANCE_STORAGE_LOW_WATERMARK_BYTES": "1",
    }
    command = [*PROGRAM, "doctor"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    lines = told.stdout.splitlines()
    for subject in ("database", "schema", "clock", "broker", "space", "store", "dicom port", "method"):
        assert any(line.startswith(f"ok    {subject} ") for line in lines), told.stdout
    assert list(fit.storage_dir.iterdir()) == []
    as_json = subprocess.run(
        [*command, "--output", "json"], env=environment, capture_output=True, text=True, check=False
    )
    assert {each["subject"] for each in json.loads(as_json.stdout)} >= {"database", "broker", "senders"}


def test_what_cannot_be_reached_fails_with_advice_and_hides_nothing_else(
    fit: Settings, free_port: Callable[[], int], tmp_path: Path
) -> None:
    environment = os.environ | {
        "SEMBLANCE_DATABASE_URL": f"postgresql://nobody@127.0.0.1:{free_port()}/none",
        "SEMBLANCE_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0",
        "SEMBLANCE_STORAGE_DIR": str(tmp_path / "none"),
        "SEMBLANCE_METHOD": "symmetry",
    }
    command = [*PROGRAM, "doctor"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert "Traceback" not in told.stderr
    for subject in ("database", "broker", "store"):
        assert f"fail  {subject} " in told.stdout, told.stdout
    assert told.stdout.count("->") >= 3
    assert "ok    method " in told.stdout


def test_an_old_schema_is_named(fit: Settings, empty_database_url: str) -> None:
    empty = fit.model_copy(update={"database_url": empty_database_url})
    found = examined(empty, "database")
    assert found["schema"].state is State.FAIL
    assert "semblance migrate" in found["schema"].advice


def test_little_space_and_open_doors_are_said(fit: Settings) -> None:
    fit.storage_dir.chmod(0o755)
    found = examined(fit.model_copy(update={"storage_low_watermark_bytes": 10**18}), "store")
    assert found["space"].state is State.FAIL
    assert found["store"].state is State.WARN
    assert "chmod" in found["store"].advice


def test_a_port_that_is_taken_is_said(fit: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = examined(fit.model_copy(update={"api_port": port}), "ports")
    assert (found["api port"].state, found["dicom port"].state) == (State.WARN, State.OK)


def _certificate(path: Path, begins: int, ends: int) -> Path:
    """A certificate that is valid from so many days from now to so many."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now + timedelta(days=begins))
        .not_valid_after(now + timedelta(days=ends))
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize(
    ("begins", "ends", "state"),
    [(-10, 300, State.OK), (-10, 10, State.WARN), (-20, -1, State.FAIL), (2, 300, State.FAIL)],
)
def test_the_dates_of_certificates_are_read(
    fit: Settings, tmp_path: Path, begins: int, ends: int, state: State
) -> None:
    path = _certificate(tmp_path / "tls.crt", begins, ends)
    found = examined(fit.model_copy(update={"dicom_tls_certificate": path}), "certificates")
    assert found["dicom_tls_certificate"].state is state


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_a_certificate_file_that_is_none_fails(fit: Settings, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "tls.crt"
    if content is not None:
        path.write_bytes(content)
    found = examined(fit.model_copy(update={"dicom_tls_certificate": path}), "certificates")
    assert [each.state for each in found.values()] == [State.FAIL]


def test_destinations_are_called(fit: Settings, free_port: Callable[[], int]) -> None:
    gone = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=free_port())
    web = Destination(name="web", kind="dicomweb", url=f"http://127.0.0.1:{free_port()}/dicom-web")
    assert examined(fit.model_copy(update={"destinations": (gone,)}), "destinations")[
        "destinations"
    ].state is (State.FAIL)
    found = examined(fit.model_copy(update={"destinations": (web,)}), "destinations")
    assert found["destination web"].state is State.FAIL
    assert examined(fit, "destinations")["destinations"].state is State.WARN


def test_research_weights_are_named_as_such(fit: Settings) -> None:
    found = examined(fit.model_copy(update={"method": "default"}), "method")
    assert found["model default-face"].state is State.WARN
    assert "research" in found["model default-face"].text


def unit(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(path)
    return parser


def test_every_unit_starts_what_there_is_without_privileges() -> None:
    started = set()
    for path in sorted(UNITS.glob("*.service")):
        service = unit(path)["Service"]
        program, command, *_ = shlex.split(service["ExecStart"])
        assert program == "/opt/semblance/bin/semblance"
        assert command in COMMANDS, path.name
        started.add(command)
        assert service["User"] == "semblance"
        assert service["NoNewPrivileges"] == "yes"
        assert service["ProtectSystem"] == "strict"
    assert started == {"node", "api", "relay", "worker", "migrate"}
    wanted = unit(UNITS / "semblance.target")["Unit"]["Wants"].split()
    assert set(wanted) == {each.name for each in UNITS.glob("*.service")} - {"semblance-migrate.service"}
