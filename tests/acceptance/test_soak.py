"""The soak in short: memory, descriptors and threads do not grow with objects and associations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.soak import soak


@pytest.mark.timeout(600)
def test_nothing_grows(open_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = soak(open_directory, objects=1500, senders=3, every=150)
    with capsys.disabled():
        print("\n" + json.dumps(found))  # noqa: T201 -- the figures this test is for
    assert (found["lost"], found["refused"]) == (0, 0)
    assert found["cut"] >= 2
    assert found["rss_last_mb"] - found["rss_warm_mb"] < 12
    assert found["fds_last"] <= found["fds_warm"]
    assert found["threads_last"] <= found["threads_warm"]
