"""Fits PatchCore's memory bank: ``python -m service.training.patchcore --help``."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

from service.appraisal.comparators.patchcore import PatchFeatures, coreset, load_features
from service.appraisal.models import ModelStore
from service.appraisal.tables import Workplace
from service.training.faces import FacePool, Split, open_pool

_SIZE = 256
_PER_FACE = 64  # patches drawn of each face before the coreset is chosen


def fit_bank(features: PatchFeatures, pool: FacePool, faces: int, count: int, seed: int = 0) -> torch.Tensor:
    """Choose (count, D) patch features of normal faces."""
    draws = torch.Generator().manual_seed(seed)
    rows = []
    for number in torch.randperm(len(pool), generator=draws)[:faces].tolist():
        found = features([pool.face(number, _SIZE).image])[0].flatten(1).T.cpu()
        rows.append(found[torch.randperm(len(found), generator=draws)[:_PER_FACE]])
    return coreset(torch.cat(rows), count, seed)


def main() -> None:
    """Fit and write a bank."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of faces_*.npz")
    parser.add_argument("--model-dir", type=Path, required=True, help="directory with the backbone")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--faces", type=int, default=500)
    parser.add_argument("--count", type=int, default=2000, help="patches kept")
    options = parser.parse_args()
    features = load_features(Workplace(store=ModelStore(options.model_dir)))
    bank = fit_bank(features, open_pool(options.data, Split.TRAIN), options.faces, options.count)
    save_file({"bank": bank.half().contiguous()}, options.out)


if __name__ == "__main__":
    main()
