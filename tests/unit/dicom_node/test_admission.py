from __future__ import annotations

from dicom_node.admission import RateLimit


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_minutes_worth_at_once_and_then_at_the_rate() -> None:
    clock = Clock()
    limit = RateLimit(6, clock)
    assert [limit.take("CAMERA", "10.0.0.1") for _ in range(7)] == [True] * 6 + [False]
    clock.now += 9.9
    assert not limit.take("CAMERA", "10.0.0.1")
    clock.now += 0.2
    assert limit.take("CAMERA", "10.0.0.1")
    assert not limit.take("CAMERA", "10.0.0.1")
    clock.now += 3600
    assert [limit.take("CAMERA", "10.0.0.1") for _ in range(7)] == [True] * 6 + [False]


def test_callers_do_not_take_from_each_other() -> None:
    limit = RateLimit(1, Clock())
    assert limit.take("CAMERA", "10.0.0.1")
    assert not limit.take("CAMERA", "10.0.0.1")
    assert limit.take("CAMERA", "10.0.0.2")
    assert limit.take("OTHER", "10.0.0.1")


def test_no_limit_is_none() -> None:
    limit = RateLimit(0, Clock())
    assert all(limit.take("CAMERA", "10.0.0.1") for _ in range(1000))


def test_callers_without_end_are_not_all_remembered() -> None:
    limit = RateLimit(1, Clock())
    for number in range(10_000):
        assert limit.take(f"C{number}", "10.0.0.1")
    assert len(limit._left) <= 4096
    assert not limit.take("C9999", "10.0.0.1")
