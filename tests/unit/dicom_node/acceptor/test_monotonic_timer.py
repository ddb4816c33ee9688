from __future__ import annotations

import time

import pytest

from dicom_node.acceptor.monotonic_timer import MonotonicTimer


@pytest.mark.parametrize("jump_s", [-1e7, 1e7])
def test_a_jump_of_the_time_of_day_is_not_noticed(monkeypatch: pytest.MonkeyPatch, jump_s: float) -> None:
    timer = MonotonicTimer(60.0)
    timer.start()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + jump_s)
    assert not timer.expired
    assert 55 < timer.remaining <= 60


def test_it_expires_by_the_monotonic_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    timer = MonotonicTimer(60.0)
    assert (timer.expired, timer.remaining) == (False, 60.0)
    timer.start()
    now = 1061.0
    assert (timer.expired, timer.remaining) == (True, -1.0)
    timer.restart()
    assert not timer.expired
    timer.stop()
    now = 5000.0
    assert (timer.expired, timer.remaining) == (False, 60.0)


def test_without_a_limit_it_never_expires() -> None:
    timer = MonotonicTimer(None)
    timer.start()
    assert (timer.expired, timer.remaining) == (False, 1)
