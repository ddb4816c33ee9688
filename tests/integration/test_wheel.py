"""The wheel holds what runs: built, installed beside nothing of the checkout, and put to work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import psycopg
import pytest

import service

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("service", "reporting", "dicom_node", "migrations")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution, built from the checkout."""
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", directory],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel's files and nothing else."""
    directory = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory)
    return directory


def semblance(installed: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command of the installed packages."""
    return run(installed, "-c", "from service.commands.main import main; main()", *arguments, **environment)


def run(installed: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the installed packages before the checkout's, elsewhere than in the checkout."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=installed.parent,
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": os.defpath, "PYTHONPATH": str(installed), "HOME": str(installed.parent), **environment},
    )


def test_it_holds_every_tracked_file_of_the_packages(wheel: Path) -> None:
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", *PACKAGES],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    tracked = {name for name in listing.stdout.splitlines() if (ROOT / name).is_file()}

    assert tracked - set(zipfile.ZipFile(wheel).namelist()) == set()


def test_it_holds_the_licence_and_the_notice(wheel: Path) -> None:
    names = {Path(name).name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/licenses/" in name}

    assert names == {"LICENSE", "NOTICE"}


def test_the_command_starts_from_it(installed: Path) -> None:
    version = semblance(installed, "--version")
    where = run(installed, "-c", "import service; print(service.__file__)")

    assert (version.returncode, version.stdout) == (0, f"semblance {service.__version__}\n")
    assert where.stdout.startswith(str(installed))


def test_it_migrates_a_database(installed: Path, empty_database_url: str) -> None:
    migration = semblance(installed, "migrate", SEMBLANCE_DATABASE_URL=empty_database_url)

    assert migration.returncode == 0, migration.stderr
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT to_regclass('instance') IS NOT NULL").fetchone() == (True,)


def test_the_models_that_ship_are_in_it(installed: Path) -> None:
    manifest = tomllib.loads((ROOT / "service" / "models_manifest.toml").read_text())
    shipped = {row["id"] for row in manifest["model"] if row["line"] != "external"}

    verification = semblance(installed, "models", "verify")

    assert verification.returncode == 0, verification.stdout + verification.stderr
    assert shipped <= set(re.findall(r"present (\S+)", verification.stdout))
