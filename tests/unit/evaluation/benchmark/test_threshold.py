from __future__ import annotations

import pytest

from service.evaluation.benchmark.studies import as_json
from service.evaluation.benchmark.threshold import threshold_table
from service.evaluation.benchmark.trial import PLACEBO, SHAM, Judged, Verdict, placebos
from tests.unit.evaluation.benchmark.trials import subjects

NAN = float("nan")


def verdict(kind, severity, percentile, anomaly=0.0, subject="a"):
    return Verdict(
        subject=subject,
        group="",
        kind=kind,
        severity=severity,
        anomaly=anomaly,
        pixel_auroc=NAN,
        pro=NAN,
        percentile=percentile,
    )


def test_specificity_placebo_rate_and_sensitivity_are_told_by_type():
    shown = [
        *(
            verdict(SHAM, 0.0, rank, subject=who)
            for who, rank in zip("abcd", (4.9, 5.0, 50.0, 90.0), strict=True)
        ),
        *(verdict(PLACEBO, 0.0, rank) for rank in (1.0, 80.0)),
        *(verdict("droop", size, rank) for size, rank in ((0.25, 40.0), (0.5, 2.0), (1.0, 0.0))),
        verdict("nevus", 1.0, 60.0),
        verdict("nevus", 1.0, None, anomaly=None),
    ]
    found = as_json(threshold_table(shown, repeats=0))
    assert found["clean"]["images"] == 4
    assert found["clean"]["low"]["value"] == 0.25
    assert found[PLACEBO]["low"]["value"] == 0.5
    assert found["droop"]["low"]["value"] == 1.0
    assert found["droop"]["low_subtle"]["value"] == 0.0
    assert found["nevus"]["low_full"]["value"] == 0.0
    assert found["all"]["low_full"]["value"] == 0.5
    assert threshold_table([verdict(SHAM, 0.0, None)], repeats=0) is None


def test_a_larger_anomaly_that_scores_better_is_counted():
    sizes = (0.25, 0.5, 0.75, 1.0)
    rising = [verdict("droop", size, 1.0, anomaly=size) for size in sizes]
    falling = [verdict("nevus", size, 1.0, anomaly=-size) for size in sizes]
    found = as_json(threshold_table([*rising, *falling], repeats=5))
    assert found["droop"]["better_though_larger"]["value"] == 0.0
    assert found["nevus"]["better_though_larger"]["value"] == 1.0
    assert found["all"]["better_though_larger"]["value"] == pytest.approx(0.5)


class Recorder:
    """Keeps what it is shown."""

    def __init__(self):
        self.shown = []

    def judge(self, image, sham):
        self.shown.append((image, sham))
        return Judged(anomaly=0.0, difference=None)


def test_a_placebo_is_another_lip_and_no_anomaly():
    judge = Recorder()
    verdicts = list(placebos(list(subjects(2)), judge, seed=1))
    assert [(v.kind, v.severity, v.photograph) for v in verdicts] == [(PLACEBO, 0.0, n) for n in (0, 0, 1, 1)]
    for image, sham in judge.shown:
        changed = (image != sham).any(-1)
        assert 0 < changed.mean() < 0.2
