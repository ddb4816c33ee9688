"""What commands say and end with when they cannot do what was asked: one line of ours, no other words."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.commands.program import PROGRAM
from service.exit_codes import ExitCode
from tests.command import semblance
from tests.unit.appraisal.photographs import portrait

Said = tuple[int, str, str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Runs ``semblance ...`` in this process and an empty directory: exit code, standard output, errors."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, database_url: str = "") -> Said:
        if database_url:
            monkeypatch.setenv("SEMBLANCE_DATABASE_URL", database_url)
            monkeypatch.setenv("SEMBLANCE_STORAGE_DIR", str(tmp_path / "store"))
        code = semblance(*arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def pictures(folder: Path, number: int) -> Path:
    folder.mkdir()
    for each in range(number):
        Image.fromarray(np.roll(portrait(), each, axis=1)).save(folder / f"{each}.png")
    return folder


def test_an_unknown_study_is_not_exported(run: Callable[..., Said], database_url: str) -> None:
    assert run("export", "9.9.9", "out", database_url=database_url) == (
        ExitCode.FAILED,
        "",
        "semblance: no study 9.9.9 is held here\n",
    )


def test_a_destination_nobody_knows_is_not_retried(run: Callable[..., Said], database_url: str) -> None:
    assert run("retry", "--destination", "nowhere", database_url=database_url) == (
        ExitCode.USAGE,
        "",
        "semblance: no destination 'nowhere'; there are: none\n",
    )


@pytest.mark.parametrize(
    ("number", "told"), [(0, "no photographs (jpg, png, dcm) in "), (3, "3 photographs of 3 people")]
)
def test_a_folder_of_too_few_is_said_to_be_that(
    run: Callable[..., Said], tmp_path: Path, number: int, told: str
) -> None:
    folder = pictures(tmp_path / "folder", number)
    code, said, errors = run("repeatability", str(folder), "--method", "symmetry")
    assert (code, said) == (ExitCode.USAGE, "")
    assert errors.startswith(f"semblance: {told}")
    assert errors.count("\n") == 1
    assert "Is a directory" not in errors


@pytest.mark.parametrize(
    "command", ["score", "repeatability", "change", "validate", "models", "export", "status"]
)
def test_wrong_arguments_end_with_2_and_no_traceback(run: Callable[..., Said], command: str) -> None:
    code, _, errors = run(command, "--no-such-option")
    assert code == ExitCode.USAGE
    assert "--no-such-option" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("command", ["score", "change"])
def test_native_code_says_nothing(tmp_path: Path, command: str) -> None:
    """Face finder and decoders log to file descriptor 2 while they load; nobody asked for that."""
    first, second = sorted(pictures(tmp_path / "two", 2).iterdir())
    photographs = [first] if command == "score" else [first, second]
    done = subprocess.run(
        [*PROGRAM, command, *map(str, photographs), "--method", "symmetry"],
        env=os.environ | {"TERM": "dumb"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ExitCode.DONE, done.stderr
    assert done.stdout
    own = "symmetry: near chance"  # what the command has to say of the method
    assert [line for line in done.stderr.splitlines() if line.strip() and not line.startswith(own)] == []
