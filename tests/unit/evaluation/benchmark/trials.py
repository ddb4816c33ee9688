"""Small trials: few subjects, cheap anomalies."""

from __future__ import annotations

import numpy as np

from service.appraisal.anomalies import NAMED
from service.evaluation.benchmark.trial import Subject
from tests.unit.appraisal.drawn_face import drawn_face

MAKERS = {name: NAMED[name] for name in ("droop", "nevus")}


def subjects(count=3):
    face = drawn_face(128)
    rng = np.random.default_rng(0)
    for number in range(count):
        grain = rng.integers(-4, 5, face.image.shape)
        image = np.clip(face.image.astype(int) + grain, 0, 255).astype(np.uint8)
        yield Subject(identity=str(number), group="", image=image, landmarks=face.landmarks)
