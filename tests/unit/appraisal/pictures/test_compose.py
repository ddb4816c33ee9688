"""Heatmap and triptych: what is painted, what is not, how large they are."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from service.appraisal.pictures.colour_scale import ColourScale, ScaleUnit
from service.appraisal.pictures.compose import Judged, heatmap, triptych
from service.appraisal.pictures.layout import LEGEND_WIDTH, PAPER, Label, legend, number, unit_of
from service.appraisal.pictures.paint import colours, paint

S = 128
SCALE = ColourScale(unit=ScaleUnit.DIFFERENCE, low=1.0, high=3.0)
LABEL = Label(method="default", version="version 3, default-3")


def judged(
    height: int = 600, width: int = 800, spot: float = 3.0, turn_deg: float = 0.0, grey: int = 120
) -> Judged:
    """A grey photograph whose square lies about its middle, with a spot at its upper left."""
    difference = np.full((S, S), 0.5, np.float32)
    difference[:10] = np.nan
    difference[30:50, 20:40] = spot
    side = 0.6 * min(height, width)
    cos, sin = np.cos(np.radians(turn_deg)) * side / S, np.sin(np.radians(turn_deg)) * side / S
    middle = np.array([width / 2, height / 2]) - np.array([[cos, -sin], [sin, cos]]) @ [S / 2, S / 2]
    return Judged(
        photograph=np.full((height, width, 3), grey, np.uint8),
        difference=difference,
        to_photograph=np.array([[cos, -sin, middle[0]], [sin, cos, middle[1]]]),
        counterpart=np.full((S, S, 3), 90, np.uint8),
        scale=SCALE,
        label=LABEL,
    )


def shifted(given: Judged, x: float, y: float) -> Judged:
    """The same with the square elsewhere."""
    return replace(given, to_photograph=given.to_photograph + np.array([[0, 0, x], [0, 0, y]]))


def painted(picture: np.ndarray) -> np.ndarray:
    """Where a grey picture has colour."""
    return np.ptp(picture.astype(int), axis=2) > 12


def test_only_what_reaches_the_scale_is_painted() -> None:
    given = judged()
    shown = heatmap(given)[:, :800]
    x, y = given.to_photograph @ (30, 40, 1)
    assert painted(shown)[round(y), round(x)]
    far_x, far_y = np.rint(given.to_photograph @ (90, 90, 1)).astype(int)
    assert not painted(shown)[far_y - 40 : far_y + 40, far_x - 40 : far_x + 40].any()
    assert 0.005 < painted(shown).mean() < 0.03


def test_a_normal_face_shows_no_colour_at_all() -> None:
    given = judged(spot=0.9)
    shown = heatmap(given)[:, :800]
    assert not painted(shown).any()


def test_what_lies_under_the_paint_stays_visible() -> None:
    rgb = np.full((200, 200, 3), 120, np.uint8)
    rgb[:, ::8] = 60  # a fine structure
    values = np.full((200, 200), 2.5, np.float32)
    values[:5] = values[-5:] = values[:, :5] = values[:, -5:] = np.nan
    shown = paint(rgb, values, SCALE)[50:150, 50:150].astype(float)
    before = rgb[50:150, 50:150].astype(float)
    assert shown.std(1).mean() > 0.5 * before.std(1).mean()


def test_colours_are_saturated_above_the_scale_and_differ_along_it() -> None:
    steps = colours(np.linspace(0, 1, 6, dtype=np.float32)).astype(int)
    assert (np.abs(np.diff(steps, axis=0)).sum(1) > 25).all()
    lightness = cv2.cvtColor(steps[None].astype(np.uint8), cv2.COLOR_RGB2LAB)[0, :, 0].astype(int)
    assert (np.diff(lightness) > 5).all()  # told apart without colour
    assert (np.abs(np.diff(lightness, 2)) < 15).all()  # in even steps
    high = paint(np.full((60, 60, 3), 120, np.uint8), np.full((60, 60), 3.0, np.float32), SCALE)
    higher = paint(np.full((60, 60, 3), 120, np.uint8), np.full((60, 60), 5_800.0, np.float32), SCALE)
    assert np.array_equal(high, higher)


@pytest.mark.parametrize(
    ("height", "width"), [(3000, 4000), (4000, 3000), (400, 300), (4000, 500), (500, 4000), (2048, 2048)]
)
@pytest.mark.parametrize("most", [2048, 512])
def test_pictures_fit_and_are_not_enlarged(height: int, width: int, most: int) -> None:
    shown = heatmap(judged(height, width), most)
    assert max(shown.shape[:2]) <= most
    assert shown.shape[0] <= height
    if max(height, width) > 2 * most and min(height, width) > 1000:
        assert max(shown.shape[:2]) > 0.97 * most
    three = triptych(judged(height, width), most)
    assert max(three.shape[:2]) <= most
    assert three.shape[1] > 0.97 * most


@pytest.mark.parametrize(("height", "width"), [(2000, 1500), (2000, 400), (400, 2000), (300, 300)])
def test_the_legend_keeps_its_proportions(height: int, width: int) -> None:
    unit = unit_of(height, width)
    panel = legend(height, unit, SCALE, LABEL)
    assert panel.shape == (height, max(8, round(LEGEND_WIDTH * unit)), 3)
    bar = painted(panel)
    rows, columns = np.flatnonzero(bar.any(1)), np.flatnonzero(bar.any(0))
    tall, across = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert 8 < tall / across < 16
    assert len(np.unique(panel[bar], axis=0)) > min(60, tall // 2)  # type: ignore[operator]


def test_the_legend_says_what_the_colours_mean() -> None:
    unit = unit_of(1500, 2000)
    panels = [legend(1500, unit, ColourScale(unit=kind, low=4.0, high=10.0), LABEL) for kind in ScaleUnit]
    assert len({panel.tobytes() for panel in panels}) == 3
    other = legend(1500, unit, SCALE, Label(method="symmetry", version="version 1"))
    assert not np.array_equal(other, legend(1500, unit, SCALE, LABEL))


@pytest.mark.parametrize("turn_deg", [0.0, 90.0, 180.0, -30.0])
def test_right_and_left_are_the_patients(turn_deg: float) -> None:
    """The square's left edge is the patient's right, whichever way the head is turned in the picture."""
    given = judged(800, 800, spot=0.5, turn_deg=turn_deg)
    shown = heatmap(given)[:, :800]
    letters = shown.max(2) > 200
    (rx, ry), (lx, ly) = (given.to_photograph @ (at, S / 2, 1) for at in (2, S - 3))
    for x, y in ((rx, ry), (lx, ly)):
        assert letters[round(y) - 30 : round(y) + 30, round(x) - 30 : round(x) + 30].any()
    r_pixels = letters[round(ry) - 30 : round(ry) + 30, round(rx) - 30 : round(rx) + 30].sum()
    l_pixels = letters[round(ly) - 30 : round(ly) + 30, round(lx) - 30 : round(lx) + 30].sum()
    assert r_pixels > l_pixels  # an R has more ink than an L


def test_marks_of_a_face_at_the_edge_stay_in_the_picture() -> None:
    given = judged(300, 300, spot=0.5)
    moved = shifted(given, -140, -140)
    assert (heatmap(moved)[:, :300].max(2) > 200).sum() > 4


def test_the_triptych_shows_photograph_counterpart_and_heatmap() -> None:
    shown = triptych(judged(), 1024)
    side = (1024 - round(LEGEND_WIDTH * unit_of(300, 300))) // 3 - 10
    first, second = shown[side // 2, side // 3], shown[side // 2, side + side // 3]
    assert abs(int(first[0]) - 120) < 4
    assert abs(int(second[0]) - 90) < 4
    assert not painted(shown[30:, : 2 * side - 20]).any()
    assert painted(shown[:, 2 * side : 3 * side]).any()


def test_a_square_beside_the_picture_paints_nothing() -> None:
    given = judged()
    assert not painted(heatmap(shifted(given, 5000, 0))[:, :800]).any()


def test_drawing_is_deterministic_and_leaves_the_photograph_as_it_was() -> None:
    given = judged()
    assert np.array_equal(heatmap(given), heatmap(given))
    assert np.array_equal(triptych(given), triptych(given))
    assert (given.photograph == 120).all()


def test_numbers_are_short() -> None:
    assert [number(v) for v in (0, 1.25e-7, 3e-12, 0.5)] == ["0", "1.2e-7", "3e-12", "0.5"]
    assert [number(v) for v in (4.5, 12.0)] == ["4.5", "12"]


def test_a_face_without_a_counterpart_has_an_empty_panel_that_says_so() -> None:
    given = judged()
    without = triptych(replace(given, counterpart=None))
    beside = triptych(given)
    assert without.shape == beside.shape
    middle = np.s_[200:260, without.shape[1] // 2 - 250 : without.shape[1] // 2 - 150]
    assert (without[middle] == PAPER).all()
    assert (beside[middle] != PAPER).any()
