"""The gates fail when they should: skipped tests, no tests, a Python that will not do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIND_PYTHON = ROOT / "scripts" / "find-python"


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program with an environment of its own."""
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=ROOT)


def all_ran(report: Path) -> subprocess.CompletedProcess[str]:
    """Run the gate on a JUnit report."""
    return run(sys.executable, ROOT / ".ci" / "all_ran.py", report)


def suite(tmp_path: Path, body: str) -> Path:
    """The JUnit report of a test module, as pytest writes it."""
    (tmp_path / "test_it.py").write_text(f"import pytest\n{body}\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    report = tmp_path / "junit.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}"],
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # pytest alone writes the report
        check=False,
        capture_output=True,
    )
    return report


def test_a_run_in_which_every_test_ran_passes_in_silence(tmp_path: Path) -> None:
    gate = all_ran(suite(tmp_path, "def test_it():\n    pass"))

    assert (gate.returncode, gate.stdout, gate.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "body",
    [
        '@pytest.mark.skip(reason="not today")\ndef test_it():\n    pass',
        'def test_it():\n    pytest.skip("not today")',
        'pytest.skip("not today", allow_module_level=True)',
        '@pytest.mark.xfail(reason="not today")\ndef test_it():\n    raise AssertionError',
    ],
    ids=["marked", "in the test", "whole module", "expected failure"],
)
def test_a_skipped_test_fails_the_gate_by_name(tmp_path: Path, body: str) -> None:
    gate = all_ran(suite(tmp_path, body))

    assert gate.returncode == 1
    assert gate.stderr.startswith("skipped: ")
    assert "test_it" in gate.stderr


def test_a_run_without_tests_fails_the_gate(tmp_path: Path) -> None:
    gate = all_ran(suite(tmp_path, ""))

    assert gate.returncode == 1
    assert gate.stderr == "no test ran\n"


def test_a_suitable_python_is_found() -> None:
    found = run(FIND_PYTHON, PATH=os.pathsep.join((str(Path(sys.executable).parent), os.defpath)))

    assert found.returncode == 0
    version = run(found.stdout.strip(), "-c", "import sys; print(sys.version_info[:2])").stdout.strip()
    assert version in {"(3, 11)", "(3, 12)"}


def test_without_a_suitable_python_it_says_what_to_install(tmp_path: Path) -> None:
    for program in ("sh", "cat"):
        (tmp_path / program).symlink_to(shutil.which(program) or program)
    old = tmp_path / "python3.11"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)

    found = run(FIND_PYTHON, PATH=str(tmp_path))

    assert found.returncode == 1
    assert "apt-get install python3 python3-venv" in found.stderr


def test_a_python_that_was_named_but_will_not_do_is_refused() -> None:
    found = run(FIND_PYTHON, PATH=os.defpath, PYTHON="false")

    assert found.returncode == 1
    assert "PYTHON=false is not Python 3.11 or 3.12" in found.stderr


FAULTS = {
    "format": (["ruff", "format", "--check"], "x = {  'a':1 }\n"),
    "lint": (["ruff", "check"], "import os\n"),
    "types": (["mypy"], '"""A fault."""\n\n\ndef f(x: int) -> str:\n    """A fault."""\n    return x\n'),
}


@pytest.mark.parametrize(("command", "fault"), FAULTS.values(), ids=FAULTS)
def test_a_gate_of_make_check_fails_on_a_fault(tmp_path: Path, command: list[str], fault: str) -> None:
    module = tmp_path / "fault.py"
    module.write_text(fault)
    configuration = ("--config-file" if command[0] == "mypy" else "--config", str(ROOT / "pyproject.toml"))

    gate = run(
        sys.executable, "-m", *command, *configuration, str(module), PATH=os.defpath, HOME=str(tmp_path)
    )

    assert gate.returncode == 1
    assert "fault.py" in gate.stdout + gate.stderr


# What an import of this module in that one breaks.
AGAINST = {
    "the node imports the shell": (
        "dicom_node/readers.py",
        "service.commands.options",
        "the shell over the node over the results over the core",
    ),
    "the core imports the results": (
        "service/storage/local.py",
        "reporting.identifiers",
        "the shell over the node over the results over the core",
    ),
    "the science imports training": (
        "service/appraisal/score.py",
        "service.training.schedule",
        "layers of the core",
    ),
    "the science imports the database": (
        "service/appraisal/score.py",
        "service.database.pool",
        "the science knows no database, no settings and no Celery",
    ),
    "the node imports torch": (
        "dicom_node/readers.py",
        "torch",
        "torch and mediapipe belong to the science alone",
    ),
    "the settings import torch": (
        "service/config.py",
        "torch",
        "torch and mediapipe belong to the science alone",
    ),
    "the API imports mediapipe": (
        "reporting/http/server.py",
        "mediapipe",
        "torch and mediapipe belong to the science alone",
    ),
    "intake imports the acceptor": (
        "dicom_node/intake/ingest.py",
        "dicom_node.acceptor.scp",
        "rooms of the node",
    ),
    "holdings import FHIR": (
        "reporting/holdings/names.py",
        "reporting.fhir.outcome",
        "rooms of the results",
    ),
    "a search imports writing": (
        "reporting/fhir/search/criteria.py",
        "reporting.fhir.write.writing",
        "rooms of FHIR: a search never climbs",
    ),
    "FHIR's SQL imports a room above it": (
        "reporting/fhir/database/rows.py",
        "reporting.fhir.outcome",
        "rooms of FHIR: a search never climbs",
    ),
    "the charts import the database that imports them": (
        "reporting/outcomes/charts/records.py",
        "reporting.outcomes.database.changes",
        "no room and its neighbour import each other",
    ),
    "the judgement of change imports numpy": (
        "service/appraisal/change.py",
        "numpy",
        "what outcomes use of the science needs none of it",
    ),
    "the node imports a foreign decoder": (
        "dicom_node/readers.py",
        "gdcm",
        "foreign decoders belong to the child that decodes",
    ),
    "migrations import the core": (
        "migrations/rewriting.py",
        "service.records",
        "migrations import nothing of ours",
    ),
}


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages and their contracts, to be spoilt."""
    to = tmp_path_factory.mktemp("house")
    unread = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.npy", "*.json")
    for package in ("service", "reporting", "dicom_node", "migrations"):
        shutil.copytree(ROOT / package, to / package, ignore=unread)
    shutil.copy(ROOT / "pyproject.toml", to)
    return to


def contracts_of(house: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).parent / "lint-imports"],
        cwd=house,
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": os.defpath, "PYTHONPATH": str(house)},
    )


@pytest.mark.parametrize(("file", "imported", "contract"), AGAINST.values(), ids=AGAINST)
def test_an_import_against_a_contract_breaks_it(
    copied: Path, file: str, imported: str, contract: str
) -> None:
    module = copied / file
    before = module.read_text()
    module.write_text(f"{before}\nimport {imported}\n")
    try:
        gate = contracts_of(copied)
    finally:
        module.write_text(before)

    assert gate.returncode == 1
    assert f"{contract} BROKEN" in gate.stdout


@pytest.mark.parametrize("package", ["service", "dicom_node", "reporting", "reporting/fhir"])
def test_a_room_without_a_floor_breaks_a_contract(copied: Path, package: str) -> None:
    """The layers are exhaustive: what is new has to be given its place."""
    new = copied / package / "elsewhere.py"
    new.write_text("")
    try:
        gate = contracts_of(copied)
    finally:
        new.unlink()

    assert gate.returncode == 1
    assert "elsewhere" in gate.stdout


def test_each_contract_is_seen_to_fail() -> None:
    configured = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert {each["name"] for each in configured} == {contract for _, _, contract in AGAINST.values()}
