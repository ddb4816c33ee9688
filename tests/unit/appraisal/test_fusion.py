from dataclasses import replace

import numpy as np
import pytest

from service.appraisal.anomaly_network import LANDMARKS
from service.appraisal.asymmetry import NAMES, POINTS, SPANS, measure, paint, proportions
from service.appraisal.fusion import FEATURES, FaceReading, Fusion, fusion_from, mesh_measures, planes
from service.appraisal.reading import Reading
from service.errors import ModelIntegrityError
from tests.unit.appraisal.drawn_face import drawn_mesh

SIZE = 256


def seen(evidence=0.0, spot=None):
    mesh = drawn_mesh(SIZE).astype(np.float64)
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    face = ((columns - 128) / 92) ** 2 + ((rows - 138) / 112) ** 2 < 1
    local = np.full((64, 64), -3.0, np.float32)
    if spot is not None:
        local[spot[0] - 2 : spot[0] + 3, spot[1] - 2 : spot[1] + 3] = 4.0
    reading = Reading(
        localisation=local,
        flow=np.zeros((64, 64, 2), np.float32),
        residual=np.zeros((64, 64, 3), np.float32),
        evidence=evidence,
        severity=0.1,
        landmarks=((mesh[list(LANDMARKS)] + 0.5) / SIZE).astype(np.float32),
    )
    return FaceReading(reading=reading, landmarks=mesh, face=face)


@pytest.fixture
def fusion():
    return Fusion(
        mean=planes(seen().reading),
        deviation=np.full((3, 64, 64), 0.7, np.float32),
        mesh_mean=mesh_measures(seen()),
        mesh_deviation=np.full(len(POINTS), 0.01),
        weights=np.eye(len(FEATURES))[FEATURES.index("evidence")] + 0.1,
        bias=-1.0,
    )


def test_minus_log_of_the_mean_is_the_total(fusion):
    for evidence in (-2.0, 0.0, 3.0):
        face = seen(evidence)
        difference = fusion.difference(face)
        assert -np.log(difference[face.face].mean()) == pytest.approx(-fusion.total(face), abs=1e-4)
        assert difference.dtype == np.float32
        assert (difference > 0).all()


def test_more_evidence_is_less_normal_and_the_spot_is_hottest(fusion):
    plain, spotted = seen(), seen(1.0, spot=(40, 30))
    assert fusion.total(spotted) > fusion.total(plain)
    difference = np.where(spotted.face, fusion.difference(spotted), 0)
    row, column = np.unravel_index(difference.argmax(), difference.shape)
    assert abs(row / 4 - 40) < 4
    assert abs(column / 4 - 30) < 4


def test_a_lowered_commissure_counts_and_shows(fusion):
    face = seen()
    lowered = face.landmarks.copy()
    lowered[61, 1] += 20
    other = replace(face, landmarks=lowered)
    name = NAMES.index("commissure-height")
    assert fusion.oddities(other)[name] > 5
    assert abs(fusion.oddities(face)[name]) < 0.1
    share = fusion.difference(other) / fusion.difference(other)[face.face].mean()
    before = fusion.difference(face) / fusion.difference(face)[face.face].mean()
    column, row = lowered[61].astype(int)
    assert share[row, column] > 2 * before[row, column]


def test_asymmetries_do_not_change_under_mirroring():
    mesh = drawn_mesh(SIZE).astype(np.float64)
    mesh[61] += (3, 9)
    swapped = mesh.copy()
    for right, left in ((61, 291), (37, 267), (105, 334)):
        swapped[[right, left]] = mesh[[left, right]]
    swapped[:, 0] = SIZE - 1 - swapped[:, 0]
    for name in ("commissure-height", "commissure-side", "bow-side"):
        index = NAMES.index(name)
        assert measure(swapped, SIZE)[index] == pytest.approx(measure(mesh, SIZE)[index], abs=1e-9)


def test_a_chin_too_short_or_too_long_is_odd_alike(fusion):
    face = seen()
    index = len(NAMES) + [span.name for span in SPANS].index("chin-height")
    odd = []
    for move in (-12, 12):
        other = face.landmarks.copy()
        other[152, 1] += move
        odd.append(fusion.oddities(replace(face, landmarks=other))[index])
    assert odd[0] == pytest.approx(odd[1], rel=0.05)
    assert odd[0] > 3
    assert proportions(face.landmarks, SIZE).shape == (len(SPANS),)


def test_nothing_unusual_paints_nothing():
    mesh = drawn_mesh(SIZE).astype(np.float64)
    assert not paint(np.full(len(POINTS), -1.0), POINTS, mesh, SIZE, 0.05).any()


def test_a_stored_fusion_comes_back_and_a_broken_one_is_refused(fusion):
    back = fusion_from(fusion.tensors())
    assert back.total(seen(1.0)) == pytest.approx(fusion.total(seen(1.0)), rel=1e-4)
    with pytest.raises(ModelIntegrityError, match="lacks"):
        fusion_from({k: v for k, v in fusion.tensors().items() if k != "bias"})
    with pytest.raises(ModelIntegrityError, match="shape"):
        fusion_from({**fusion.tensors(), "weights": fusion.tensors()["weights"][:2]})
