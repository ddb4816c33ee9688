"""From a trained occlusion network to files the product loads.

``python -m service.training.occlusion.occlusion_release --help``; the training command ends with it.
Thresholds are chosen on the calibration split; the figures are of the test split. A contact sheet of
the test faces that lose a region as they are is for people to look at: archives hold glasses and hair.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path

import cv2
import numpy as np

from service.appraisal.anomalies import named_types, read_lip_shapes
from service.appraisal.gates.occlusion import OcclusionCalibration, find_occlusion, save_occlusion_calibration
from service.appraisal.gates.occlusion_gate import OcclusionGate
from service.appraisal.model_files.models import load_tensors
from service.errors import ConfigurationError
from service.training.faces import Split, open_pool
from service.training.occlusion.occlusion_trials import (
    PLAIN,
    Figures,
    Seen,
    by_kind,
    choose,
    figures,
    see,
    trials,
)

MODEL = "occlusion-face"
CALIBRATION = "occlusion-1"
MOST_FALSE = 0.01  # of anomalies and harmless things may cost a region, on the calibration split
_UNSET = OcclusionCalibration(
    version="", model=MODEL, basis="", probability=0.5, min_area=0.0, max_region=1.0, max_face=1.0
)
_LICENCE = "Non-commercial research use only; includes CC-BY-NC-SA-4.0 material"
_COLUMNS = 8


def release(
    weights: Path, data: Path, lip_shapes: Path, out: Path, *, faces: int = 300, seed: int = 5
) -> list[Figures]:
    """Calibrate, measure, and write weights, calibration, manifest row, figures and contact sheets.

    Args:
        weights: of the trained network.
        data: folder of archives.
        lip_shapes: folder of the lips of repaired clefts.
        out: folder to write to.
        faces: of each split at most; each makes four pictures.
        seed: of all chance.

    Returns:
        The figures of the test split, a row for each kind of picture.

    Raises:
        ConfigurationError: No archive, or too few faces.
    """
    tensors = {k: v.float() if v.is_floating_point() else v for k, v in load_tensors(weights).items()}
    gate = OcclusionGate(tensors, _UNSET)
    anomalies = named_types(read_lip_shapes(lip_shapes))
    seen: dict[Split, list[Seen]] = {}
    for split in (Split.CALIBRATION, Split.TEST):
        pool = open_pool(data, split)
        if len(pool) < 2 * len(anomalies):
            raise ConfigurationError(f"too few faces of the {split} split in {data}")
        seen[split] = see(gate, trials(pool, anomalies, faces=faces, seed=seed))
    count = sum(one.trial.kind == PLAIN for one in seen[Split.CALIBRATION])
    calibration = choose(
        seen[Split.CALIBRATION],
        version=CALIBRATION,
        model=MODEL,
        basis=f"{count} normal faces of the calibration split, each as it is and with one synthetic "
        "occluder, one named anomaly of severity 1 and one harmless thing",
        most_false=MOST_FALSE,
    )
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{MODEL}.safetensors"
    if file.resolve() != weights.resolve():
        shutil.copyfile(weights, file)
    file.chmod(0o644)
    save_occlusion_calibration(calibration, out)
    (out / "occlusion-manifest-row.toml").write_text(_row(file), encoding="utf-8")
    rows = [figures(kind, pairs, calibration) for kind, pairs in by_kind(seen[Split.TEST]).items()]
    _write_figures(rows, out / "occlusion-figures.csv")
    flagged = [one for one in seen[Split.TEST] if one.trial.kind == PLAIN and _regions(one, calibration)]
    _sheet(flagged, calibration, out / "occlusion-flagged.png")
    _sheet(seen[Split.TEST][1 : 4 * 6 * _COLUMNS : 4], calibration, out / "occlusion-found.png")
    return rows


def _regions(one: Seen, calibration: OcclusionCalibration) -> bool:
    return bool(find_occlusion(one.chance, one.trial.masks, calibration).regions)


def _row(path: Path) -> str:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return (
        f'[[model]]\nid = "{MODEL}"\nfile = "{path.name}"\nsha256 = "{digest}"\nlicence = "{_LICENCE}"\n'
        'intended_use = "Occlusion gate of the default method (docs/method.md)."\nline = "research"\n'
    )


def _write_figures(rows: Sequence[Figures], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([field.name for field in fields(Figures)])
        writer.writerows(
            [
                "" if value is None else f"{value:.4f}" if isinstance(value, float) else value
                for value in astuple(row)
            ]
            for row in rows
        )


def _sheet(seen: Sequence[Seen], calibration: OcclusionCalibration, path: Path) -> None:
    """Pictures with what is left out in red over them."""
    cells = []
    for one in seen[: 8 * _COLUMNS]:
        occlusion = find_occlusion(one.chance, one.trial.masks, calibration)
        shown = one.trial.image.astype(np.float32)
        shown[occlusion.left_out] = 0.6 * shown[occlusion.left_out] + [60, 0, 60]
        shown[occlusion.covered] = 0.6 * shown[occlusion.covered] + [100, 0, 0]
        pair = np.hstack([one.trial.image, np.clip(shown, 0, 255).astype(np.uint8)])[..., ::-1].copy()
        cv2.putText(pair, one.trial.kind, (2, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 255, 0), 1)
        cells.append(pair)
    if not cells:
        return
    blank = np.zeros_like(cells[0])
    cells += [blank] * (-len(cells) % _COLUMNS)
    rows = [np.hstack(cells[k : k + _COLUMNS]) for k in range(0, len(cells), _COLUMNS)]
    cv2.imwrite(str(path), np.vstack(rows))


def main() -> None:
    """Calibrate and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="network.safetensors of a training")
    parser.add_argument("--data", type=Path, required=True, help="folder of faces_*.npz")
    parser.add_argument("--lip-shapes", type=Path, required=True, help="folder of lips of repaired clefts")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--faces", type=int, default=300, help="of each split at most")
    options = parser.parse_args()
    release(options.weights, options.data, options.lip_shapes, options.out, faces=options.faces)


if __name__ == "__main__":
    main()
