from dataclasses import replace

import numpy as np
import pytest

from service.appraisal.methods.localised.fusion import (
    EVIDENCE,
    FEATURES,
    FaceReading,
    Fusion,
    fusion_from,
    planes,
)
from service.appraisal.methods.localised.reading import Reading
from service.appraisal.methods.localised.shape import MEASURES, Part, Shape
from service.appraisal.methods.localised.views import LANDMARKS
from service.errors import ModelIntegrityError
from tests.unit.appraisal.drawn_face import drawn_mesh
from tests.unit.appraisal.methods.localised.drawn_measures import CALM, drawn_measures

SIZE = 256
CHIN_UP = [(point, 0, -18) for point in (148, 152, 377)]


def seen(evidence=0.0, spot=None, moves=()):
    """A reading of the drawn face; moves are (point, x, y) of landmarks the network finds elsewhere."""
    mesh = drawn_mesh(SIZE).astype(np.float64)
    found = mesh.copy()
    for point, x, y in moves:
        found[point] += (x, y)
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
        close_evidence=evidence,
        close_severity=0.1,
        landmarks=((found[list(LANDMARKS)] + 0.5) / SIZE).astype(np.float32),
    )
    return FaceReading(reading=reading, landmarks=mesh, face=face, redness=CALM)


@pytest.fixture
def fusion():
    face = seen()
    residual = np.stack([measure.functional().ravel() for measure in MEASURES])
    flat = Shape(residual=residual, mean=np.zeros(len(MEASURES)), deviation=np.ones(len(MEASURES)))
    return Fusion(
        mean=planes(seen().reading),
        deviation=np.full((3, 64, 64), 0.7, np.float32),
        shape=replace(
            flat,
            mean=flat.residuals(face.found(), SIZE),
            deviation=np.full(len(MEASURES), 0.01),
        ),
        weights=np.eye(len(FEATURES))[FEATURES.index("evidence")] + 0.1,
        close_weights=np.array([0.5, 0.5]),
        close_bias=-3.0,
        bias=-1.0,
        measure_weights=np.full(len(MEASURES), 1.2),
        part_biases=np.full(len(Part), -3.0),
        explicit=drawn_measures(drawn_mesh(SIZE)),
    )


def test_the_map_tells_of_its_place_alone(fusion):
    calm = fusion.difference(seen())
    assert calm.dtype == np.float32
    assert (calm > 0).all()
    assert fusion.total(seen(3.0)) > fusion.total(seen()) + 1
    np.testing.assert_array_equal(fusion.difference(seen(3.0)), calm)
    spotted = fusion.difference(seen(3.0, spot=(40, 30)))
    assert spotted[160, 120] > 3 * calm[160, 120]
    np.testing.assert_allclose(spotted[:120], calm[:120], rtol=1e-4)


def test_more_evidence_is_less_normal_and_the_spot_is_hottest(fusion):
    plain, spotted = seen(), seen(1.0, spot=(40, 30))
    assert fusion.total(spotted) > fusion.total(plain)
    difference = np.where(spotted.face, fusion.difference(spotted), 0)
    row, column = np.unravel_index(difference.argmax(), difference.shape)
    assert abs(row / 4 - 40) < 4
    assert abs(column / 4 - 30) < 4


def test_a_lowered_commissure_counts_and_shows(fusion):
    face, other = seen(), seen(moves=[(61, 0, 20)])
    name = [measure.name for measure in MEASURES].index("commissures")
    assert fusion.shape.z(other.found(), SIZE)[name] > 5
    assert abs(fusion.shape.z(face.found(), SIZE)[name]) < 0.1
    assert fusion.total(other) > fusion.total(face) + 2
    share = fusion.difference(other) / fusion.difference(other)[face.face].mean()
    before = fusion.difference(face) / fusion.difference(face)[face.face].mean()
    column, row = other.found()[61].astype(int)
    assert share[row, column] > 2 * before[row, column]


def test_a_chin_too_short_or_too_long_is_odd_alike(fusion):
    chin = (148, 152, 377)
    short, long = (fusion.total(seen(moves=[(point, 0, move) for point in chin])) for move in (-12, 12))
    assert short == pytest.approx(long, rel=0.05)
    assert short > fusion.total(seen()) + 1


def test_any_one_part_is_evidence_enough_and_two_are_little_more(fusion):
    lids = [(point, 0, 18) for point in (160, 159, 158)]
    chin, lid = fusion.total(seen(moves=CHIN_UP)), fusion.total(seen(moves=lids))
    assert min(chin, lid) > fusion.total(seen()) + 2
    assert max(chin, lid) < fusion.total(seen(moves=[*CHIN_UP, *lids])) < max(chin, lid) + 1


def test_evidence_left_out_no_longer_counts(fusion):
    evidence = np.stack([fusion.evidence(seen(moves=CHIN_UP)), fusion.evidence(seen(4.0))])
    assert evidence.shape == (2, len(EVIDENCE))
    whole = fusion.weigh(evidence)
    assert whole[1] == pytest.approx(fusion.total(seen(4.0)))
    jaw = fusion.weigh(evidence, without="shape of the jaw")
    assert jaw[0] < whole[0] - 2
    assert jaw[1] == pytest.approx(whole[1], abs=0.1)
    assert fusion.weigh(evidence, without="evidence")[1] < whole[1] - 2


def test_a_stored_fusion_comes_back_and_a_broken_one_is_refused(fusion):
    back = fusion_from(fusion.tensors())
    assert back.total(seen(1.0)) == pytest.approx(fusion.total(seen(1.0)), rel=1e-4)
    with pytest.raises(ModelIntegrityError, match="lacks"):
        fusion_from({k: v for k, v in fusion.tensors().items() if k != "bias"})
    with pytest.raises(ModelIntegrityError, match="of another shape"):
        fusion_from({**fusion.tensors(), "weights": fusion.tensors()["weights"][:2]})


def test_what_only_the_close_up_sees_is_enough(fusion):
    calm = seen()
    told = replace(calm.reading, close_evidence=12.0)
    near = FaceReading(reading=told, landmarks=calm.landmarks, face=calm.face, redness=CALM)
    assert fusion.total(near) > fusion.total(calm) + 1
    evidence = fusion.evidence(near)
    without = fusion.weigh(evidence, without="close-up")
    assert without == pytest.approx(fusion.weigh(fusion.evidence(calm), without="close-up"))


def test_a_red_mark_that_the_network_does_not_see_is_enough(fusion):
    calm = seen()
    red = replace(calm, redness=2 * CALM)
    assert fusion.total(red) > fusion.total(calm) + 2
    assert fusion.total(replace(calm, redness=3 * CALM)) >= fusion.total(red)
    evidence = np.stack([fusion.evidence(red), fusion.evidence(calm)])
    without = fusion.weigh(evidence, without="redness")
    assert without[0] == pytest.approx(without[1])
