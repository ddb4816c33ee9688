from __future__ import annotations

import cv2
import numpy as np
import pytest

from service.appraisal.face.alignment import align, transform
from service.appraisal.methods.symmetry.normaliser import PAIRS, SymmetryNormaliser, facial_midline
from service.appraisal.photograph.decode import photograph_from_rgb
from tests.unit.appraisal.photographs import portrait


def test_the_midline_of_a_symmetrical_mesh_is_found_exactly():
    rng = np.random.default_rng(1)
    mesh = rng.uniform(0, 256, (478, 2))
    for right, left in PAIRS:
        mesh[left] = (260 - mesh[right, 0], mesh[right, 1])
        if mesh[left, 0] < mesh[right, 0]:
            mesh[[left, right]] = mesh[[right, left]]
    turn = np.array([[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]])
    line = facial_midline(mesh @ turn.T)
    assert np.allclose(line.normal, turn @ (1, 0))
    assert float(np.dot(line.normal, line.point)) == pytest.approx(130)
    right, left = (mesh[[p[i] for p in PAIRS]] @ turn.T for i in (0, 1))
    assert np.allclose(transform(right, line.reflection()), left)


def test_a_displaced_minority_does_not_move_the_midline(aligned):
    before = facial_midline(aligned.landmarks)
    droop = aligned.landmarks.copy()
    droop[[129, 118, 117, 346, 358]] += (6, 14)
    after = facial_midline(droop)
    assert abs(np.dot(after.normal, after.point) - np.dot(before.normal, before.point)) < 1.5
    assert np.dot(after.normal, before.normal) > np.cos(np.radians(1.0))


def test_reflecting_twice_is_the_identity(aligned):
    matrix = facial_midline(aligned.landmarks).reflection()
    points = np.array([[10.0, 20.0], [200.0, 90.0]])
    assert np.allclose(transform(transform(points, matrix), matrix), points)


def test_a_symmetrical_face_is_its_own_normal_counterpart(aligned):
    (result,) = SymmetryNormaliser().normalise([aligned])
    matrix = facial_midline(aligned.landmarks).reflection()
    half = np.asarray(aligned.rgb, np.float32) / 2
    both = half + cv2.warpAffine(half, matrix, (256, 256), borderMode=cv2.BORDER_REPLICATE)
    from dataclasses import replace

    (again,) = SymmetryNormaliser().normalise([replace(aligned, rgb=np.rint(both).astype(np.uint8))])
    difference = np.abs(again.rgb.astype(float) - both).mean(axis=2)
    assert difference[again.valid].mean() < 2.0
    assert np.abs(result.rgb.astype(float) - aligned.rgb).mean(axis=2)[result.valid].mean() > 5.0


def test_light_from_the_side_is_taken_out(face, photograph):
    ramp = np.linspace(0.75, 1.25, photograph.width)[None, :, None]
    lit = photograph_from_rgb(np.clip(portrait() * ramp, 0, 255).astype(np.uint8))
    normaliser = SymmetryNormaliser()
    plain, slanted = align(photograph, face), align(lit, face)
    for side in (plain, slanted):
        (other,) = normaliser.normalise([side])
        means = [float(picture[other.valid].mean()) for picture in (side.rgb, other.rgb)]
        assert means[0] == pytest.approx(means[1], rel=0.05)
    (other,) = normaliser.normalise([slanted])
    left, right = slice(60, 110), slice(150, 200)
    ratio = slanted.rgb[120:180, left].mean() / slanted.rgb[120:180, right].mean()
    reflected = other.rgb[120:180, left].mean() / other.rgb[120:180, right].mean()
    assert reflected == pytest.approx(ratio, rel=0.12)


def test_what_mirrors_the_outside_of_the_photograph_is_not_valid(face):
    cut = photograph_from_rgb(portrait()[:, :185])
    aligned = align(cut, face)
    (result,) = SymmetryNormaliser().normalise([aligned])
    missing = transform(
        np.argwhere(~aligned.inside)[:, ::-1].astype(float), facial_midline(aligned.landmarks).reflection()
    )
    x, y = np.rint(missing).astype(int).T
    keep = (x >= 2) & (x < 254) & (y >= 2) & (y < 254)
    assert result.valid[y[keep], x[keep]].mean() < 0.02
