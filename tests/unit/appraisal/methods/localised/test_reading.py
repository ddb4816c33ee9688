import numpy as np
import pytest
import torch

from service.appraisal.face.alignment import align
from service.appraisal.face.finder import Face
from service.appraisal.face.pose import Pose
from service.appraisal.methods.localised.anomaly_network import AnomalyNetwork, together
from service.appraisal.methods.localised.reading import NetworkReader, close_up, found_landmarks
from service.appraisal.methods.localised.views import CLOSE_UP, INPUT_SIZE, LANDMARKS, MIRRORED
from service.appraisal.photograph.decode import photograph_from_rgb
from service.errors import ModelIntegrityError
from tests.unit.appraisal.drawn_face import drawn_face


@pytest.fixture(scope="module")
def tensors():
    torch.manual_seed(0)
    return together(AnomalyNetwork().state_dict(), AnomalyNetwork(CLOSE_UP).state_dict())


@pytest.fixture(scope="module")
def reader(tensors):
    return NetworkReader(tensors)


def aligned(image, landmarks, size=INPUT_SIZE):
    mesh = np.hstack([landmarks.astype(np.float64), np.zeros((478, 1))])
    mesh[468, :2], mesh[473, :2] = (
        landmarks[[33, 133]].mean(0),
        landmarks[[263, 362]].mean(0),
    )
    face = Face(mesh=mesh, pose=Pose(yaw_deg=0, pitch_deg=0, roll_deg=0))
    return align(photograph_from_rgb(image), face, size)


def test_mirroring_a_face_mirrors_its_reading(reader):
    drawn = drawn_face()
    rgb = aligned(drawn.image, drawn.landmarks)
    other = type(rgb)(**{**vars(rgb), "rgb": np.ascontiguousarray(rgb.rgb[:, ::-1])})
    one, two = reader.read([rgb])[0], reader.read([other])[0]
    assert one.evidence == pytest.approx(two.evidence, abs=1e-4)
    np.testing.assert_allclose(one.localisation, two.localisation[:, ::-1], atol=1e-4)
    np.testing.assert_allclose(one.flow[..., 0], -two.flow[:, ::-1, 0], atol=1e-5)
    mirrored = two.landmarks[list(MIRRORED)]
    np.testing.assert_allclose(one.landmarks[:, 0], 1 - mirrored[:, 0], atol=1e-4)


def test_a_batch_reads_as_its_members(reader):
    drawn = drawn_face()
    face = aligned(drawn.image, drawn.landmarks)
    dark = type(face)(**{**vars(face), "rgb": (face.rgb * 0.7).astype(np.uint8)})
    together, alone = reader.read([face, dark]), reader.read([dark])
    np.testing.assert_allclose(together[1].localisation, alone[0].localisation, atol=1e-3)
    assert reader.read([]) == []


def test_a_face_of_another_size_is_brought_to_the_networks(reader):
    drawn = drawn_face(512)
    small = drawn_face(256)
    big = reader.read([aligned(drawn.image, drawn.landmarks, 512)])[0]
    assert big.localisation.shape == (64, 64)
    assert reader.read([aligned(small.image, small.landmarks, 128)])[0].flow.shape == (64, 64, 2)


def test_landmarks_are_put_where_the_network_finds_them(reader):
    drawn = drawn_face()
    face = aligned(drawn.image, drawn.landmarks)
    reading = reader.read([face])[0]
    found = found_landmarks(reading, face.landmarks, face.size)
    untouched = sorted(set(range(478)) - set(LANDMARKS))
    np.testing.assert_array_equal(found[untouched], face.landmarks[untouched])
    np.testing.assert_allclose(found[list(LANDMARKS)], reading.landmarks * face.size - 0.5)


def test_mirrored_is_an_involution_without_gaps():
    order = np.array(MIRRORED)
    np.testing.assert_array_equal(order[order], np.arange(len(LANDMARKS)))


@pytest.mark.parametrize(
    ("missing", "named"), [("heads", "whole"), ("close_up.heads", "close-up"), ("close_up", "close-up")]
)
def test_foreign_weights_are_refused(tensors, missing, named):
    with pytest.raises(ModelIntegrityError, match=f"not weights of the {named}"):
        NetworkReader({k: v for k, v in tensors.items() if not k.startswith(missing)})


def test_what_is_seen_from_close_by_lies_where_it_does_in_the_face():
    rgb = np.zeros((INPUT_SIZE, INPUT_SIZE, 3), np.uint8)
    rgb[180:184, 100:104] = 255
    seen = np.argwhere(close_up(rgb)[..., 0] > 128).mean(0)[::-1]
    back = CLOSE_UP.to_aligned(INPUT_SIZE)
    np.testing.assert_allclose(seen @ back[:, :2].T + back[:, 2], (101.5, 181.5), atol=0.3)


def test_the_close_up_speaks_of_mouth_and_nose_alone(tensors):
    drawn = drawn_face()
    face = aligned(drawn.image, drawn.landmarks)
    other = {k: v + 1 if k == "close_up.heads.bias" else v for k, v in tensors.items()}
    one, two = (NetworkReader(each).read([face])[0] for each in (tensors, other))
    raised = two.localisation - one.localisation
    np.testing.assert_allclose(raised[29:61, 16:48], 0.5, atol=1e-4)
    assert np.count_nonzero(np.abs(raised) > 1e-6) == 32 * 32
    assert (one.evidence, one.severity) == (two.evidence, two.severity)
    beyond = [position for position in range(len(LANDMARKS)) if position not in CLOSE_UP.chosen]
    moved = {k: v + 1 if k == "close_up.points.beyond" else v for k, v in tensors.items()}
    three = NetworkReader(moved).read([face])[0]
    np.testing.assert_array_equal(three.landmarks[beyond], one.landmarks[beyond])
    assert np.abs(three.landmarks - one.landmarks).max() > 0
