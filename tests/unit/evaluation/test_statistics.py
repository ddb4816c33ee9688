from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from service.errors import ConfigurationError
from service.evaluation.statistics import agreement, detection, rater_agreement, to_ratings

# Shrout and Fleiss 1979, table 2: six targets, four judges.
SHROUT_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
)


def test_figures_agree_with_scipy():
    rng = np.random.default_rng(0)
    ratings = rng.uniform(1, 7, 60)
    scores = 0.3 * ratings + rng.normal(0, 0.3, 60)
    result = agreement(scores, ratings, draws=400)
    assert result.pearson.value == pytest.approx(stats.pearsonr(scores, ratings).statistic)
    assert result.spearman.value == pytest.approx(stats.spearmanr(scores, ratings).statistic)
    scaled = to_ratings(scores, ratings)
    assert result.mae.value == pytest.approx(np.abs(scaled - ratings).mean())
    assert result.w1.value == pytest.approx(stats.wasserstein_distance(scaled, ratings))
    for figure in (result.pearson, result.spearman):
        assert figure.low < figure.value < figure.high < 1


def test_intervals_are_percentiles_of_figures_of_resampled_photographs():
    rng = np.random.default_rng(3)
    ratings = rng.uniform(1, 7, 12).round(1)
    scores = 0.3 * ratings + rng.normal(0, 0.3, 12)
    result = agreement(scores, ratings, draws=80, seed=5)
    rows = np.random.default_rng(5).integers(0, 12, (80, 12))
    scaled = to_ratings(scores, ratings)
    by_scipy = {
        "pearson": [stats.pearsonr(scores[i], ratings[i]).statistic for i in rows],
        "spearman": [stats.spearmanr(scores[i], ratings[i]).statistic for i in rows],
        "mae": [np.abs(scaled[i] - ratings[i]).mean() for i in rows],
    }
    distances = np.array([stats.wasserstein_distance(scaled[i], ratings[i]) for i in rows])
    by_scipy["w1"] = list(distances - distances.mean() + result.w1.value)
    for name, drawn in by_scipy.items():
        figure = getattr(result, name)
        low, high = np.percentile(drawn, [2.5, 97.5])
        assert (figure.low, figure.high) == pytest.approx((max(low, 0.0) if name == "w1" else low, high))


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(40):
        ratings = rng.normal(0, 1, 80)
        scores = 0.6 * ratings + 0.8 * rng.normal(0, 1, 80)
        figure = agreement(scores, ratings, draws=200, seed=trial).pearson
        hits += figure.low <= 0.6 <= figure.high
    assert 33 <= hits <= 40


def test_perfect_and_reversed_scores():
    ratings = np.linspace(1, 7, 30)
    best = agreement(ratings * 2 + 5, ratings, draws=50)
    assert best.pearson.value == best.spearman.value == pytest.approx(1)
    assert best.mae.value == pytest.approx(0, abs=1e-9)
    worst = agreement(-ratings, ratings, draws=50)
    assert worst.pearson.value == pytest.approx(-1)
    assert worst.mae.value > 2


@pytest.mark.parametrize(("scores", "ratings"), [([1, 2, 3], [4, 4, 4]), ([1, 1, 1], [2, 3, 4])])
def test_constant_values_are_refused(scores, ratings):
    with pytest.raises(ConfigurationError, match="constant"):
        agreement(scores, ratings)


def test_icc_of_shrout_and_fleiss():
    both = rater_agreement(SHROUT_FLEISS)
    assert (both.model, both.single, both.mean) == (
        "ICC(2)",
        pytest.approx(0.29, abs=0.005),
        pytest.approx(0.62, abs=0.005),
    )
    holes = np.hstack([SHROUT_FLEISS, np.full((6, 1), np.nan)])
    one_way = rater_agreement(holes)
    assert (one_way.model, one_way.single, one_way.mean) == (
        "ICC(1)",
        pytest.approx(0.17, abs=0.005),
        pytest.approx(0.44, abs=0.005),
    )


def test_icc_needs_two_ratings():
    with pytest.raises(ConfigurationError):
        rater_agreement(np.array([[1.0, np.nan], [2.0, 3.0]]))


def test_detection_agrees_with_scikit_learn_and_by_hand():
    rng = np.random.default_rng(2)
    normal, anomalous = np.round(rng.normal(1, 1, 200), 1), np.round(rng.normal(0, 1, 150), 1)
    labels = np.r_[np.zeros(200), np.ones(150)]
    result = detection(list(normal), list(anomalous))
    assert result.auroc == pytest.approx(roc_auc_score(labels, -np.r_[normal, anomalous]))
    assert result.eer == pytest.approx(0.31, abs=0.05)
    fixed = detection([3, 4, 5, 6], [1, 2, 3.5, 7], threshold=3.8)
    assert (fixed.sensitivity, fixed.specificity, fixed.ppv, fixed.npv) == (0.75, 0.75, 0.75, 0.75)
    assert np.isnan(detection([1], [2], threshold=0).ppv)
    with pytest.raises(ConfigurationError):
        detection([], [1.0])


def test_the_interval_of_the_distance_contains_it():
    rng = np.random.default_rng(4)
    for count in (8, 30, 120):
        for noise in (0.05, 0.5, 2.0):
            ratings = rng.uniform(1, 7, count).round(1)
            scores = -5 + ratings / 3 + rng.normal(0, noise, count)
            found = agreement(list(scores), list(ratings), draws=400).w1
            assert 0 <= found.low <= found.value <= found.high
