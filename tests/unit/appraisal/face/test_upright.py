"""A photograph that lies wrong is turned, and that is said."""

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import JPEGBaseline8Bit

from service.appraisal.appraiser import Appraiser
from service.appraisal.face.upright import upright
from service.appraisal.photograph.decode import photograph_from_rgb
from service.records import AppraisalStatus
from tests.unit.appraisal.photographs import jpeg, native, part10, portrait, with_frames


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_photograph_is_turned_until_its_face_is_upright(finder, quarters):
    sent = photograph_from_rgb(np.ascontiguousarray(np.rot90(portrait()[:300], quarters)))
    turned, faces = upright(finder, sent, finder.find(sent.rgb))
    assert np.array_equal(turned.rgb, portrait()[:300])
    assert abs(faces[0].pose.roll_deg) < 10
    assert "it was turned" in turned.warnings[-1]
    assert turned.pixel_sha256 == sent.pixel_sha256
    assert (turned.sent_height, turned.sent_width) == (300, 320)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_the_map_of_a_turned_photograph_lies_in_the_photograph_as_sent(finder, quarters):
    appraiser = Appraiser("symmetry", face_finder=finder)
    straight = portrait()[:300]
    upright_map = appraiser.appraise(photograph_from_rgb(straight)).maps
    sent = photograph_from_rgb(np.ascontiguousarray(np.rot90(straight, quarters)))
    maps = appraiser.appraise(sent).maps
    assert maps.difference.shape == sent.rgb.shape[:2]
    again = np.rot90(maps.difference, -quarters)
    assert np.array_equal(np.isnan(again), np.isnan(upright_map.difference))
    np.testing.assert_allclose(again, upright_map.difference, rtol=0.03)


def test_an_upright_photograph_and_one_without_a_face_stay(finder):
    for rgb in (portrait(), np.full((64, 64, 3), 90, np.uint8)):
        sent = photograph_from_rgb(rgb)
        assert upright(finder, sent, finder.find(sent.rgb))[0] is sent


def test_the_file_that_says_how_it_lies_and_the_frame_that_lost_it_score_alike(finder):
    """A converter that drops EXIF leaves the pixels as the sensor gave them."""
    exif = Image.Exif()
    exif[274] = 3
    lying = np.ascontiguousarray(portrait()[::-1, ::-1])
    frame = part10(with_frames(native(lying), [jpeg(lying)], JPEGBaseline8Bit, "YBR_FULL_422"))
    appraiser = Appraiser("symmetry", face_finder=finder)
    file, sent = (appraiser.appraise_bytes(data).appraisal for data in (jpeg(lying, exif=exif), frame))
    assert file.status is sent.status is AppraisalStatus.APPRAISED
    assert sent.score == file.score
    assert [region.score for region in sent.regions] == [region.score for region in file.regions]
    assert any("upside down" in warning for warning in sent.warnings)
    assert not any("upside down" in warning for warning in file.warnings)
