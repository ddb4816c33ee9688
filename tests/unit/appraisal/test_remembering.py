from __future__ import annotations

from dataclasses import replace

import numpy as np

from service.appraisal.remembering import RememberingNormaliser
from service.appraisal.tables import Normalised


class _Counting:
    def __init__(self):
        self.batches = []

    def normalise(self, faces):
        self.batches.append(len(faces))
        return [Normalised(rgb=255 - face.rgb, valid=face.inside) for face in faces]


def test_each_face_is_normalised_once_and_keeps_its_place(aligned):
    other = replace(aligned, rgb=np.roll(aligned.rgb, 9, 0))
    hidden = replace(aligned, inside=np.zeros_like(aligned.inside))
    counting = _Counting()
    remembering = RememberingNormaliser(counting)
    first = remembering.normalise([aligned, other, aligned])
    assert counting.batches == [2]
    again = remembering.normalise([other, hidden, aligned])
    assert counting.batches == [2, 1]
    assert again[0] is first[1]
    assert again[2] is first[0] is first[2]
    assert np.array_equal(first[1].rgb, 255 - other.rgb)
    remembering.forget()
    remembering.normalise([aligned])
    assert counting.batches == [2, 1, 1]
