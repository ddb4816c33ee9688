"""Normal faces for the benchmark, from a folder of photographs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np

from service.appraisal.face.finder import FaceFinder
from service.appraisal.photograph.decode import photograph_from_bytes
from service.errors import ConfigurationError, PhotographError
from service.evaluation.benchmark.trial import Subject

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".dcm"})
_LARGEST_PX = 768  # longer side at which anomalies are made; larger photographs are reduced


def photographs_in(folder: Path) -> list[Path]:
    """Photographs of a folder and its subfolders, in a fixed order.

    Raises:
        ConfigurationError: there are none.
    """
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)
    if not paths:
        raise ConfigurationError(f"no photographs (jpg, png, dcm) in {folder}")
    return paths


def people_of(paths: Sequence[Path], folder: Path | None = None) -> tuple[str, ...]:
    """Who each photograph is of: photographs of one folder are of one person.

    Photographs that lie in the folder itself, or all in one, are of different people.

    Args:
        paths: Of photographs.
        folder: They were searched for in it; None when each was named.
    """
    places = {path.parent for path in paths}
    alone = folder if folder is not None else next(iter(places), None) if len(places) == 1 else None
    return tuple(str(path if path.parent == alone else path.parent) for path in paths)


def read_subjects(folder: Path, finder: FaceFinder) -> Iterator[Subject | None]:
    """Read faces; None for a photograph that does not decode or shows not exactly one face.

    Args:
        folder: photographs; a folder in it holds those of one person.
        finder: finds faces and landmarks.
    """
    paths = photographs_in(folder)
    for path, person in zip(paths, people_of(paths, folder), strict=True):
        data = path.read_bytes()
        try:
            image = photograph_from_bytes(data).rgb
        except PhotographError:
            yield None
            continue
        scale = min(1.0, _LARGEST_PX / max(image.shape[:2]))
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        if scale < 1:
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        faces = finder.find(image)
        if len(faces) != 1:
            yield None
            continue
        yield Subject(
            identity=sha256(data if person == str(path) else person.encode()).hexdigest()[:16],
            group="",
            image=image,
            landmarks=faces[0].landmarks.astype(np.float32),
        )
