"""Backoff doubles, is jittered, and has a cap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.config import Settings
from service.pipeline.backoff import delay_s

SETTINGS = Settings(retry_base_s=2.0, retry_cap_s=600.0)


@given(st.integers(min_value=1, max_value=10_000))
def test_within_its_bounds(attempt: int) -> None:
    whole = min(600.0, 2.0 * 2.0 ** min(attempt - 1, 60))
    assert whole / 2 <= delay_s(attempt, SETTINGS) <= whole


def test_jittered() -> None:
    assert len({delay_s(5, SETTINGS) for _ in range(20)}) > 1
