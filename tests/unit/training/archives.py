"""Archives of faces, as trainings read them."""

from __future__ import annotations

import cv2
import numpy as np

from tests.unit.appraisal.drawn_face import drawn_face


def write_archive(folder, size, sources):
    """An archive of drawn faces, each with its own grain."""
    face = drawn_face(size)
    rng = np.random.default_rng(size)
    packed, offset = [], [0]
    for _ in sources:
        image = np.clip(face.image.astype(int) + rng.integers(-9, 10, face.image.shape), 0, 255)
        data = cv2.imencode(".jpg", image.astype(np.uint8)[..., ::-1])[1].ravel()
        packed.append(data)
        offset.append(offset[-1] + len(data))
    count = len(sources)
    np.savez(
        folder / f"faces_{size}.npz",
        jpeg=np.concatenate(packed),
        offset=np.array(offset),
        landmarks=np.repeat(np.rint(face.landmarks * 16).astype(np.int16)[None], count, 0),
        source=np.array(sources),
        age=np.full(count, 5),
        gender=np.zeros(count, np.int8),
        race=np.zeros(count, np.int8),
    )
