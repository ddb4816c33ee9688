"""One fixed scale a method's version: standard deviations above the usual at that place."""

from __future__ import annotations

import numpy as np
import pytest

from service.appraisal.calibration import load_calibration, scale_of
from service.appraisal.pictures.colour_scale import (
    GRID,
    ColourScale,
    ScaleUnit,
    measure_scale,
    relative_scale,
    scale_from_json,
    scale_to_json,
)

S = 128


def normal_maps(count: int, seed: int = 0) -> list[np.ndarray]:
    """Lognormal maps, twice as large below, of faces that fill a disc."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:S, 0:S]
    outside = np.hypot(rows - S / 2, columns - S / 2) > 0.4 * S
    maps = []
    for _ in range(count):
        field = np.kron(rng.normal(0, 0.5, (16, 16)), np.ones((S // 16, S // 16)))
        values = np.exp(field) * np.where(rows > S / 2, 2.0, 1.0)
        values[outside] = np.nan
        maps.append(values.astype(np.float32))
    return maps


@pytest.fixture(scope="module")
def scale() -> ColourScale:
    made = measure_scale(normal_maps(200))
    assert made is not None
    return made


def test_the_unit_is_standard_deviations_of_normal_faces_at_that_place(scale: ColourScale) -> None:
    values = np.stack([scale.values(each) for each in normal_maps(100, seed=1)])
    inside = np.isfinite(values).all(0)
    assert np.abs(values[:, inside].mean(0)).max() < 1.0
    assert 0.75 < values[:, inside].std() < 1.25
    assert np.isnan(values[:, 0, 0]).all()


def test_few_normal_faces_show_any_colour(scale: ColourScale) -> None:
    shown = [np.nanmax(scale.shown(each)) > scale.low for each in normal_maps(200, seed=2)]
    assert np.mean(shown) <= 0.1
    assert scale.low * 2 == round(scale.low * 2)


def test_a_difference_shows_where_it_is_although_it_raises_the_whole_map(scale: ColourScale) -> None:
    difference = normal_maps(1, seed=3)[0] * np.float32(30)  # a method that weighs the face as a whole
    difference[40:60, 40:60] *= 20
    shown = scale.shown(difference)
    painted = np.nan_to_num(shown, nan=-1) > scale.low
    assert painted[45:55, 45:55].all()
    assert painted[:, 75:].mean() < 0.1


def test_too_few_faces_give_no_scale() -> None:
    assert measure_scale(normal_maps(5)) is None


def test_a_scale_is_kept_to_three_digits(scale: ColourScale) -> None:
    read = scale_from_json(scale_to_json(scale))
    difference = normal_maps(1, seed=4)[0]
    assert np.nanmax(np.abs(read.values(difference) - scale.values(difference))) < 0.02
    assert (read.low, read.high, read.unit) == (scale.low, scale.high, ScaleUnit.DEVIATIONS)


@pytest.mark.parametrize(
    "fault",
    [
        {"mean": [[0.0]]},
        {"deviation": [[0.0] * GRID] * GRID},
        {"mean": [[float("nan")] * GRID] * GRID},
        {"low": 11.0},
        {"high": None},
    ],
)
def test_a_malformed_scale_is_refused(scale: ColourScale, fault: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        scale_from_json({**scale_to_json(scale), **fault})


@pytest.mark.parametrize("version", ["default-3", "symmetry-1"])
def test_every_shipped_calibration_has_a_scale_that_does_not_depend_on_the_picture(version: str) -> None:
    calibration = load_calibration(version)
    faint, strong = np.full((S, S), 1e-3, np.float32), np.full((S, S), 5_800, np.float32)
    assert scale_of(calibration, faint) is scale_of(calibration, strong)
    assert scale_of(calibration, faint).unit is ScaleUnit.DEVIATIONS


def test_without_a_calibration_the_picture_is_its_own_scale() -> None:
    scale = relative_scale(np.linspace(0, 1, 1001, dtype=np.float32).reshape(7, 143))
    assert scale.unit is ScaleUnit.RELATIVE
    assert 0.49 < scale.low < 0.51
    assert 0.99 < scale.high < 1.0
    assert relative_scale(np.full((3, 3), np.nan, np.float32)).high > 0
    flat = relative_scale(np.ones((3, 3), np.float32))
    assert flat.high > flat.low
    assert relative_scale(np.full((3, 3), 1e-9, np.float32)).high < 4e-9
