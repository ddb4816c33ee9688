"""Header elements damaged by type, from the node to the decoded picture: a small run of bench.senders."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.senders import fuzz

_FILES = 30
_SEED = 22  # of this run; the bench takes others


@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom and pynetdicom, about these very values
def test_damaged_headers_stop_nothing(open_directory: Path) -> None:
    tally = fuzz(open_directory, _FILES, _SEED)
    assert tally.faults == []
    assert sum(tally.statuses.values()) == _FILES
    assert tally.statuses["0x0000"] > _FILES // 2
    assert tally.decoded["decoded"] > 0
    assert sum(tally.stories.values()) == len(range(0, _FILES, 4))
    assert len(tally.stories) > 2
