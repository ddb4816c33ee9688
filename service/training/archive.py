"""An archive of aligned faces from a folder of photographs, in the form training reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np

from service.appraisal.face.alignment import align
from service.appraisal.face.finder import FaceFinder
from service.appraisal.gates.quality import check_quality
from service.appraisal.methods.localised.views import INPUT_SIZE
from service.appraisal.photograph.decode import photograph_from_bytes
from service.appraisal.settings import AppraisalSettings
from service.errors import ConfigurationError, PhotographError
from service.evaluation.benchmark.subjects import photographs_in
from service.records import RejectionReason
from service.training.faces import SITE_SOURCE

FEWEST_FACES = 20


def archive_photographs(
    photos: Path,
    out: Path,
    finder: FaceFinder,
    *,
    source: str = SITE_SOURCE,
    fewest: int = FEWEST_FACES,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Align every usable face and write ``faces_256.npz``.

    A photograph that the quality gates reject is left out. Photographs in one subfolder are of one
    person; those directly in the folder are each of a person of their own.

    Args:
        photos: folder of photographs of normal faces.
        out: folder for the archive.
        finder: finds faces and landmarks.
        source: name kept with each face.
        fewest: faces below which nothing is written.
        tell: told how many of how many photographs are done.

    Returns:
        How many faces were written.

    Raises:
        ConfigurationError: too few usable faces.
    """
    packed: list[np.ndarray[tuple[int], np.dtype[np.uint8]]] = []
    landmarks, people = [], []
    refused: Counter[str] = Counter()
    paths = photographs_in(photos)
    for done, path in enumerate(paths):
        data = path.read_bytes()
        tell(done + 1, len(paths))
        try:
            photograph = photograph_from_bytes(data)
        except PhotographError:
            refused[RejectionReason.UNDECODABLE.value] += 1
            continue
        faces = finder.find(photograph.rgb)
        reasons = check_quality(photograph, faces, AppraisalSettings())[1]
        if reasons:
            refused.update(reason.value for reason in reasons)
            continue
        face = align(photograph, faces[0], INPUT_SIZE, fine=True)
        _, jpeg = cv2.imencode(".jpg", face.rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        packed.append(jpeg.ravel())
        landmarks.append(np.rint(face.landmarks * 16).astype(np.int16))
        person = path.parent.name if path.parent != photos else sha256(data).hexdigest()
        people.append(sha256(person.encode()).hexdigest()[:16])
    if len(packed) < fewest:
        why = "".join(f"; {reason}: {count}" for reason, count in refused.most_common())
        raise ConfigurationError(f"{photos}: {len(packed)} usable faces; at least {fewest} are needed{why}")
    out.mkdir(parents=True, exist_ok=True)
    unknown = np.full(len(packed), -1, np.int8)
    np.savez(
        out / f"faces_{INPUT_SIZE}.npz",
        jpeg=np.concatenate(packed),
        offset=np.cumsum([0, *(len(p) for p in packed)]),
        landmarks=np.stack(landmarks),
        source=np.array([source] * len(packed)),
        identity=np.array(people),
        age=unknown,
        gender=unknown,
        race=unknown,
    )
    return len(packed)
