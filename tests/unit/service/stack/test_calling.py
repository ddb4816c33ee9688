"""What people are told to type is what works where they are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from service.stack.calling import called_as


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment in a checkout, not on PATH, that this process runs in."""
    programs = tmp_path / "checkout" / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "semblance"):
        (programs / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(tmp_path / "checkout")
    return programs


def test_an_environment_that_is_not_on_path(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert called_as() == ".venv/bin/semblance"
    monkeypatch.chdir(environment)
    assert called_as() == "./semblance"
    (environment.parents[2] / "elsewhere").mkdir()
    monkeypatch.chdir(environment.parents[2] / "elsewhere")
    assert called_as() == str(environment / "semblance")


def test_one_that_is(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(environment))
    assert called_as() == "semblance"


def test_another_of_the_same_name_comes_first(
    environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "semblance").touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{other}:{environment}")
    assert called_as() == ".venv/bin/semblance"
