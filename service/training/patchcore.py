"""Fits PatchCore's memory bank on normal faces: `semblance train patchcore`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from service.appraisal.methods.features.backbones import BACKBONES
from service.appraisal.methods.features.patchcore import (
    BACKBONE,
    MODEL,
    PatchFeatures,
    coreset,
    load_features,
)
from service.appraisal.model_files.models import SITE_LINE, ModelStore
from service.appraisal.tables import Workplace
from service.training.faces import SITE_SOURCE, FacePool
from service.training.model_card import entry_of, put_rows

_SIZE = 256
_PER_FACE = 64  # patches drawn of each face before the coreset is chosen
_USE = "Memory bank of normal patches for the comparator patchcore (docs/method-paper-000.md)."


def fit_bank(  # noqa: PLR0917
    features: PatchFeatures,
    pool: FacePool,
    faces: int,
    count: int,
    seed: int = 0,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> torch.Tensor:
    """Choose (count, D) patch features of normal faces."""
    draws = torch.Generator().manual_seed(seed)
    rows = []
    chosen = torch.randperm(len(pool), generator=draws)[:faces].tolist()
    for done, number in enumerate(chosen, start=1):
        found = features([pool.face(number, _SIZE).image])[0].flatten(1).T.cpu()
        rows.append(found[torch.randperm(len(found), generator=draws)[:_PER_FACE]])
        tell(done, len(chosen))
    return coreset(torch.cat(rows), count, seed)


def install_bank(
    pool: FacePool,
    store: ModelStore,
    out: Path,
    *,
    faces: int,
    count: int,
    seed: int = 0,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Fit a bank and put it, its manifest row and its backbone into a directory of models.

    Args:
        pool: normal faces, of the training split.
        store: where the backbone is found.
        out: the directory; SEMBLANCE_MODEL_DIR may name it.
        faces: to look at, at most.
        count: patches kept.
        seed: of all chance.
        tell: told how many of how many faces are read.

    Returns:
        The path of the bank.

    Raises:
        ModelError: the backbone is missing or wrong.
        ConfigurationError: the directory has a manifest that cannot be read.
    """
    backbone = store.path(BACKBONES[BACKBONE].model)
    bank = fit_bank(load_features(Workplace(store=store)), pool, faces, count, seed, tell)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{MODEL}.safetensors"
    save_file({"bank": bank.half().contiguous()}, path)
    path.chmod(0o644)
    if not (out / backbone.name).exists():
        shutil.copyfile(backbone, out / backbone.name)
    own = all(archive.sources == {SITE_SOURCE} for archive in pool.archives)
    entry = entry_of(
        MODEL,
        path,
        line=SITE_LINE if own else "research",
        licence="The site's own" if own else "As the faces it was fitted on",
        intended_use=_USE,
    )
    put_rows([entry], out)
    return path
