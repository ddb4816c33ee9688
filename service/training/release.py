"""From a trained network to files the product loads: weights, fusion, calibration, manifest rows."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import save_file

from service.appraisal.anomalies import RANDOM
from service.appraisal.calibration import save_calibration
from service.appraisal.comparators.localised import FUSION_MODEL
from service.appraisal.face import FaceFinder
from service.appraisal.fusion import fusion_from
from service.appraisal.models import ModelStore, load_tensors
from service.appraisal.normalisers.restoration import MODEL
from service.appraisal.reading import NetworkReader
from service.appraisal.shape import Shape
from service.errors import ConfigurationError
from service.training.calibrate import collect, fit
from service.training.cohort import cohort
from service.training.faces import Split, open_pool
from service.training.shape import FEWEST, fit_shape

CALIBRATION = "default-1"
_LICENCE = {
    "research": "Non-commercial research use only; includes CC-BY-NC-SA-4.0 material",
    "site": "The site's own; where adapted from research weights, their terms apply too",
}


def release(
    weights: Path,
    data: Path,
    out: Path,
    finder: FaceFinder,
    *,
    faces: int,
    line: str,
    seed: int,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Path, ...]:
    """Calibrate a network and write everything the product needs of it.

    Args:
        weights: of the trained network.
        data: folder of archives; their calibration split is used.
        out: folder to write to.
        finder: finds the mesh.
        faces: how many faces at most.
        line: "research" or "site".
        seed: of all chance.
        tell: told how many of how many faces are done.

    Returns:
        The files written.

    Raises:
        ConfigurationError: unknown line, no archive, or too few faces.
    """
    if line not in _LICENCE:
        raise ConfigurationError(f"no line {line!r}; there are: {', '.join(_LICENCE)}")
    out.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.float() if v.is_floating_point() else v for k, v in load_tensors(weights).items()}
    samples = collect(
        open_pool(data, Split.CALIBRATION),
        RANDOM,
        NetworkReader(tensors),
        finder,
        faces=faces,
        seed=seed,
        tell=tell,
    )
    fusion = fit(samples, _expected_shape(data))
    basis = (
        f"{sum(s.severity == 0 for s in samples)} sham-resampled pictures of normal faces of the calibration "
        f"split and {sum(s.severity > 0 for s in samples)} with random synthetic anomalies; no human ratings"
    )
    calibration = cohort(samples, fusion, version=CALIBRATION, basis=basis)
    network = out / f"{MODEL}.safetensors"
    shutil.copyfile(weights, network)
    network.chmod(0o644)
    fused = out / f"{FUSION_MODEL}.safetensors"
    save_file({k: v.contiguous() for k, v in fusion.tensors().items()}, fused)
    fused.chmod(0o644)
    rows = out / "manifest-rows.toml"
    rows.write_text(
        _row(MODEL, network, line, "Anomaly network of the default method (docs/method.md).")
        + _row(FUSION_MODEL, fused, line, "Calibration of the default method's difference map."),
        encoding="utf-8",
    )
    return network, fused, rows, save_calibration(calibration, out)


def _expected_shape(data: Path) -> Shape:
    """Fitted to the training faces where they are many enough, else the shipped one."""
    pool = open_pool(data, Split.TRAIN)
    return fit_shape(pool) if len(pool) >= FEWEST else fusion_from(ModelStore().tensors(FUSION_MODEL)).shape


def _row(model: str, path: Path, line: str, use: str) -> str:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return (
        f'[[model]]\nid = "{model}"\nfile = "{path.name}"\nsha256 = "{digest}"\n'
        f'licence = "{_LICENCE[line]}"\nintended_use = "{use}"\nline = "{line}"\n\n'
    )
