import json
import re
from dataclasses import replace

import numpy as np
import pytest

from service.evaluation.benchmark.judges import OracleJudge
from service.evaluation.benchmark.report import write_report
from service.evaluation.benchmark.studies import as_json, rejection_table, trial_table
from service.evaluation.benchmark.summary import summarise
from service.evaluation.benchmark.trial import Judged, trial
from tests.unit.evaluation.benchmark.trials import MAKERS, subjects


class Constant:
    """Sees nothing."""

    def judge(self, image, sham):
        return Judged(anomaly=1.0, difference=np.ones(image.shape[:2], np.float32))


class Refuser:
    """Rejects whatever differs from its first image."""

    def __init__(self):
        self.first = None

    def judge(self, image, sham):
        self.first = image if self.first is None else self.first
        if np.array_equal(image, self.first):
            return Judged(anomaly=0.0, difference=np.zeros(image.shape[:2], np.float32))
        why = ("too-dark", "no-face") if image.mean() > self.first.mean() else ("no-face",)
        return Judged(anomaly=None, difference=None, reasons=why)


def run(judge, keep=lambda sheet: None):
    return list(trial(list(subjects()), MAKERS, judge, seed=3, keep=keep))


def test_the_oracle_reaches_the_ceiling_and_a_blind_judge_chance():
    oracle = summarise("oracle", run(OracleJudge()), repeats=0, milliseconds=1)
    blind = summarise("blind", run(Constant()), repeats=0, milliseconds=1)
    for kind in ("all", "droop", "nevus"):
        assert oracle.types[kind]["auroc_strong"].value == 1.0
        assert oracle.types[kind]["rank_within_subject"].value > 0.97
        assert blind.types[kind]["auroc_strong"].value == 0.5
        assert blind.types[kind]["pixel_auroc"].value == pytest.approx(0.5)
        assert blind.types[kind]["rank_within_subject"].value == 0.0
    assert oracle.types["nevus"]["pixel_auroc"].value > 0.95


def test_every_subject_is_shown_a_sham_and_every_severity_of_every_type():
    verdicts = run(Constant())
    assert len(verdicts) == 3 * (1 + 2 * 4)
    assert [v.kind for v in verdicts[:6]] == ["sham", *["droop"] * 4, "nevus"]
    assert np.isnan(verdicts[0].pixel_auroc)


def test_a_seed_makes_the_same_images_for_every_judge():
    seen = []

    class Recorder(Constant):
        def judge(self, image, sham):
            seen[-1].append(image.copy())
            return super().judge(image, sham)

    for _ in range(2):
        seen.append([])
        run(Recorder())
    for one, two in zip(*seen, strict=True):
        np.testing.assert_array_equal(one, two)


def test_rejections_are_counted_and_not_scored():
    summary = summarise("refuser", run(Refuser()), repeats=0, milliseconds=1)
    assert summary.types["droop"]["rejected"].value == 1.0
    assert summary.types["all"]["rejected"].value == pytest.approx(2 / 3)
    figures = as_json(trial_table(summary))
    assert figures["droop"]["auroc_strong"]["value"] is None
    json.dumps(figures, allow_nan=False)


def test_why_images_were_rejected_is_told_with_counts(tmp_path):
    verdicts = run(Refuser())
    summary = summarise("refuser", verdicts, repeats=0, milliseconds=1)
    clean = summary.rejections["clean"]
    assert (clean.images, clean.rejected) == (3, 2)
    assert clean.reasons["no-face"] == 2
    assert summary.rejections["nevus"].images == summary.rejections["nevus"].rejected == 12
    both = sum("too-dark" in v.reasons for v in verdicts)
    assert sum(one.reasons.get("too-dark", 0) for one in summary.rejections.values()) == both > 0
    figures = as_json(rejection_table(summary))
    assert figures["no-face"] == {"clean": 2, "droop": 12, "nevus": 12}
    assert figures["rejected"]["clean"] == 2
    assert list(figures) == ["images", "rejected", "no-face", "too-dark"]
    write_report(tmp_path / "report.html", [summary], {"refuser": ()})
    text = (tmp_path / "report.html").read_text()
    assert "Why images were rejected" in text
    assert re.search(r"<td>no-face</td>\s*<td>2</td>", text)
    none = summarise("oracle", run(OracleJudge()), repeats=0, milliseconds=1)
    assert [name for name, _ in rejection_table(none).rows] == ["images", "rejected"]


def test_the_report_is_one_file_that_fetches_nothing(tmp_path):
    kept = []
    summary = summarise("oracle", run(OracleJudge(), kept.append), repeats=20, milliseconds=1)
    path = tmp_path / "report.html"
    write_report(path, [summary], {"oracle": kept})
    text = path.read_text()
    assert "Synthetic validity" in text
    assert "droop" in text
    assert text.count("data:image/png;base64,") == 1
    assert not re.search(r"(src|href)=\"(?!data:)", text)


def test_somebody_with_many_photographs_counts_once():
    several = [replace(one, identity="anna") for one in subjects(4)] + [
        replace(next(subjects(1)), identity="ben")
    ]
    verdicts = list(trial(several, MAKERS, OracleJudge(), seed=3))
    found = summarise("oracle", verdicts, repeats=20, milliseconds=1.0)
    assert found.subjects == 2
    assert {v.photograph for v in verdicts} == set(range(5))
    assert found.types["all"]["rank_within_subject"].value == pytest.approx(1.0, abs=0.02)
