"""`semblance score`: appraise photographs from files, without a database."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from service.appraisal.appraiser import Appraised, Appraiser
from service.appraisal.layer_sheet import render_layer_sheet
from service.appraisal.model_files.models import ModelStore
from service.appraisal.photograph.files import content_of
from service.commands.failures import tell
from service.commands.science.caution import caution
from service.commands.science.progress import QuietFinder, step_progress, steps_shown
from service.config import load_settings
from service.errors import DecoderLostError, SemblanceError
from service.exit_codes import ExitCode
from service.pictures.encode import encode_png
from service.pictures.native_map import encode_map
from service.records import Appraisal, AppraisalStatus, MethodIdentity, Region, RejectionReason


class Output(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSONL = "jsonl"


def score(
    photos: Annotated[
        list[Path],
        typer.Argument(
            help="JPEG, PNG, TIFF, WebP, HEIC, AVIF or DICOM files, or folders of them.", show_default=False
        ),
    ],
    *,
    method: Annotated[
        str | None,
        typer.Option(help="Method, or normaliser+comparator; default: SEMBLANCE_METHOD.", show_default=False),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            help="Version of a calibration stored for the method; default: the one in use.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Output, typer.Option(help="What to print.")] = Output.TABLE,
    map_dir: Annotated[
        Path | None,
        typer.Option(
            help="Write each difference map there: .npy float32 in photograph coordinates, NaN = not judged."
        ),
    ] = None,
    native_map_dir: Annotated[
        Path | None,
        typer.Option(
            help="Write each difference map there as it is kept: .npz at the method's own resolution, with "
            "the transform to the photograph (docs/results-dicom.md)."
        ),
    ] = None,
    heatmap_dir: Annotated[Path | None, typer.Option(help="Write each heatmap there as PNG.")] = None,
    triptych_dir: Annotated[
        Path | None,
        typer.Option(help="Write there, as PNG, face, normal counterpart and heatmap side by side."),
    ] = None,
    layer_dir: Annotated[
        Path | None,
        typer.Option(
            help="Write there what each layer of a deep-* or lpips-* comparator sees, small differences "
            "first: a sheet as PNG and the maps as .npy float32 in the canonical square, NaN = not judged."
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu or cuda; default: SEMBLANCE_DEVICE.", show_default=False)
    ] = None,
) -> None:
    """Score photographs: how normal each face looks, where it differs, and whether it could be judged.

    Scores are higher for more normal faces; ratings run from 1 (least) to 7 (most normal).

    For example `semblance score photo.jpg`, or
    `semblance score --output jsonl --map-dir maps --heatmap-dir heatmaps photos/ visit.dcm`.

    Exit codes: 0 all appraised; 3 at least one rejected (each has its line with the reasons);
    1 nothing done because a file or model file is at fault; 2 wrong usage, setting or method.
    """
    errors = Console(stderr=True)
    try:
        settings = load_settings()
        progress = step_progress(errors)
        files = list(_files(photos, errors))
        appraiser = Appraiser(
            method or settings.method,
            store=ModelStore(settings.model_dir),
            device=device or settings.device,
            face_finder=QuietFinder(),
            calibration=calibration,
            progress=steps_shown(progress),
        )
        caution(method or settings.method, errors)
        if layer_dir is not None:
            appraiser.layered()
        wanted = _Wanted(
            output=output,
            maps=map_dir,
            native_maps=native_map_dir,
            heatmaps=heatmap_dir,
            triptychs=triptych_dir,
            layers=layer_dir,
            long_side=settings.picture_long_side_px,
        )
        wanted.make_directories()
        rejected = _score_all(files, appraiser, wanted, progress)
    except (SemblanceError, OSError) as exc:
        raise typer.Exit(tell(exc)) from exc
    raise typer.Exit(ExitCode.REJECTED if rejected else ExitCode.DONE)


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """What is to come out."""

    output: Output
    maps: Path | None  # directory of the difference maps
    native_maps: Path | None  # directory of the maps as they are kept
    heatmaps: Path | None  # directory of the heatmaps
    triptychs: Path | None  # directory of the triptychs
    layers: Path | None  # directory of the maps by layer
    long_side: int  # most pixels of a picture's longer side

    def make_directories(self) -> None:
        """Make those named."""
        for directory in (self.maps, self.native_maps, self.heatmaps, self.triptychs, self.layers):
            if directory is not None:
                directory.mkdir(parents=True, exist_ok=True)


def _score_all(files: Sequence[Path], appraiser: Appraiser, wanted: _Wanted, progress: Progress) -> int:
    """Score the files one by one and print the results; return how many were rejected."""
    rejected = 0
    names = _Names()
    table = _empty_table(appraiser.identity)
    with progress:
        task = progress.add_task("scoring", total=len(files))
        for path in files:
            result = _appraise(path, appraiser)
            rejected += result.appraisal.status is AppraisalStatus.REJECTED
            stem = names.unique(path)
            map_path = _write_map(result, wanted.maps, stem)
            _write_pictures(result, wanted, stem)
            _write_layers(result, appraiser, wanted.layers, stem)
            if wanted.output is Output.JSONL:
                sys.stdout.write(json.dumps(_line(path, result, map_path), allow_nan=False) + "\n")
                sys.stdout.flush()
            else:
                _add_row(table, path, result)
            progress.advance(task)
    if wanted.output is Output.TABLE:
        Console().print(table)
    return rejected


def _appraise(path: Path, appraiser: Appraiser) -> Appraised:
    try:
        data = path.read_bytes()
    except OSError as exc:
        return appraiser.reject(b"", RejectionReason.UNDECODABLE, f"{path}: {exc}")
    try:
        return appraiser.appraise_bytes(data)
    except DecoderLostError:  # it may have been somebody else's doing: once more, then it is the file's
        try:
            return appraiser.appraise_bytes(data)
        except DecoderLostError as exc:
            return appraiser.reject(data, RejectionReason.UNDECODABLE, f"{path}: {exc}")


class _Names:
    """File names without their suffix, made unique by a number."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def unique(self, path: Path) -> str:
        stem, number = path.stem, 2
        while stem in self._taken:
            stem, number = f"{path.stem}-{number}", number + 1
        self._taken.add(stem)
        return stem


def _files(photos: Sequence[Path], errors: Console) -> Iterator[Path]:
    """Yield the files named, and the photographs of the folders named, in order; say what is passed over."""
    for photo in photos:
        if photo.is_dir():
            content = content_of(photo)
            for other in content.others:
                errors.print(
                    f"{other}: passed over, no photograph by its name", highlight=False, soft_wrap=True
                )
            yield from content.photographs
        else:
            if not photo.is_file():
                raise FileNotFoundError(f"{photo}: no such file")
            yield photo


def _line(path: Path, result: Appraised, map_path: Path | None) -> dict[str, object]:
    """One JSON line; the keys are a contract."""
    appraisal = result.appraisal
    return {
        "path": str(path),
        "status": appraisal.status.value,
        "score": appraisal.score,
        "rating": appraisal.rating,
        "rating_basis": appraisal.method.rating_basis if appraisal.rating is not None else None,
        "percentile": appraisal.percentile,
        "regions": {
            part.region.value: {
                "score": part.score,
                "z": part.z,
                "judged": round(part.judged, 4),
                "occluded": round(part.occluded, 4),
                "reason": part.reason.value if part.reason else None,
            }
            for part in appraisal.regions
        },
        "reasons": [*(reason.value for reason in appraisal.reasons), *_left_out(appraisal)],
        "notes": list(appraisal.warnings),
        "difference_map": str(map_path) if map_path else None,
    }


def _left_out(appraisal: Appraisal) -> Iterator[str]:
    """Regions of a judged photograph that were not, as "reason:region"."""
    for part in appraisal.regions:
        if part.reason is not None:
            yield f"{part.reason.value}:{part.region.value}"


def _write_map(result: Appraised, directory: Path | None, stem: str) -> Path | None:
    if directory is None or result.maps is None:
        return None
    path = directory / f"{stem}.npy"
    np.save(path, result.maps.difference)
    return path


def _write_pictures(result: Appraised, wanted: _Wanted, stem: str) -> None:
    if result.maps is None:
        return
    if wanted.native_maps is not None:
        (wanted.native_maps / f"{stem}.npz").write_bytes(encode_map(result.maps.native))
    if wanted.heatmaps is not None:
        (wanted.heatmaps / f"{stem}.png").write_bytes(encode_png(result.maps.heatmap(wanted.long_side)))
    if wanted.triptychs is not None:
        (wanted.triptychs / f"{stem}.png").write_bytes(encode_png(result.maps.triptych(wanted.long_side)))


def _write_layers(result: Appraised, appraiser: Appraiser, directory: Path | None, stem: str) -> None:
    if directory is not None and result.maps is not None:
        layers = appraiser.layer_differences(result.maps)
        np.save(directory / f"{stem}.npy", np.stack(layers))
        (directory / f"{stem}.png").write_bytes(encode_png(render_layer_sheet(result.maps, layers)))


def _empty_table(method: MethodIdentity) -> Table:
    calibrated = f", calibration {method.calibration}" if method.calibration else ""
    table = Table(
        title=f"Appraisal by {method.name} {method.version}{calibrated}",
        caption="score, rating 1-7: higher is more normal; z: higher is less normal"
        + (f"\nthe rating is {method.rating_basis}" if method.calibration else ""),
    )
    table.add_column("photograph", overflow="fold")
    for name in ("status", "score", "rating", "percentile"):
        table.add_column(name, justify="left" if name == "status" else "right")
    table.add_column("stands out", overflow="fold")
    return table


def _add_row(table: Table, path: Path, result: Appraised) -> None:
    appraisal = result.appraisal
    if appraisal.status is AppraisalStatus.REJECTED:
        reasons = ", ".join(reason.value for reason in appraisal.reasons)
        table.add_row(str(path), "[yellow]rejected[/]", "", "", "", reasons)
        return
    regions = [r for r in appraisal.regions if r.region is not Region.FACE and r.z is not None and r.z >= 2]
    regions.sort(key=lambda r: -(r.z or 0.0))
    table.add_row(
        str(path),
        "[green]appraised[/]",
        _number(appraisal.score, 3),
        _number(appraisal.rating, 1),
        _number(appraisal.percentile, 0),
        ", ".join(f"{r.region.value} (z {r.z:.1f})" for r in regions[:3]),
    )


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
