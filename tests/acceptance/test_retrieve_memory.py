"""The memory of the processes that serve retrievals does not grow with objects and callers.

``bench.retrieve`` with objects small enough for a machine with much else to do. A node that held each
caller's object as pynetdicom does would take 120 MB more for four of 9 MB; one that decoded for four callers
at a time, 270 MB more.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.retrieve import SMALL_NAME, retrieve, size_name

AT_ONCE = 4
SIZE = (1500, 2000)
OBJECT_MB = 9


@pytest.mark.peers("getscu", "movescu", "storescp")
@pytest.mark.timeout(600)
def test_peaks_are_flat(open_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = retrieve(open_directory, AT_ONCE, SIZE)
    with capsys.disabled():
        print("\n" + json.dumps(found))  # noqa: T201 -- the figures this test is for
    assert set(found) == {"C-GET", "C-MOVE", "C-GET, decoded", "WADO-RS", "WADO-RS, decoded"}
    large = size_name(SIZE)
    for way, peaks in found.items():
        one, many = peaks[f"1 x {large}"], peaks[f"{AT_ONCE} x {large}"]
        if "decoded" in way:  # what must be decoded is in memory, one at a time
            assert many - one < 5 * OBJECT_MB, way
        else:
            assert many - peaks[f"1 x {SMALL_NAME}"] < 3 * OBJECT_MB, way
