"""What lies in the current folder is data, never code: a stick with a ``structlog.py`` on it runs nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from service.commands.program import PROGRAM

HOSTILE = (
    "structlog", "typer", "rich", "numpy", "pydicom", "pydantic", "psycopg", "celery", "kombu", "torch",
    "PIL", "service", "reporting", "dicom_node", "json", "random", "sitecustomize", "usercustomize",
    "celeryconfig",
)  # fmt: skip
COMMANDS = (
    ("import", "."),
    ("node",),
    ("worker", "io"),
    ("status",),
    ("score", "photo.jpg"),
)
LONG_ENOUGH_S = 20.0  # for every import; what goes on without its database is ended


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    """A folder whose files would tell on whoever imports them."""
    folder = tmp_path / "stick"
    folder.mkdir()
    for name in HOSTILE:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'run')!r}, 'a').write({name!r} + '\\n')\n")
    (folder / "photo.jpg").write_bytes(b"no photograph")
    return folder


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_nothing_in_the_current_folder_is_run(
    arguments: tuple[str, ...], stick: Path, tmp_path: Path
) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SEMBLANCE_")}
    environment |= {
        "SEMBLANCE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing?connect_timeout=1",
        "SEMBLANCE_BROKER_URL": "redis://127.0.0.1:1/0",
        "SEMBLANCE_STORAGE_DIR": str(tmp_path / "store"),
        "SEMBLANCE_DICOM_PORT": "0",
        "SEMBLANCE_API_PORT": "0",
        "SEMBLANCE_METHOD": "symmetry",
        "SEMBLANCE_DATABASE_TIMEOUT_S": "1",
    }
    with subprocess.Popen(
        [*PROGRAM, *arguments], cwd=stick, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            said, _ = process.communicate(timeout=LONG_ENOUGH_S)
        except subprocess.TimeoutExpired:
            process.terminate()
            said, _ = process.communicate()
    assert not (tmp_path / "run").exists(), (tmp_path / "run").read_text() + said.decode()
    assert b"No module named" not in said
