"""Every bench begins, as a file and as a module: its folder holds a fhir.py that must hide no package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHES = sorted(path.stem for path in (ROOT / "bench").glob("*.py") if "argparse" in path.read_text())


def test_there_are_benches() -> None:
    assert {"appraise", "fhir", "outcomes", "pipeline", "receive"} <= set(BENCHES)


@pytest.mark.parametrize("name", BENCHES)
def test_a_bench_begins(name: str) -> None:
    for words in ([str(ROOT / "bench" / f"{name}.py")], ["-m", f"bench.{name}"]):
        ended = subprocess.run(
            [sys.executable, *words, "--help"], cwd=ROOT, check=False, capture_output=True, text=True
        )
        assert ended.returncode == 0, ended.stderr
        assert "usage:" in ended.stdout
