from __future__ import annotations

import cv2
import numpy as np
import pytest

from service.appraisal.face.alignment import (
    CANONICAL_POINTS,
    align,
    similarity,
    transform,
    warp,
)
from service.appraisal.face.finder import LEFT_COMMISSURE, LEFT_IRIS, RIGHT_COMMISSURE, RIGHT_IRIS, Face
from service.appraisal.photograph.decode import photograph_from_rgb
from tests.unit.appraisal.photographs import portrait


def test_similarity_is_recovered_exactly():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(7, 2))
    linear = 2.5 * np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    assert np.allclose(similarity(points, points @ linear.T + (3, -4)), np.hstack([linear, [[3], [-4]]]))


@pytest.mark.parametrize("size", [128, 256, 512])
def test_eyes_and_mouth_come_to_their_places(photograph, face, size):
    aligned = align(photograph, face, size)
    mouth = (aligned.landmarks[RIGHT_COMMISSURE] + aligned.landmarks[LEFT_COMMISSURE]) / 2
    found = np.stack([aligned.landmarks[RIGHT_IRIS], aligned.landmarks[LEFT_IRIS], mouth])
    assert aligned.rgb.shape == (size, size, 3)
    assert np.abs((found + 0.5) / size - CANONICAL_POINTS).max() < 0.04


def test_alignment_commutes_with_mirroring(photograph, face):
    aligned = align(photograph, face)
    mesh = face.mesh.copy()
    mesh[:, 0] = photograph.width - 1 - mesh[:, 0]
    for one, other in ((RIGHT_IRIS, LEFT_IRIS), (RIGHT_COMMISSURE, LEFT_COMMISSURE)):
        mesh[[one, other]] = mesh[[other, one]]
    mirrored = align(photograph_from_rgb(photograph.rgb[:, ::-1]), Face(mesh=mesh, pose=face.pose))
    # OpenCV interpolates on a grid of 1/32 pixel.
    assert np.abs(mirrored.rgb[:, ::-1].astype(int) - aligned.rgb).mean() < 0.5


def test_warping_matches_a_plain_warp_at_the_same_scale(photograph):
    matrix = np.array([[0.99, -0.1, 4.0], [0.1, 0.99, -7.0]])
    ours, inside = warp(photograph.rgb, matrix, (200, 220))
    plain = cv2.warpAffine(photograph.rgb, matrix, (220, 200), borderMode=cv2.BORDER_REPLICATE)
    assert np.abs(ours.astype(int) - plain)[inside].max() <= 1


def test_fine_alignment_keeps_what_linear_interpolation_blurs():
    columns = np.arange(200)
    wave = np.clip(128 + 90 * np.sin(2 * np.pi * columns / 5), 0, 255)
    rgb = np.broadcast_to(wave[None, :, None], (200, 200, 3)).astype(np.uint8)
    half_a_pixel = np.array([[1.0, 0, 0.5], [0, 1, 0]])
    true = 128 + 90 * np.sin(2 * np.pi * (columns - 0.5) / 5)
    fine, linear = (
        np.abs(warp(rgb, half_a_pixel, (200, 200), fine=way)[0][100, 8:-8, 0] - true[8:-8]).mean()
        for way in (True, False)
    )
    assert fine < 0.6 * linear


def test_reduction_averages_instead_of_skipping():
    checks = np.indices((512, 512)).sum(0) % 2 * 255
    rgb = np.repeat(checks[..., None], 3, axis=2).astype(np.uint8)
    small, _ = warp(rgb, np.array([[0.125, 0, 0], [0, 0.125, 0]]), (64, 64))
    assert np.abs(small[4:-4, 4:-4].astype(int) - 127).max() < 8


def test_pixels_outside_the_photograph_are_known(face):
    cut = photograph_from_rgb(portrait()[:, 150:])
    moved = Face(mesh=face.mesh - (150, 0, 0), pose=face.pose)
    aligned = align(cut, moved)
    left = transform(np.array([[-0.5, 100.0]]), aligned.matrix)[0, 0]
    assert not aligned.inside[:, : int(left) - 8].any()
    assert aligned.inside[:200, int(left) + 10 : 200].all()
