import numpy as np
import pytest

from service.evaluation.benchmark.measures import (
    auroc,
    bootstrap_interval,
    pixel_auroc,
    rank_correlation,
    region_overlap,
)


def test_auroc_counts_wins_and_halves_ties():
    assert auroc(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == 1.0
    assert auroc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 0.0
    assert auroc(np.array([0.0, 1.0]), np.array([1.0])) == pytest.approx(0.75)
    assert np.isnan(auroc(np.array([]), np.array([1.0])))


def test_rank_correlation_ignores_scale_and_is_zero_without_variation():
    assert rank_correlation([0, 0.25, 0.5, 1], [1, 10, 11, 900]) == pytest.approx(1.0)
    assert rank_correlation([0, 0.5, 1], [3, 3, 3]) == 0.0


def test_pixel_auroc_looks_only_at_judged_pixels():
    values = np.zeros((8, 8), np.float32)
    mask = np.zeros((8, 8), bool)
    mask[:2] = True
    values[0] = 1
    assert pixel_auroc(values, mask) == pytest.approx(0.75)
    values[1] = np.nan
    assert pixel_auroc(values, mask) == 1.0


def test_overlap_weighs_small_and_large_regions_alike():
    mask = np.zeros((40, 40), bool)
    mask[2:22, 2:22] = True
    mask[30:32, 30:32] = True
    only_large = np.where(mask, 1.0, 0.0).astype(np.float32)
    only_large[30:32, 30:32] = -1
    assert region_overlap(only_large, mask) == pytest.approx(0.5)
    assert region_overlap(np.where(mask, 1, 0).astype(np.float32), mask) == 1.0
    assert np.isnan(region_overlap(only_large, np.zeros_like(mask)))


def test_interval_holds_the_mean_and_shrinks_with_subjects():
    def mean_of(values):
        return lambda subjects: float(np.mean([values[s] for s in subjects]))

    rng = np.random.default_rng(0)
    many = {str(i): float(v) for i, v in enumerate(rng.normal(5, 1, 200))}
    few = {k: many[k] for k in list(many)[:10]}
    wide = bootstrap_interval(list(few), mean_of(few), repeats=200)
    narrow = bootstrap_interval(list(many), mean_of(many), repeats=200)
    assert narrow[0] < np.mean(list(many.values())) < narrow[1]
    assert narrow[1] - narrow[0] < wide[1] - wide[0]
    assert all(np.isnan(bootstrap_interval(list(few), mean_of(few), repeats=0)))
