"""The memory of the processes that serve retrievals does not grow with objects and callers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.retrieve import retrieve

AT_ONCE = 4
OBJECT_MB = 36


@pytest.mark.peers("getscu", "movescu", "storescp")
@pytest.mark.timeout(900)
def test_peaks_are_flat(open_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = retrieve(open_directory, AT_ONCE)
    with capsys.disabled():
        print("\n" + json.dumps(found))  # noqa: T201 -- the figures this test is for
    assert len(found) == 5
    for way, peaks in found.items():
        by_callers_mb = peaks[f"{AT_ONCE} x 36 MB"] - peaks["1 x 36 MB"]
        assert by_callers_mb < 2 * OBJECT_MB, way
        if "decoded" not in way:  # what must be decoded is in memory, one at a time
            assert peaks[f"{AT_ONCE} x 36 MB"] - peaks["1 x 38 KB"] < OBJECT_MB, way
