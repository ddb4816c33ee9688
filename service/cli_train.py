"""`semblance train`: makes the weights of the methods, from public or from a site's own faces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from service.appraisal.models import ModelStore
from service.cli_train_baselines import discrepancy, patchcore
from service.errors import ConfigurationError

if TYPE_CHECKING:
    from service.training.default_method import TrainingPlan

train_app = typer.Typer(
    help="Make the weights of the methods (CPU or one GPU; resumable).", no_args_is_help=True
)
_ENCODER = "squeezenet1_1-imagenet"
_console = Console(stderr=True)
_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


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
    save_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 200,
    seed: Annotated[int, typer.Option(help="Of all chance.")] = 7,
    start: Annotated[Path | None, typer.Option(help="Weights to start from instead of ImageNet's.")] = None,
    model_dir: Annotated[
        Path | None, typer.Option(envvar="SEMBLANCE_MODEL_DIR", help="Where the encoder's weights are.")
    ] = None,
) -> None:
    """Train the default method's network; run again to continue an interrupted training.

    Writes network.safetensors, log.csv, steering.csv and contact sheets. Then train its landmarks with
    `semblance train landmarks`, and calibrate with `semblance train calibrate`.

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
        save_every=save_every,
    )
    _train(plan, data)


def _train(plan: TrainingPlan, data: Path) -> Path:
    from service.appraisal.anomalies import NAMED
    from service.training.default_method import train
    from service.training.faces import Split, open_pool
    from service.training.steering import steering_set

    pool = open_pool(data, Split.TRAIN)
    held = open_pool(data, Split.CALIBRATION, fine_only=True)
    if not pool.members or not held.members:
        raise ConfigurationError(
            f"{data}: {len(pool)} faces to train on and {len(held)} of the finest archive to steer by"
        )
    steering = steering_set(held, NAMED, faces=min(64, len(held)), severity=0.5, seed=1)
    with Progress(*_COLUMNS, console=_console) as progress:
        task = progress.add_task(f"training on {len(pool)} faces", total=plan.steps)

        def tell(step: int, _steps: int, figures: Mapping[str, float]) -> None:
            progress.update(task, completed=step)
            progress.console.print(step, {k: round(v, 3) for k, v in figures.items()}, highlight=False)

        weights = train(plan, pool, held=steering, progress=tell)
    _console.print(f"weights: {weights}")
    return weights


@train_app.command()
def landmarks(  # noqa: PLR0917
    weights: Annotated[Path, typer.Option(help="network.safetensors of a training.")],
    data: Annotated[Path, typer.Option(help="Folder of faces_*.npz archives (docs/method.md).")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, log and weights.")],
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps in all.")] = 8_000,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Threads of the CPU.")] = 2,
    workers: Annotated[int, typer.Option(min=0, help="Processes that make examples.")] = 1,
    faces: Annotated[int, typer.Option(min=1, help="Faces a step.")] = 24,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.01, help="Stop after so long; the learning rate falls to its end by then."),
    ] = None,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 200,
    seed: Annotated[int, typer.Option(help="Of all chance.")] = 17,
) -> None:
    """Train the landmarks of a network to follow pathology; run again to continue.

    Nothing else of the network changes. Writes network.safetensors and landmarks.csv.

    Example: semblance train landmarks --weights run/network.safetensors --data faces/ --out points/
    """
    from service.appraisal.anomaly_network import AnomalyNetwork
    from service.appraisal.models import load_tensors
    from service.training.faces import Split, open_pool
    from service.training.landmarks import LandmarkPlan, train_landmarks
    from service.training.schedule import save_halves

    plan = LandmarkPlan(
        out=out,
        steps=steps,
        faces_per_batch=faces,
        minutes=minutes,
        device=device,
        threads=threads,
        workers=workers,
        seed=seed,
        save_every=save_every,
    )
    pool = open_pool(data, Split.TRAIN)
    if not pool.members:
        raise ConfigurationError(f"{data}: no faces to train on")
    network = AnomalyNetwork()
    network.load_state_dict(load_tensors(weights))
    with Progress(*_COLUMNS, console=_console) as progress:
        task = progress.add_task(f"landmarks on {len(pool)} faces", total=steps)

        def tell(step: int, _steps: int, figures: Mapping[str, float]) -> None:
            progress.update(task, completed=step)
            progress.console.print(step, {k: round(v, 3) for k, v in figures.items()}, highlight=False)

        train_landmarks(network, plan, pool, progress=tell)
    save_halves(network.state_dict(), out / "network.safetensors")
    _console.print(f"weights: {out / 'network.safetensors'}")


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

    Writes default-face.safetensors, default-fusion.safetensors and the calibration. Line research:
    their rows for the product's manifest. Line site: a directory that SEMBLANCE_MODEL_DIR may name.

    Example: semblance train calibrate --weights run/network.safetensors --data faces/ --out run/
    """
    for path in _calibrate(weights, data, out, faces=faces, line=line, seed=seed):
        _console.print(path)


def _calibrate(
    weights: Path, data: Path, out: Path, *, faces: int, line: str, seed: int, everyone: bool = False
) -> tuple[Path, ...]:
    from service.appraisal.face import MediapipeFaceFinder
    from service.training.release import release

    with Progress(console=_console) as progress:
        task = progress.add_task("calibrating", total=faces)

        def tell(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        return release(
            weights,
            data,
            out,
            MediapipeFaceFinder(),
            faces=faces,
            line=line,
            seed=seed,
            everyone=everyone,
            tell=tell,
        )


@train_app.command()
def site(
    photos: Annotated[Path, typer.Option(help="Folder of the site's photographs of normal faces.")],
    out: Annotated[Path, typer.Option(help="Folder for archive, training and weights.")],
    *,
    steps: Annotated[int, typer.Option(min=0, help="Steps of adaptation; 0 calibrates only.")] = 600,
    faces: Annotated[int, typer.Option(min=10, help="Faces to calibrate on at most.")] = 400,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Threads of the CPU.")] = 2,
    workers: Annotated[int, typer.Option(min=0, help="Processes that make examples.")] = 1,
    model_dir: Annotated[
        Path | None, typer.Option(envvar="SEMBLANCE_MODEL_DIR", help="Where more model files are.")
    ] = None,
) -> None:
    """Adapt and calibrate the default method to a site's own normal photographs.

    Photographs in one subfolder are of one person. The shipped network is trained further on three
    fifths of the people and calibrated on the others; with --steps 0 it is calibrated on all of them.
    OUT/model is what SEMBLANCE_MODEL_DIR may then name; the rest of OUT holds faces, keep it as
    patient data. To be free of the licences of the shipped weights, train from ImageNet's encoder
    with `semblance train default` on the archive written here.

    Exit codes: 0 done; 1 a model file is at fault; 2 too few usable faces, or wrong usage.

    Example: semblance train site --photos normal/ --out site/
    """
    from service.appraisal.face import MediapipeFaceFinder
    from service.appraisal.normalisers.restoration import MODEL
    from service.training.archive import archive_photographs
    from service.training.default_method import TrainingPlan
    from service.training.faces import Split, open_pool
    from service.training.release import enough_to_calibrate

    weights = ModelStore(model_dir).path(MODEL)
    with Progress(console=_console) as progress:
        task = progress.add_task("aligning", total=None)

        def tell(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        count = archive_photographs(photos, out, MediapipeFaceFinder(), tell=tell)
    _console.print(f"{count} usable faces")
    if steps:
        enough_to_calibrate(open_pool(out, Split.CALIBRATION))
        plan = TrainingPlan(
            out=out,
            encoder=None,
            start=weights,
            steps=steps,
            curriculum_steps=0,
            learning_rate=2e-4,
            encoder_rate=0.0,  # the landmarks rest on it
            device=device,
            threads=threads,
            workers=workers,
        )
        weights = _train(plan, out)
    _calibrate(weights, out, out / "model", faces=faces, line="site", seed=5, everyone=not steps)
    _console.print(f"to use it: SEMBLANCE_MODEL_DIR={out / 'model'}", highlight=False, soft_wrap=True)


train_app.command()(discrepancy)
train_app.command()(patchcore)
