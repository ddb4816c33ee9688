"""From a trained student to the file the product loads: what is usual on normal faces, card, manifest row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file

from service.appraisal.methods.two_phase.discrepancy import DiscrepancyReader, Distances, fit_usual, stored
from service.appraisal.methods.two_phase.discrepancy_network import INPUT_SIZE
from service.appraisal.methods.two_phase.normaliser import MODEL
from service.appraisal.model_files.models import load_tensors
from service.training.faces import HELD_OUT_SOURCES, FacePool, Split, open_pool
from service.training.localised.release import enough_to_calibrate
from service.training.model_card import as_toml, entry_of
from service.training.schedule import save_halves
from service.training.two_phase.train import as_seen

_BATCH = 8
_LICENCE = "Non-commercial research use only; includes CC-BY-NC-SA-4.0 material"
_USE = "Discrepancy student of paper 002 (docs/method-paper-002.md)."
_CARD = """# Model card: {model} (line `research`)

| | |
|---|---|
| What | Student of paper 002's phase 1: gives the features of a frozen SqueezeNet 1.1 (ImageNet-1k, BSD-3-Clause, not part of the file) at three scales, and a picture, from a code of 64 x 8 x 8; {millions:.1f} M parameters, half precision. With it, what is usual at each place on normal faces. |
| Input | An aligned face, 256 x 256 sRGB |
| Intended use | Research: where a frontal photograph is not as normal faces are, as a baseline beside the default method. Not a diagnosis, not for identification, not for commercial use. |
| Licence | {licence}. UTKFace and MEBeauty are licensed for non-commercial research, OMI (StyleGAN2-generated) is CC BY-NC-SA 4.0. |
| Training data | {trained} normal faces of the training split ({sources}); no anomaly, real or synthetic, no patient, no clinical photograph |
| Calibration | {calibrated} faces of the calibration split, each plain and under other light and camera, and their mirror images |
| Figures | docs/method-paper-002.md |
| Limits | Synthetic validity only, and poor: the default method is better by far. Never compared with human raters. |
"""  # noqa: E501


def release_discrepancy(
    student: Path,
    teacher: Path,
    data: Path,
    out: Path,
    *,
    faces: int = 400,
    seed: int = 3,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Path, Path, Path]:
    """Calibrate a student on faces it was not trained on, and write what the product needs of it.

    Args:
        student: weights that training wrote.
        teacher: SqueezeNet 1.1 weights (safetensors).
        data: folder of archives; their calibration split is used.
        out: folder to write to.
        faces: how many faces at most.
        seed: of all chance.
        tell: told how many of how many pictures are done.

    Returns:
        Weights with calibration, model card, manifest row.

    Raises:
        ConfigurationError: no archive, or too few faces.
    """
    pool = open_pool(data, Split.CALIBRATION)
    enough_to_calibrate(pool)
    weights = load_tensors(student)
    named = {f"student.{name}": value for name, value in weights.items()}
    backbone = {name: value.float() for name, value in load_file(teacher).items()}
    reader = DiscrepancyReader(backbone, {k: v.float() for k, v in named.items()})
    count = min(faces, len(pool))
    usual = fit_usual(_logs(reader, pool, count, seed, tell))
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{MODEL}.safetensors"
    save_halves(stored(weights, usual), path)
    path.chmod(0o644)
    trained = open_pool(data, Split.TRAIN)
    sources = {name for archive in trained.archives for name in archive.sources} - HELD_OUT_SOURCES
    card = out / f"{MODEL}.md"
    card.write_text(
        _CARD.format(
            model=MODEL,
            millions=sum(value.numel() for value in weights.values()) / 1e6,
            licence=_LICENCE,
            trained=len(trained),
            sources=", ".join(sorted(sources)),
            calibrated=count,
        ),
        encoding="utf-8",
    )
    row = out / "manifest-rows.toml"
    entry = entry_of(MODEL, path, line="research", licence=_LICENCE, intended_use=_USE)
    row.write_text(as_toml([entry]), encoding="utf-8")
    return path, card, row


def _logs(
    reader: DiscrepancyReader,
    pool: FacePool,
    count: int,
    seed: int,
    tell: Callable[[int, int], None],
) -> Distances:
    found: list[Distances] = []
    waiting: list[NDArray[np.uint8]] = []
    for number, picture in enumerate(_pictures(pool, count, seed), start=1):
        waiting.append(picture)
        if len(waiting) == _BATCH or number == 2 * count:
            found.append(reader.logs(waiting))
            waiting.clear()
        tell(number, 2 * count)
    return tuple(np.concatenate(scale) for scale in zip(*found, strict=True))


def _pictures(pool: FacePool, count: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Evenly spread faces, each plain and as a camera might see it."""
    rng = np.random.default_rng(seed)
    for number in np.linspace(0, len(pool) - 1, count).astype(int):
        face = pool.face(int(number), INPUT_SIZE)
        yield as_seen(face, rng, plain=True)
        yield as_seen(face, rng)
