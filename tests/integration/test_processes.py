"""Every process of ours says what is wrong with its settings, and ends as docs/cli.md says."""

from __future__ import annotations

import os
import subprocess

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
