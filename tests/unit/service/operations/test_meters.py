"""Metrics: bounded labels, and the distance that drift is told by."""

from __future__ import annotations

import random

import pytest
from scipy import stats

from service import meters
from service.operations.drift import distance, distance_limit, share_below


def test_a_stranger_cannot_fill_the_memory_with_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "_senders", set())
    labels = {meters.sender_label(f"GUESS{number}") for number in range(5 * meters.MOST_SENDERS)}
    assert len(labels) == meters.MOST_SENDERS + 1
    assert meters.OTHER in labels
    assert meters.sender_label("GUESS0") == "GUESS0"


def test_requests_have_few_labels_whatever_is_asked() -> None:
    for number in range(50):
        meters.count_request(f"/x{number}/y", f"METHOD{number}", 404, 0.1)
    meters.count_request("/fhir/Observation", "GET", 200, 0.1)
    doors = {sample.labels["door"] for sample in next(iter(meters.REQUEST_SECONDS.collect())).samples}
    assert doors >= {"fhir", "other"}
    assert not any(door.startswith("x") for door in doors)


@pytest.mark.parametrize("shift", [0.0, 0.2, 1.0])
def test_the_distance_is_that_of_scipy(shift: float) -> None:
    draw = random.Random(7)  # noqa: S311 -- no secret
    first = [draw.gauss(0, 1) for _ in range(400)]
    second = [round(draw.gauss(shift, 1), 1) for _ in range(900)]  # with ties
    assert distance(first, second) == pytest.approx(stats.ks_2samp(first, second).statistic, abs=1e-12)


def test_chance_alone_passes_the_limit_about_once_in_a_thousand_times() -> None:
    assert stats.kstwobign.sf(1.9495) == pytest.approx(0.001, rel=0.01)
    assert distance_limit(500, 2000) == pytest.approx(1.9495 * (2500 / 1e6) ** 0.5)


def test_nothing_is_no_distribution() -> None:
    with pytest.raises(ValueError, match="need values"):
        distance([], [1.0])


def test_a_normal_cohort_has_a_twentieth_below_its_fifth_percentile() -> None:
    assert share_below([float(value) for value in range(100)], 5) == pytest.approx(0.05)
