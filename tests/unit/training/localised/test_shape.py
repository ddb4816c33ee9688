import numpy as np
import pytest

from service.appraisal.methods.localised.shape import MEASURES, PART_POINTS
from service.appraisal.methods.localised.views import LANDMARKS, MIRRORED
from service.errors import ConfigurationError
from service.training.faces import FacePool
from service.training.localised.shape import FEWEST, fit_shape
from tests.unit.appraisal.drawn_face import drawn_mesh

SIZE = 256


class Meshes:
    """An archive of meshes alone: faces that are longer or shorter, wider or narrower as a whole."""

    def __init__(self, count):
        rng = np.random.default_rng(4)
        mesh = drawn_mesh(SIZE)
        mesh[468], mesh[473] = mesh[[33, 133]].mean(0), mesh[[263, 362]].mean(0)
        stretch = 1 + 0.05 * rng.normal(size=(count, 1, 2))
        self.meshes = (mesh - 128) * stretch + 128 + rng.normal(0, 0.4, (count, 478, 2))

    def landmarks(self, index):
        return self.meshes[index].astype(np.float32)


def pool(count):
    return FacePool(archives=[Meshes(count)], members=[(0, number) for number in range(count)])


def test_a_long_face_may_have_a_low_chin_and_a_normal_one_may_not():
    faces = pool(400)
    shape = fit_shape(faces)
    chin = [measure.name for measure in MEASURES].index("chin-height")
    long = faces.archives[0].meshes[0].astype(np.float64)
    from service.appraisal.face.alignment import alignment_matrix, transform

    def z(mesh):
        return shape.z(transform(mesh, alignment_matrix(mesh, SIZE)), SIZE)

    assert abs(z(long)[chin]) < 4
    lowered = long.copy()
    lowered[[148, 152, 377], 1] += 12
    assert z(lowered)[chin] - z(long)[chin] > 5
    others = [i for i, measure in enumerate(MEASURES) if measure.part.value in {"eyes", "brows"}]
    assert np.abs(z(lowered) - z(long))[others].max() < np.abs(z(lowered) - z(long))[chin] / 2


def test_mirroring_changes_no_measures_size():
    shape = fit_shape(pool(400))
    at = np.random.default_rng(5).normal(0.5, 0.1, (len(LANDMARKS), 2))
    there = at[list(MIRRORED)] * [-1, 1] + [1, 0]
    one = shape.residual @ at.ravel() - shape.mean
    other = shape.residual @ there.ravel() - shape.mean
    np.testing.assert_allclose(np.abs(one), np.abs(other), atol=2e-3)


def test_a_part_predicts_none_of_its_own_measures():
    shape = fit_shape(pool(400))
    for row, measure in zip(shape.residual, MEASURES, strict=True):
        own = [LANDMARKS.index(point) for point in PART_POINTS[measure.part]]
        weights = row.reshape(-1, 2)
        np.testing.assert_allclose(weights[own], measure.functional()[own], atol=1e-12)


def test_too_few_faces_are_refused():
    with pytest.raises(ConfigurationError, match=str(FEWEST)):
        fit_shape(pool(20))
