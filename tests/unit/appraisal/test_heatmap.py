from __future__ import annotations

import cv2
import numpy as np
from service.appraisal.heatmap import HeatmapScale, _label, encode_png, paint, render_heatmap, scale_of

SCALE = HeatmapScale(low=1.0, high=3.0)


def _map(photograph):
    difference = np.full(photograph.rgb.shape[:2], np.nan, np.float32)
    difference[80:200, 100:220] = 1.0
    difference[120:140, 150:170] = 3.0
    return difference


def test_only_what_was_judged_and_differs_is_painted(photograph):
    difference = _map(photograph)
    heatmap = render_heatmap(photograph, difference, SCALE)
    picture = heatmap[:, : photograph.width]
    unjudged = cv2.erode(np.isnan(difference).astype(np.uint8), np.ones((7, 7))) > 0
    assert np.array_equal(picture[unjudged], photograph.rgb[unjudged])
    assert np.array_equal(picture[85:115, 110:210], photograph.rgb[85:115, 110:210])
    assert np.abs(picture[122:138, 152:168].astype(int) - photograph.rgb[122:138, 152:168]).mean() > 40


def test_the_panel_stands_beside_the_photograph_and_shows_every_colour(photograph):
    heatmap = render_heatmap(photograph, _map(photograph), SCALE)
    assert heatmap.shape[0] == photograph.height
    panel = heatmap[:, photograph.width :]
    assert panel.shape[1] >= 40
    assert len(np.unique(panel.reshape(-1, 3), axis=0)) > 100


def test_rendering_is_deterministic_and_png_keeps_it(photograph):
    one, other = (render_heatmap(photograph, _map(photograph), SCALE) for _ in range(2))
    assert np.array_equal(one, other)
    decoded = cv2.imdecode(np.frombuffer(encode_png(one), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(decoded[..., ::-1], one)


def test_a_scale_from_the_map_itself():
    scale = scale_of(np.linspace(0, 1, 1001, dtype=np.float32).reshape(7, 143))
    assert 0.49 < scale.low < 0.51
    assert 0.99 < scale.high < 1.0
    assert scale_of(np.full((3, 3), np.nan, np.float32)).high > 0
    flat = scale_of(np.ones((3, 3), np.float32))
    assert flat.high > flat.low


def test_very_small_differences_are_painted_on_a_scale_of_their_own_and_labelled(photograph):
    small = _map(photograph) * np.float32(1e-9)
    scale = scale_of(small)
    assert scale.high < 4e-9
    assert np.array_equal(
        paint(photograph.rgb, small, scale),
        paint(photograph.rgb, _map(photograph), scale_of(_map(photograph))),
    )
    assert [_label(v) for v in (0, 1.25e-7, 3e-12, 0.5, 12.0)] == ["0", "1.2e-7", "3e-12", "0.5", "12"]


def test_identical_pictures_have_nothing_painted(photograph):
    nothing = np.zeros(photograph.rgb.shape[:2], np.float32)
    assert np.array_equal(paint(photograph.rgb, nothing, scale_of(nothing)), photograph.rgb)
