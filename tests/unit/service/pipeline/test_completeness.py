from __future__ import annotations

import pytest

from service.database.studies import Receipts
from service.pipeline.completeness import state_of
from service.records import StudyState


@pytest.mark.parametrize(
    ("announced", "missing", "unannounced", "is_quiet", "state"),
    [
        (False, 0, 1, False, StudyState.OPEN),
        (False, 0, 1, True, StudyState.QUIET),
        (True, 0, 0, False, StudyState.COMPLETE),
        (True, 0, 0, True, StudyState.COMPLETE),
        (True, 0, 1, False, StudyState.OPEN),
        (True, 0, 1, True, StudyState.COMPLETE),
        (True, 2, 0, False, StudyState.OPEN),
        (True, 2, 0, True, StudyState.INCOMPLETE),
        (True, 1, 1, True, StudyState.INCOMPLETE),
    ],
)
def test_the_state_follows_from_what_came_and_what_was_announced(
    announced: bool, missing: int, unannounced: int, is_quiet: bool, state: StudyState
) -> None:
    receipts = Receipts(
        announced=announced,
        missing=tuple(f"1.2.{number}" for number in range(missing)),
        unannounced=unannounced,
        is_quiet=is_quiet,
    )
    assert state_of(receipts) is state
