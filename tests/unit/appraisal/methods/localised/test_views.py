import numpy as np
import pytest

from service.appraisal.face.alignment import transform
from service.appraisal.methods.localised.views import CLOSE_UP, INPUT_SIZE, LANDMARKS, WHOLE


@pytest.mark.parametrize("view", [WHOLE, CLOSE_UP], ids=lambda view: view.name)
@pytest.mark.parametrize("size", [128, INPUT_SIZE])
def test_to_and_from_a_view_undo_each_other_and_the_middle_is_kept(view, size):
    points = np.array([[3.0, 5.0], [80.0, 120.5]])
    there = transform(points, view.from_aligned(size))
    np.testing.assert_allclose(transform(there, view.to_aligned(size)), points)
    middle = np.array([[(size - 1) / 2, 0.0]])
    assert transform(middle, view.from_aligned(size))[0, 0] == pytest.approx((view.size - 1) / 2)


@pytest.mark.parametrize("view", [WHOLE, CLOSE_UP], ids=lambda view: view.name)
def test_the_mirror_image_of_a_views_landmarks_are_its_own(view):
    order = np.array(view.mirrored)
    np.testing.assert_array_equal(order[order], np.arange(len(view.chosen)))
    assert [LANDMARKS[position] for position in view.chosen] == list(view.landmarks)


def test_the_whole_is_the_aligned_face_itself():
    np.testing.assert_allclose(WHOLE.from_aligned(INPUT_SIZE), [[1, 0, 0], [0, 1, 0]])


def test_the_close_up_covers_whole_cells_of_the_whole_face():
    for edge in (CLOSE_UP.top, CLOSE_UP.left, CLOSE_UP.extent):
        assert (edge * WHOLE.cells).is_integer()
