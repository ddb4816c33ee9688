"""Every process of ours says what is wrong with its settings, and ends as docs/cli.md says."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from service.commands.program import PROGRAM
from service.exit_codes import ExitCode


@pytest.mark.parametrize(
    "process",
    [
        ("node",),
        ("api",),
        ("relay",),
        ("worker", "gpu"),
    ],
    ids=" ".join,
)
def test_a_setting_that_is_wrong_is_named(process: tuple[str, ...]) -> None:
    command = [*PROGRAM, *process]
    wrong = os.environ | {"SEMBLANCE_DICOM_PORT": "many"}
    done = subprocess.run(command, env=wrong, capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.USAGE, done.stderr
    assert "dicom_port" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("process", [("node",), ("api",), ("worker", "report")], ids=" ".join)
def test_a_store_that_cannot_be_opened_is_said(
    process: tuple[str, ...], database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "store").write_text("a file, not a directory")
    done = run(process, SEMBLANCE_DATABASE_URL=database_url, SEMBLANCE_STORAGE_DIR=str(tmp_path / "store"))
    assert done.returncode == ExitCode.FAILED, done.stderr
    assert "semblance: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_node_whose_processes_cannot_begin_is_not_ready_and_ends(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file, not a directory")
    done = run(
        ("node",),
        SEMBLANCE_DATABASE_URL=database_url,
        SEMBLANCE_STORAGE_DIR=str(tmp_path / "store"),
        SEMBLANCE_DICOM_PORT="0",
        SEMBLANCE_DICOM_PROCESSES="2",
    )
    assert done.returncode == ExitCode.FAILED, done.stderr
    assert "ready" not in done.stdout
    assert "receiver-1 ended with 1" in done.stderr


def test_an_api_without_a_database_says_so(free_port: Callable[[], int], tmp_path: Path) -> None:
    url = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    done = run(
        ("api",),
        SEMBLANCE_DATABASE_URL=url,
        SEMBLANCE_DATABASE_TIMEOUT_S="1",
        SEMBLANCE_STORAGE_DIR=str(tmp_path),
        SEMBLANCE_API_PORT="0",
    )
    assert done.returncode == ExitCode.UNAVAILABLE, done.stderr
    assert "Traceback" not in done.stderr
    assert "Is SEMBLANCE_DATABASE_URL right?" in done.stderr


def said_in_one_line(done: subprocess.CompletedProcess[str]) -> str:
    """What a command said when it ended in an error."""
    assert "Traceback" not in done.stderr, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]  # a log's are JSON
    assert line.startswith("semblance: ")
    return line


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("destinations",),
        ("audit", "verify"),
        ("export", "1.2.3", "there"),
        ("outcomes", "status"),
        ("api",),
        ("relay",),
    ],
    ids=" ".join,
)
def test_a_database_that_was_not_migrated_is_said(
    command: tuple[str, ...], empty_database_url: str, broker_url: str, tmp_path: Path
) -> None:
    done = run(
        command,
        SEMBLANCE_DATABASE_URL=empty_database_url,
        SEMBLANCE_BROKER_URL=broker_url,
        SEMBLANCE_STORAGE_DIR=str(tmp_path / "store"),
        SEMBLANCE_API_PORT="0",
    )
    assert done.returncode == ExitCode.FAILED, done.stderr
    assert "`semblance migrate` brings it up to date" in said_in_one_line(done)


def test_a_command_without_a_database_says_so_in_one_line(free_port: Callable[[], int]) -> None:
    done = run(("status",), SEMBLANCE_DATABASE_URL=f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    assert done.returncode == ExitCode.UNAVAILABLE, done.stderr
    assert "Is SEMBLANCE_DATABASE_URL right?" in said_in_one_line(done)


def test_a_subscription_that_is_not_there_is_said(database_url: str) -> None:
    done = run(("subscriptions", "3f0c"), SEMBLANCE_DATABASE_URL=database_url)
    assert done.returncode == ExitCode.FAILED, done.stderr
    assert said_in_one_line(done) == "semblance: no Subscription 3f0c"


def test_a_port_that_is_taken_is_said(database_url: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run(
            ("node",),
            SEMBLANCE_DATABASE_URL=database_url,
            SEMBLANCE_STORAGE_DIR=str(tmp_path),
            SEMBLANCE_DICOM_HOST="127.0.0.1",
            SEMBLANCE_DICOM_PORT=str(taken.getsockname()[1]),
        )
    assert done.returncode == ExitCode.FAILED, done.stderr
    assert "in use" in done.stderr
    assert "Traceback" not in done.stderr


def run(process: tuple[str, ...], **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a process of ours that is to end by itself."""
    return subprocess.run(
        [*PROGRAM, *process], env=os.environ | settings, capture_output=True, text=True, check=False
    )


def test_a_gpu_that_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"")
    done = run(("score", str(tmp_path / "photo.jpg")), SEMBLANCE_DEVICE="cuda", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == ExitCode.USAGE, done.stderr
    assert said_in_one_line(done).startswith("semblance: device: ")
