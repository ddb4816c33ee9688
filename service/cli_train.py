"""`semblance train`: makes the weights of the default method, from public or from a site's own faces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from service.appraisal.models import ModelStore

if TYPE_CHECKING:
    from service.training.default_method import TrainingPlan

train_app = typer.Typer(
    help="Make the weights of the default method (CPU or one GPU; resumable).", no_args_is_help=True
)
_ENCODER = "squeezenet1_1-imagenet"
_console = Console(stderr=True)


@train_app.command()
def default(  # noqa: PLR0917
    data: Annotated[Path, typer.Option(help="Folder of faces_*.npz archives (docs/method.md).")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, logs, contact sheets and weights.")],
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps in all.")] = 24_000,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Threads of the CPU.")] = 2,
    workers: Annotated[int, typer.Option(min=0, help="Processes that make examples.")] = 1,
    faces: Annotated[int, typer.Option(min=1, help="Faces a step; each gives three images.")] = 6,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.01, help="Stop after so long; the learning rate falls to its end by then."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all chance.")] = 7,
    start: Annotated[Path | None, typer.Option(help="Weights to start from instead of ImageNet's.")] = None,
    model_dir: Annotated[
        Path | None, typer.Option(envvar="SEMBLANCE_MODEL_DIR", help="Where the encoder's weights are.")
    ] = None,
) -> None:
    """Train the default method's network; run again to continue an interrupted training.

    Writes network.safetensors, log.csv, steering.csv and contact sheets. Then calibrate with
    `semblance train calibrate`.

    Example: semblance train default --data faces/ --out run/ --device cuda --workers 12 --faces 16
    """
    from service.training.default_method import TrainingPlan

    encoder = None if start is not None else ModelStore(model_dir).path(_ENCODER)
    plan = TrainingPlan(
        out=out,
        encoder=encoder,
        start=start,
        steps=steps,
        curriculum_steps=steps // 4,
        faces_per_batch=faces,
        minutes=minutes,
        device=device,
        threads=threads,
        workers=workers,
        seed=seed,
    )
    _train(plan, data)


def _train(plan: TrainingPlan, data: Path) -> Path:
    from service.appraisal.anomalies import NAMED
    from service.training.default_method import train
    from service.training.faces import Split, open_pool
    from service.training.steering import steering_set

    pool = open_pool(data, Split.TRAIN)
    held = open_pool(data, Split.CALIBRATION, fine_only=True)
    steering = steering_set(held, NAMED, faces=min(64, len(held)), severity=0.5, seed=1)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_console) as progress:
        task = progress.add_task(f"training on {len(pool)} faces", total=plan.steps)

        def tell(step: int, _steps: int, figures: Mapping[str, float]) -> None:
            progress.update(task, completed=step)
            progress.console.print(step, {k: round(v, 3) for k, v in figures.items()}, highlight=False)

        weights = train(plan, pool, held=steering, progress=tell)
    _console.print(f"weights: {weights}")
    return weights


@train_app.command()
def calibrate(
    weights: Annotated[Path, typer.Option(help="network.safetensors of a training.")],
    data: Annotated[
        Path, typer.Option(help="Folder of faces_*.npz archives; only their calibration split is used.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for weights, calibration and manifest rows.")],
    *,
    faces: Annotated[int, typer.Option(min=10, help="Faces to calibrate on at most.")] = 400,
    line: Annotated[str, typer.Option(help="Line of the weights: research or site.")] = "research",
    seed: Annotated[int, typer.Option(help="Of all chance.")] = 5,
) -> None:
    """Calibrate a trained network on faces it was not trained on.

    Writes default-face.safetensors, default-fusion.safetensors, their rows for the model manifest
    and the calibration default-1.json.

    Example: semblance train calibrate --weights run/network.safetensors --data faces/ --out run/
    """
    _calibrate(weights, data, out, faces=faces, line=line, seed=seed)


def _calibrate(weights: Path, data: Path, out: Path, *, faces: int, line: str, seed: int) -> None:
    from service.appraisal.face import MediapipeFaceFinder
    from service.training.release import release

    with Progress(console=_console) as progress:
        task = progress.add_task("calibrating", total=faces)

        def tell(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        made = release(
            weights, data, out, MediapipeFaceFinder(), faces=faces, line=line, seed=seed, tell=tell
        )
    for path in made:
        _console.print(path)


@train_app.command()
def site(
    photos: Annotated[Path, typer.Option(help="Folder of the site's photographs of normal faces.")],
    out: Annotated[Path, typer.Option(help="Folder for archive, training and weights.")],
    *,
    steps: Annotated[int, typer.Option(min=0, help="Steps of adaptation; 0 calibrates only.")] = 600,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Threads of the CPU.")] = 2,
    model_dir: Annotated[
        Path | None, typer.Option(envvar="SEMBLANCE_MODEL_DIR", help="Where more model files are.")
    ] = None,
) -> None:
    """Adapt and calibrate the default method to a site's own normal photographs.

    Photographs in one subfolder are of one person. The shipped network is trained further on most
    people and calibrated on the others. To be free of the licences of the shipped weights, train
    from ImageNet's encoder with `semblance train default` on the archive written here.

    Example: semblance train site --photos normal/ --out site/
    """
    from service.appraisal.face import MediapipeFaceFinder
    from service.appraisal.normalisers.restoration import MODEL
    from service.training.archive import archive_photographs
    from service.training.default_method import TrainingPlan

    with Progress(console=_console) as progress:
        task = progress.add_task("aligning", total=None)

        def tell(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        count = archive_photographs(photos, out, MediapipeFaceFinder(), tell=tell)
    _console.print(f"{count} usable faces")
    weights = ModelStore(model_dir).path(MODEL)
    if steps:
        plan = TrainingPlan(
            out=out,
            encoder=None,
            start=weights,
            steps=steps,
            curriculum_steps=0,
            learning_rate=2e-4,
            device=device,
            threads=threads,
        )
        weights = _train(plan, out)
    _calibrate(weights, out, out, faces=400, line="site", seed=5)
