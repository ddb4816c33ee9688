"""The paint map and the fill, on drawn skin."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from service.appraisal.methods.localised.counterpart.fill import Texture, filled, membrane, mirrored_texture
from service.appraisal.methods.localised.counterpart.frame import CELLS, SIDE, cells
from service.appraisal.methods.localised.counterpart.paint_map import (
    COLOUR,
    FEATURES,
    REDNESS,
    VIEWS,
    PaintMap,
    paint_map_from,
)
from service.errors import ModelIntegrityError

SKIN = np.array([65.0, 15.0, 18.0], np.float32)
EVERYWHERE = np.ones((CELLS, CELLS), bool)
QUIET = np.zeros((CELLS, CELLS), np.float32)
HERE = (90, 150)  # column and row of a mark, pixels of the frame


@pytest.fixture(scope="module")
def region():
    plane = np.zeros((CELLS, CELLS), np.uint8)
    cv2.ellipse(plane, (64, 64), (45, 55), 0, 0, 360, (1.0,), -1)
    return (plane & plane[:, ::-1]) > 0


@pytest.fixture(scope="module")
def paint(region):
    flat = np.zeros((CELLS, CELLS, FEATURES), np.float32)
    one = np.ones_like(flat)
    return PaintMap(
        region=region,
        middle=flat,
        spread=one,
        sides=one,
        medians=np.full(VIEWS, 0.3),
        usual=np.ones((CELLS, CELLS, VIEWS), np.float32),
        peaks=np.array([3.0, 12.0]),
        threshold=1.0,
    )


def skin(mark=(0.0, 0.0, 0.0), radius=24, sides=(HERE,)):
    """Skin with a soft mark; (SIDE, SIDE, 3) CIE L*a*b*."""
    grain = np.random.default_rng(1).normal(0, 0.6, (SIDE, SIDE, 3)).astype(np.float32)
    share = np.zeros((SIDE, SIDE), np.float32)
    for x, y in sides:
        cv2.circle(share, (x, y), radius, (1.0,), -1)
    share = cv2.GaussianBlur(share, (0, 0), 2.0)[..., None]
    return SKIN + grain + share * np.array(mark, np.float32), share[..., 0] > 0.5


def painted(paint, colours, z=QUIET, shown=EVERYWHERE):
    return paint.painted(paint.find(cells(colours), shown, z))


def unpainted(paint, texture, colours, z=QUIET):
    """The colours without what the map finds."""
    found = paint.find(cells(colours), EVERYWHERE, z)
    red = found[..., REDNESS] >= found[..., COLOUR]
    return filled(colours, cells(colours), paint.painted(found), red, texture)


def overlap(found, mark):
    truth = cells(mark.astype(np.float32)) > 0.5
    return (found & truth).sum() / truth.sum()


def test_red_as_bright_as_the_skin_is_found_and_even_skin_is_not(paint):
    assert not painted(paint, skin()[0]).any()
    colours, mark = skin((0, 14, 0))
    assert overlap(painted(paint, colours), mark) > 0.9


def test_what_both_sides_have_is_no_paint(paint):
    both = (HERE, (SIDE - 1 - HERE[0], HERE[1]))
    assert not painted(paint, skin((0, 14, 0), sides=both)[0]).any()


def test_a_dark_mark_counts_where_the_network_sees_an_anomaly_and_not_alone(paint):
    colours, mark = skin((-30, 0, 0), radius=16)
    assert not painted(paint, colours).any()
    z = cells(mark.astype(np.float32)) * np.float32(6)
    assert overlap(painted(paint, colours, z), mark) > 0.9
    assert not painted(paint, skin()[0], z).any()


def test_what_is_covered_is_not_judged(paint):
    colours, mark = skin((0, 14, 0))
    shown = ~cv2.dilate(cells(mark.astype(np.float32)), np.ones((25, 25))).astype(bool)
    assert not painted(paint, colours, shown=shown).any()
    assert not painted(paint, colours, shown=np.zeros_like(shown)).any()


def test_a_map_is_stored_whole_and_refused_in_part(paint, region):
    colours, _ = skin((0, 14, 0))
    read = paint_map_from(paint.tensors(), region)
    np.testing.assert_array_equal(painted(read, colours), painted(paint, colours))
    for name in paint.tensors():
        with pytest.raises(ModelIntegrityError, match=name):
            paint_map_from({k: v for k, v in paint.tensors().items() if k != name}, region)


@pytest.fixture(scope="module")
def texture(region):
    """Skin that is darker or brighter as a whole."""
    count = int(region.sum())
    basis = np.zeros((3 * count, 1), np.float32)
    basis[::3, 0] = 1 / np.sqrt(count)
    return Texture(
        region=region, mean=np.tile(SKIN, count), basis=basis, variance=np.array([100.0 * count], np.float32)
    )


def test_a_tint_is_taken_off_and_the_skins_own_grain_stays(paint, texture):
    colours, mark = skin((0, 14, 4))
    clean, _ = skin()
    out = unpainted(paint, texture, colours)
    np.testing.assert_array_equal(out[..., 0], colours[..., 0])
    assert np.abs(out - clean)[mark].mean() < 0.25 * np.abs(colours - clean)[mark].mean()


def test_a_dark_mark_is_replaced_and_all_else_stays(paint, texture):
    colours, mark = skin((-30, 4, -4), radius=16)
    clean, _ = skin()
    z = cells(mark.astype(np.float32)) * np.float32(6)
    hole = painted(paint, colours, z)
    out = unpainted(paint, texture, colours, z)
    assert np.abs(out - clean)[mark].mean() < 0.15 * np.abs(colours - clean)[mark].mean()
    far = cv2.dilate(hole.astype(np.uint8), np.ones((5, 5))).astype(bool).repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(out[~far], colours[~far])


def test_a_tint_that_goes_on_over_the_edge_of_the_face_goes_with_it(paint, texture, region):
    edge = (int(np.nonzero(region[64])[0].min()) * 2, 128)
    colours, mark = skin((0, 16, 0), radius=30, sides=(edge,))
    clean, _ = skin()
    out = unpainted(paint, texture, colours)
    beyond = mark & ~(region.repeat(2, 0).repeat(2, 1))
    assert beyond.sum() > 500
    assert np.abs(out - clean)[beyond].mean() < 0.5 * np.abs(colours - clean)[beyond].mean()


def test_the_model_goes_by_what_is_known_only(texture):
    dark = np.tile(SKIN + np.array([-10, 0, 0], np.float32), (CELLS, CELLS, 1))
    spoilt = dark.copy()
    spoilt[60:80, 40:60] = 0
    known = np.ones((CELLS, CELLS), bool)
    known[60:80, 40:60] = False
    expected = texture.expected(spoilt, known)
    np.testing.assert_allclose(expected[70, 50], dark[70, 50], atol=0.5)


def test_a_membrane_carries_the_rim_inwards():
    plane = np.full((64, 64, 3), 7.0, np.float32)
    hole = np.zeros((64, 64), bool)
    hole[20:40, 20:40] = True
    plane[hole] = -50
    np.testing.assert_allclose(membrane(plane, hole), 7.0, atol=1e-3)


def test_the_other_sides_texture_comes_in_this_sides_light(region):
    colours, mark = skin((-20, 0, 0), sides=((SIDE - 1 - HERE[0], HERE[1]),))
    colours[:, : SIDE // 2, 0] += 10
    here = mark[:, ::-1]
    wide = cv2.dilate(here.astype(np.uint8), np.ones((15, 15))) > 0
    out = mirrored_texture(colours, wide)
    assert abs(out[HERE[1], HERE[0], 0] - (SKIN[0] + 10 - 20)) < 4
    np.testing.assert_array_equal(out[~wide], colours[~wide])


def test_the_peaks_of_views_are_apart(paint):
    colours, _ = skin((0, 14, 0))
    strict = replace(paint, peaks=np.array([300.0, 12.0]))
    assert not painted(strict, colours).any()


def test_lips_beside_a_mark_are_not_smeared_into_it(paint, texture):
    colours, mark = skin((-30, 4, -4), radius=14, sides=((90, 150),))
    clean, _ = skin()
    for picture in (colours, clean):
        picture[168:182, 84:172] += np.array(
            [-14, 22, 4], np.float32
        )  # lips, below the mark and on both sides
    out = unpainted(paint, texture, colours, cells(mark.astype(np.float32)) * np.float32(6))
    above = mark.copy()
    above[160:] = False
    assert np.abs(out - clean)[above].mean() < 0.2 * np.abs(colours - clean)[above].mean()
