"""A map goes back to where it came from."""

from __future__ import annotations

import cv2
import numpy as np

from service.appraisal.face.alignment import transform
from service.appraisal.face.regions import face_mask
from service.appraisal.pictures.placing import photograph_map, place
from service.pictures.native_map import NativeMap


def native(values: np.ndarray, aligned, photograph) -> NativeMap:
    return NativeMap(
        difference=values.astype(np.float32),
        to_photograph=aligned.to_photograph,
        rows=photograph.height,
        columns=photograph.width,
    )


def test_a_map_goes_back_to_where_it_came_from(photograph, face, aligned):
    rows, columns = np.mgrid[0:256, 0:256].astype(np.float32)
    judged = face_mask(aligned.landmarks, (256, 256))
    full = photograph_map(native(np.where(judged, columns + 1000 * rows, np.nan), aligned, photograph))
    assert full.shape == photograph.rgb.shape[:2]
    assert full.dtype == np.float32
    known = np.isfinite(full)
    expected = face_mask(face.landmarks, full.shape)
    assert (known != expected).mean() < 0.005
    ys, xs = np.nonzero(known & (cv2.erode(expected.astype(np.uint8), np.ones((7, 7))) > 0))
    where = transform(np.stack([xs, ys], 1).astype(float), aligned.matrix)
    error = np.abs(full[ys, xs] - (where[:, 0] + 1000 * where[:, 1]))
    assert error[where.max(1) < 254].max() < 60  # 0.06 px down


def test_nothing_judged_gives_nothing(aligned, photograph):
    assert np.isnan(photograph_map(native(np.full((256, 256), np.nan), aligned, photograph))).all()


def test_a_map_of_before_is_the_photographs_own():
    old = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert photograph_map(NativeMap(difference=old, to_photograph=np.eye(2, 3), rows=3, columns=4)) is old


def test_a_map_beside_the_picture_is_nowhere():
    assert place(np.ones((8, 8), np.float32), np.array([[1.0, 0, 500], [0, 1, 0]]), (100, 100)) is None
