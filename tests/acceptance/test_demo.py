"""``semblance demo`` and ``semblance up`` as a newcomer runs them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from service.stack.stack import running_stack
from tests.waiting import wait_until

SEMBLANCE = [sys.executable, "-c", "from service.commands.main import main; main()"]


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """An empty directory that PostgreSQL's user may enter."""
    made = Path(tempfile.mkdtemp(prefix="semblance-demo-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def demo(directory: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*SEMBLANCE, "demo"],
        cwd=directory,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def kept(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in (directory / "var" / "pacs").rglob("*.dcm")}


@pytest.mark.timeout(300)
def test_a_second_demo_finds_the_first_ones_instances(directory: Path) -> None:
    first = demo(directory)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "/fhir/Observation/" in first.stdout
    assert '"resourceType": "Observation"' in first.stdout
    next_steps = first.stdout.partition("What to try next")[2]
    commands = re.findall(r"(\S*semblance) (up|status|score)", next_steps)
    assert [command for _, command in commands] == ["up", "status", "status", "score"]
    assert all(shutil.which(program, path=f"{directory}:{os.environ['PATH']}") for program, _ in commands)
    assert "earlier run" not in first.stdout
    objects = kept(directory)
    assert objects
    pictures = [np.asarray(Image.open(path)) for path in (directory / "var" / "demo").glob("*-heatmap.png")]
    assert len(pictures) == 2
    assert not np.array_equal(*pictures)

    second = demo(directory)
    assert second.returncode == 0, second.stdout + second.stderr
    assert second.stdout.count("earlier run") == 2
    assert kept(directory) == objects
    assert running_stack(directory / "var") is None


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_serves_the_demo_and_ends_cleanly(directory: Path, number: signal.Signals) -> None:
    """Begun with SIGINT ignored, as by a shell in the background."""
    process = subprocess.Popen(
        [
            "sh",
            "-c",
            "trap '' INT; exec \"$@\"",
            "sh",
            *SEMBLANCE,
            "up",
            "--dicom-port",
            "0",
            "--api-port",
            "0",
        ],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        facts = wait_until(lambda: running_stack(directory / "var"), timeout_s=90, what="the stack to be up")
        assert httpx.get(f"{facts.fhir_url}/metadata").json()["resourceType"] == "CapabilityStatement"
        if number is signal.SIGINT:
            used = demo(directory)
            assert used.returncode == 0, used.stdout + used.stderr
            assert facts.fhir_url in used.stdout
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        output, _ = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, output
    assert "Semblance is up" in output
    assert "stopped" in output
    assert not [child for child in family if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert running_stack(directory / "var") is None


@pytest.mark.timeout(300)
def test_what_a_killed_stack_left_running_is_ended_by_the_next(directory: Path) -> None:
    process = subprocess.Popen(
        [*SEMBLANCE, "up", "--dicom-port", "0", "--api-port", "0"],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    facts = wait_until(lambda: running_stack(directory / "var"), timeout_s=90, what="the stack to be up")
    process.kill()
    process.wait()
    assert any(psutil.pid_exists(pid) for pid in facts.pids.values())
    after = demo(directory)
    assert after.returncode == 0, after.stdout + after.stderr
    assert not [pid for pid in facts.pids.values() if psutil.pid_exists(pid)]
