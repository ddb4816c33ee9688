import numpy as np
import pytest

from service.errors import ConfigurationError
from service.training.faces import HELD_OUT_SOURCES, Split, open_pool, split_of
from tests.unit.appraisal.drawn_face import drawn_face
from tests.unit.training.archives import write_archive


def test_splits_are_disjoint_complete_and_follow_identity(tmp_path):
    write_archive(tmp_path, 128, ["one"] * 60)
    pools = {split: open_pool(tmp_path, split) for split in Split}
    assert sum(len(pool) for pool in pools.values()) == 60
    who = {s: {p.face(i, 128).identity for i in range(len(p))} for s, p in pools.items()}
    assert not who[Split.TRAIN] & who[Split.TEST]
    assert not who[Split.TRAIN] & who[Split.CALIBRATION]
    assert len(pools[Split.TRAIN]) > 30


def test_some_sources_are_never_trained_on():
    for source in HELD_OUT_SOURCES:
        assert {split_of(str(i), source) for i in range(50)} == {Split.TEST}


def test_a_source_is_read_from_the_finest_archive_only(tmp_path):
    write_archive(tmp_path, 256, ["fine"] * 4)
    write_archive(tmp_path, 128, ["fine"] * 4 + ["coarse"] * 6)
    assert sum(len(open_pool(tmp_path, split)) for split in Split) == 10
    assert sum(len(open_pool(tmp_path, split, fine_only=True)) for split in Split) == 4


def test_landmarks_scale_with_the_image(tmp_path):
    write_archive(tmp_path, 128, ["one"] * 20)
    pool = open_pool(tmp_path, Split.TRAIN)
    face = pool.face(0, 256)
    assert face.image.shape == (256, 256, 3)
    np.testing.assert_allclose(face.landmarks[:, 0], drawn_face(256).landmarks[:, 0], atol=1.0)


def test_archives_that_are_missing_or_malformed_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="no faces_"):
        open_pool(tmp_path, Split.TRAIN)
    np.savez(tmp_path / "faces_256.npz", jpeg=np.zeros(3, np.uint8))
    with pytest.raises(ConfigurationError, match="not an archive of faces"):
        open_pool(tmp_path, Split.TRAIN)
