"""Faces kept out of training, for the benchmark: from the archives that training reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from service.evaluation.benchmark.subgroups import Portrayed, spread_over
from service.evaluation.benchmark.trial import Subject
from service.training.faces import NormalFace, Split, open_pool


def is_archive(folder: Path) -> bool:
    """Whether a folder holds archives of faces rather than photographs."""
    return any(folder.glob("faces_*.npz"))


def held_out_subjects(data: Path, most: int) -> list[Subject]:
    """Faces of the test split, of the archive of the highest resolution, evenly over it.

    Args:
        data: folder of archives.
        most: how many at most.

    Raises:
        ConfigurationError: there is no archive.
    """
    pool = open_pool(data, Split.TEST, fine_only=True)
    chosen = np.linspace(0, len(pool) - 1, min(most, len(pool))).astype(int)
    return [_subject(pool.native(int(number))) for number in chosen]


def held_out_people(data: Path, most: int, *, seed: int = 0) -> list[Portrayed]:
    """Faces of the calibration and test splits of every archive, evenly over age, sex and source.

    Args:
        data: folder of archives.
        most: how many at most.
        seed: of the choice.

    Raises:
        ConfigurationError: there is no archive.
    """
    faces = [
        pool.native(number)
        for pool in (open_pool(data, split) for split in (Split.CALIBRATION, Split.TEST))
        for number in range(len(pool))
    ]
    chosen = spread_over([(face.age, face.gender, face.source) for face in faces], most, seed)
    return [
        Portrayed(
            subject=_subject(faces[number]),
            age=faces[number].age,
            sex=faces[number].gender,
            source=faces[number].source,
        )
        for number in chosen
    ]


def _subject(face: NormalFace) -> Subject:
    return Subject(identity=face.identity, group=face.source, image=face.image, landmarks=face.landmarks)
