"""Normal faces read as the product reads them, and what to expect of a face, from archive to file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from safetensors.torch import save_file

from service.appraisal.face.alignment import align
from service.appraisal.face.finder import FaceFinder
from service.appraisal.gates.occlusion import OcclusionFinder, without_cover
from service.appraisal.gates.quality import check_quality
from service.appraisal.methods.localised.normaliser import EXPECTED_MODEL
from service.appraisal.methods.localised.reading import NetworkReader
from service.appraisal.methods.localised.views import INPUT_SIZE
from service.appraisal.model_files.models import load_tensors
from service.appraisal.photograph.decode import photograph_from_rgb
from service.appraisal.settings import AppraisalSettings
from service.training.faces import FacePool, Split, open_pool
from service.training.localised.expected_face import NormalReading, fit_expected_face
from service.training.model_card import as_toml, entry_of

LICENCE: Final = "Non-commercial research use only; includes CC-BY-NC-SA-4.0 material"
_USE: Final = "What to expect of a face: the default method's normal counterpart (docs/method.md)."


def release_expected_face(
    weights: Path,
    data: Path,
    out: Path,
    finder: FaceFinder,
    covers: OcclusionFinder,
    *,
    faces: int,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Path, ...]:
    """Fit what to expect of a face and write it with its row of the manifest.

    Args:
        weights: of the networks of the whole face and of the close-up, in one file.
        data: folder of archives; the training split is fitted, the calibration split sets thresholds.
        out: folder to write to.
        finder: finds the mesh.
        covers: finds what lies before faces.
        faces: how many faces of each archive at most, and of the calibration split.
        tell: told how many of how many faces are done.

    Returns:
        The files written.

    Raises:
        ConfigurationError: no archive, or too few faces.
    """
    reader = NetworkReader({k: v.float() for k, v in load_tensors(weights).items()})
    training, judged = open_pool(data, Split.TRAIN), open_pool(data, Split.CALIBRATION)
    chosen = [(training, n) for n in _spread(training, faces)]
    chosen += [(judged, n) for n in _spread(judged, faces, apart=False)]
    read: dict[int, list[NormalReading]] = {id(training): [], id(judged): []}
    for done, (pool, number) in enumerate(chosen):
        for reading in read_normal(pool, [number], reader, finder, covers):
            read[id(pool)].append(reading)
        tell(done + 1, len(chosen))
    expected = fit_expected_face(read[id(training)], read[id(judged)])
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{EXPECTED_MODEL}.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in expected.tensors().items()}, path)
    path.chmod(0o644)
    rows = out / "manifest-row-counterpart.toml"
    entry = entry_of(EXPECTED_MODEL, path, line="research", licence=LICENCE, intended_use=_USE)
    rows.write_text(as_toml([entry]), encoding="utf-8")
    return path, rows


def _spread(pool: FacePool, faces: int, *, apart: bool = True) -> list[int]:
    """Members of a pool, evenly over it, or over each of its archives apart."""
    archives = sorted({archive for archive, _ in pool.members}) if apart else [None]
    found: list[int] = []
    for wanted in archives:
        own = [n for n, (archive, _) in enumerate(pool.members) if wanted in {None, archive}]
        found += [own[i] for i in np.linspace(0, len(own) - 1, min(faces, len(own))).astype(int)]
    return found


def read_normal(
    pool: FacePool,
    numbers: Sequence[int],
    reader: NetworkReader,
    finder: FaceFinder,
    covers: OcclusionFinder,
) -> Iterator[NormalReading]:
    """Read faces of a pool that pass the gates, with what lies before them replaced.

    Args:
        pool: normal faces.
        numbers: which of them.
        reader: the networks.
        finder: finds the mesh.
        covers: finds what lies before faces.
    """
    for number in numbers:
        photograph = photograph_from_rgb(pool.face(number, INPUT_SIZE).image)
        found = finder.find(photograph.rgb)
        if check_quality(photograph, found, AppraisalSettings())[1]:
            continue
        face = align(photograph, found[0], INPUT_SIZE, fine=True)
        cover = covers.find([face])[0]
        if cover.too_much:
            continue
        bare = without_cover(face, cover)
        reading = reader.read([bare])[0]
        fine = pool.members[number][0] == 0
        yield NormalReading(rgb=bare.rgb, shown=bare.inside, reading=reading, fine=fine)
