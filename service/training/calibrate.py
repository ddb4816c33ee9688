"""Makes a method's calibration from normal faces of the calibration split and their altered copies.

Run: ``python -m service.training.calibrate METHOD --data DIR [--faces N]``. The rating's top is
the median normal face, its bottom the mean of the same faces altered with severity 1, or three
standard deviations under the median where that is lower. It is no human rating.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.appraisal.anomalies import NAMED, Canvas, inter_ocular_distance, render
from service.appraisal.appraiser import Appraised, Appraiser
from service.appraisal.calibration import (
    Calibration,
    load_calibration,
    map_range,
    normal_cohort,
    region_statistics,
    save_calibration,
)
from service.appraisal.methods import METHODS
from service.appraisal.models import ModelStore
from service.appraisal.photograph import photograph_from_rgb
from service.errors import ConfigurationError
from service.records import Region
from service.training.faces import NormalFace, Split, open_pool

_SIZE = 256  # side the faces are read at; the method aligns them again at its own
_LEAST_FACES = 20


@dataclass(frozen=True, kw_only=True)
class _Cohort:
    """Scores of one group of faces."""

    scores: Sequence[float]
    regions: Mapping[Region, Sequence[float]]
    maps: Sequence[NDArray[np.float32]]


def make_calibration(method: str, version: str, appraiser: Appraiser, data: Path, faces: int) -> Calibration:
    """Score normal and altered faces and say what the scores mean.

    Args:
        method: Key in METHODS.
        version: Of the calibration to make.
        appraiser: Of that method.
        data: Folder of face archives.
        faces: Normal faces to take at most.

    Raises:
        ConfigurationError: Too few faces could be appraised.
    """
    pool = open_pool(data, Split.CALIBRATION)
    rng = np.random.default_rng(0)
    chosen = [pool.face(int(i), _SIZE) for i in rng.permutation(len(pool))[:faces]]
    normal = _cohort(appraiser, [face.image for face in chosen])
    altered = _cohort(appraiser, [_altered(face, rng) for face in chosen])
    if len(normal.scores) < _LEAST_FACES or len(altered.scores) < _LEAST_FACES:
        raise ConfigurationError(f"{len(normal.scores)} faces could be appraised; {_LEAST_FACES} are needed")
    high = float(np.median(normal.scores))
    low = min(float(np.mean(altered.scores)), high - 3.0 * float(np.std(normal.scores)))
    return Calibration(
        version=version,
        method=method,
        method_version=METHODS[method].version,
        basis=f"{len(normal.scores)} normal faces of the training material's calibration split and as many "
        "copies with a synthetic anomaly of severity 1; no human ratings",
        rating_knots=((low, 1.0), (high, 7.0)),
        normal_quantiles=normal_cohort(normal.scores),
        regions=region_statistics(normal.regions),
        map_range=map_range(normal.maps),
    )


def _cohort(appraiser: Appraiser, images: Sequence[NDArray[np.uint8]]) -> _Cohort:
    scores: list[float] = []
    regions: dict[Region, list[float]] = defaultdict(list)
    maps: list[NDArray[np.float32]] = []
    for image in images:
        result: Appraised = appraiser.appraise(photograph_from_rgb(image))
        if result.appraisal.score is None or result.maps is None:
            continue
        scores.append(result.appraisal.score)
        maps.append(result.maps.difference_aligned)
        for part in result.appraisal.regions:
            if part.score is not None:
                regions[part.region].append(part.score)
    return _Cohort(scores=scores, regions=regions, maps=maps)


def _altered(face: NormalFace, rng: np.random.Generator) -> NDArray[np.uint8]:
    canvas = Canvas(image=face.image, landmarks=face.landmarks, unit=inter_ocular_distance(face.landmarks))
    names = sorted(NAMED)
    maker = NAMED[names[int(rng.integers(len(names)))]]
    return render(face.image, maker(canvas, 1.0, rng)).image


def main() -> None:
    """Make and store a calibration."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("method", choices=sorted(METHODS))
    parser.add_argument("--data", type=Path, required=True, help="folder of faces_*.npz")
    parser.add_argument("--faces", type=int, default=400, help="normal faces to take at most")
    parser.add_argument("--model-dir", type=Path, help="directory of model files not shipped")
    options = parser.parse_args()
    row = METHODS[options.method]
    pair = f"{row.normaliser}+{row.comparator}"
    appraiser = Appraiser(pair, store=ModelStore(options.model_dir), size=row.size)
    made = make_calibration(
        options.method, row.calibration or f"{row.name}-{row.version}", appraiser, options.data, options.faces
    )
    save_calibration(made)
    load_calibration(made.version)


if __name__ == "__main__":
    main()
