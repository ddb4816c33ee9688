"""`semblance train`: makes the weights of the methods, from public or from a site's own faces."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from service.appraisal.model_files.models import ModelStore
from service.commands.train import stages
from service.commands.train.baselines import discrepancy, patchcore

train_app = typer.Typer(
    help="Make the weights of the methods (CPU or one GPU; resumable).", no_args_is_help=True
)
_ENCODER = "squeezenet1_1-imagenet"

# Options that stages share.
_Data = Annotated[Path, typer.Option(help="Folder of faces_*.npz archives (docs/method.md).")]
_Steps = Annotated[int, typer.Option(min=1, help="Optimiser steps in all.")]
_Device = Annotated[str, typer.Option(help="cpu or cuda.")]
_Threads = Annotated[int, typer.Option(min=1, help="Threads of the CPU.")]
_Workers = Annotated[int, typer.Option(min=0, help="Processes that make examples.")]
_Minutes = Annotated[
    float | None,
    typer.Option(min=0.01, help="Stop after so long; the learning rate falls to its end by then."),
]
_SaveEvery = Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")]
_Seed = Annotated[int, typer.Option(help="Of all chance.")]
_console = stages.console


class Stage(StrEnum):
    """Of `semblance train default`."""

    NETWORK = "network"
    LANDMARKS = "landmarks"
    CLOSE_UP = "close-up"
    CALIBRATED = "calibrated"


class Seen(StrEnum):
    """What a network sees; the names of ``views.View``."""

    WHOLE = "whole"
    CLOSE_UP = "close-up"


@train_app.command()
def default(  # noqa: PLR0917
    data: _Data,
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, logs, contact sheets and weights.")],
    steps: _Steps = 24_000,
    device: _Device = "cpu",
    threads: _Threads = 2,
    workers: _Workers = 1,
    faces: Annotated[int, typer.Option(min=1, help="Faces a step; each gives three images.")] = 6,
    minutes: _Minutes = None,
    save_every: _SaveEvery = 200,
    seed: _Seed = 7,
    start: Annotated[Path | None, typer.Option(help="Weights to start from instead of ImageNet's.")] = None,
    model_dir: Annotated[
        Path | None, typer.Option(envvar="SEMBLANCE_MODEL_DIR", help="Where the encoder's weights are.")
    ] = None,
    until: Annotated[Stage, typer.Option(help="The last stage to run.")] = Stage.CALIBRATED,
) -> None:
    """Train and calibrate the default method; run again to continue an interrupted training.

    Stages, each also a command of its own: the network of the whole face (OUT: network.safetensors,
    log.csv, steering.csv, contact sheets), its landmarks (OUT/landmarks), the close-up of mouth and nose
    (OUT/close-up) and its landmarks (OUT/close-up/landmarks), and the calibration (OUT/model). The
    three in the middle have a third of the steps each; of --minutes half go to the first stage and a
    sixth to each of them.

    Example: semblance train default --data faces/ --out run/ --device cuda --workers 12 --faces 16
    """
    from service.appraisal.methods.localised.views import CLOSE_UP, WHOLE
    from service.training.localised.train import TrainingPlan

    encoder = None if start is not None else ModelStore(model_dir).path(_ENCODER)
    plan = TrainingPlan(
        out=out,
        encoder=encoder,
        start=start,
        steps=steps,
        curriculum_steps=steps // 4,
        faces_per_batch=faces,
        minutes=None if minutes is None else minutes * (1.0 if until is Stage.NETWORK else 0.5),
        device=device,
        threads=threads,
        workers=workers,
        seed=seed,
        save_every=save_every,
    )
    what = f"{steps} steps, {minutes or 'any'} minutes"
    weights = stages.once(out, what, lambda: stages.network(plan, data))
    if until is Stage.NETWORK:
        return

    def share(of_faces: int) -> stages.Effort:
        return stages.Effort(
            steps=max(steps // 3, 1),
            faces=of_faces,
            minutes=None if minutes is None else minutes / 6,
            device=device,
            threads=threads,
            workers=workers,
            seed=seed + 1,
            save_every=save_every,
        )

    points, near = out / "landmarks", out / "close-up"
    many = share(4 * faces)
    whole = stages.once(points, what, lambda: stages.landmarks(weights, data, points, WHOLE, many))
    if until is Stage.LANDMARKS:
        return
    stages.once(near, what, lambda: stages.close_up(whole, data, near, share(faces)))
    lips = near / "landmarks"
    close = stages.once(
        lips, what, lambda: stages.landmarks(near / stages.WEIGHTS, data, lips, CLOSE_UP, many)
    )
    if until is Stage.CALIBRATED:
        for path in stages.calibrated(whole, close, data, out / "model", 400, "research", 5):
            _console.print(path)


@train_app.command("close-up")
def close_up(  # noqa: PLR0917
    weights: Annotated[Path, typer.Option(help="network.safetensors of the whole face, to begin as.")],
    data: _Data,
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, log, contact sheets and weights.")],
    steps: _Steps = 8_000,
    device: _Device = "cpu",
    threads: _Threads = 2,
    workers: _Workers = 1,
    faces: Annotated[int, typer.Option(min=1, help="Faces a step; each gives three images.")] = 8,
    minutes: _Minutes = None,
    save_every: _SaveEvery = 200,
    seed: _Seed = 19,
) -> None:
    """Train the network that sees mouth and nose from close by; run again to continue.

    It begins as the network of the whole face. Writes network.safetensors, log.csv and contact sheets.

    Example: semblance train close-up --weights run/network.safetensors --data faces/ --out close/
    """
    stages.close_up(
        weights,
        data,
        out,
        stages.Effort(
            steps=steps,
            faces=faces,
            minutes=minutes,
            device=device,
            threads=threads,
            workers=workers,
            seed=seed,
            save_every=save_every,
        ),
    )


@train_app.command()
def landmarks(  # noqa: PLR0917
    weights: Annotated[Path, typer.Option(help="network.safetensors of a training.")],
    data: _Data,
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, log and weights.")],
    steps: _Steps = 8_000,
    device: _Device = "cpu",
    threads: _Threads = 2,
    workers: _Workers = 1,
    faces: Annotated[int, typer.Option(min=1, help="Faces a step.")] = 24,
    minutes: _Minutes = None,
    save_every: _SaveEvery = 200,
    seed: _Seed = 17,
    view: Annotated[Seen, typer.Option(help="What the network sees.")] = Seen.WHOLE,
) -> None:
    """Train the landmarks of a network to follow pathology; run again to continue.

    Nothing else of the network changes. Writes network.safetensors and landmarks.csv.

    Example: semblance train landmarks --weights run/network.safetensors --data faces/ --out points/
    """
    from service.appraisal.methods.localised.views import CLOSE_UP, WHOLE

    stages.landmarks(
        weights,
        data,
        out,
        CLOSE_UP if view is Seen.CLOSE_UP else WHOLE,
        stages.Effort(
            steps=steps,
            faces=faces,
            minutes=minutes,
            device=device,
            threads=threads,
            workers=workers,
            seed=seed,
            save_every=save_every,
        ),
    )


@train_app.command()
def mean(
    weights: Annotated[list[Path], typer.Argument(help="network.safetensors of two or more trainings.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
) -> None:
    """Write the mean of the weights of trainings that began from the same ones; their landmarks are next.

    Exit codes: 0 done; 1 a file is at fault; 2 fewer than two, or not of one network.

    Example: semblance train mean before/network.safetensors after/network.safetensors --out mean.safetensors
    """
    from service.appraisal.model_files.models import load_tensors
    from service.training.schedule import mean_of, save_halves

    save_halves(mean_of([load_tensors(path) for path in weights]), out)
    _console.print(f"weights: {out}")


@train_app.command()
def calibrate(
    weights: Annotated[Path, typer.Option(help="network.safetensors of a training.")],
    data: Annotated[
        Path, typer.Option(help="Folder of faces_*.npz archives; only their calibration split is used.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for weights, calibration and manifest rows.")],
    *,
    close_up: Annotated[
        Path | None, typer.Option(help="network.safetensors of the close-up; the shipped one otherwise.")
    ] = None,
    faces: Annotated[int, typer.Option(min=10, help="Faces to calibrate on at most.")] = 400,
    line: Annotated[str, typer.Option(help="Line of the weights: research or site.")] = "research",
    leave_one_kind_out: Annotated[
        bool,
        typer.Option(
            "--leave-one-kind-out",
            help="Also hold out each kind of anomaly in turn, and write held-out-kinds.csv: AUROC of what "
            "the calibration has not seen, on faces it has not seen.",
        ),
    ] = False,
    seed: _Seed = 5,
) -> None:
    """Calibrate a trained network on faces it was not trained on.

    Writes default-face.safetensors, default-fusion.safetensors and the calibration. Line research:
    their rows for the product's manifest. Line site: a directory that SEMBLANCE_MODEL_DIR may name.

    Example: semblance train calibrate --weights run/network.safetensors --data faces/ --out run/
    """
    for path in stages.calibrated(
        weights, close_up, data, out, faces, line, seed, leave_one_kind_out=leave_one_kind_out
    ):
        _console.print(path)


@train_app.command()
def counterpart(
    weights: Annotated[Path, typer.Option(help="default-face.safetensors: both networks.")],
    data: Annotated[Path, typer.Option(help="Folder of faces_*.npz archives; its test split is not used.")],
    out: Annotated[Path, typer.Option(help="Folder for what to expect and its manifest row.")],
    *,
    faces: Annotated[int, typer.Option(min=300, help="Faces of each archive at most.")] = 1500,
) -> None:
    """Fit what to expect of a face, from which the default method draws its normal counterpart.

    Landmarks, colours and texture come of the training split; the thresholds that few normal faces
    exceed come of the calibration split. Writes default-counterpart.safetensors and its manifest row.

    Example: semblance train counterpart --weights run/default-face.safetensors --data faces/ --out run/
    """
    for path in stages.expected(weights, data, out, faces):
        _console.print(path)


@train_app.command()
def site(
    photos: Annotated[Path, typer.Option(help="Folder of the site's photographs of normal faces.")],
    out: Annotated[Path, typer.Option(help="Folder for archive, training and weights.")],
    *,
    steps: Annotated[int, typer.Option(min=0, help="Steps of adaptation; 0 calibrates only.")] = 600,
    faces: Annotated[int, typer.Option(min=10, help="Faces to calibrate on at most.")] = 400,
    device: _Device = "cpu",
    threads: _Threads = 2,
    workers: _Workers = 1,
    model_dir: Annotated[
        Path | None, typer.Option(envvar="SEMBLANCE_MODEL_DIR", help="Where more model files are.")
    ] = None,
) -> None:
    """Adapt and calibrate the default method to a site's own normal photographs.

    Photographs in one subfolder are of one person. The shipped network is trained further on three
    fifths of the people and calibrated on the others; with --steps 0 it is calibrated on all of them.
    OUT/model is what SEMBLANCE_MODEL_DIR may then name; the rest of OUT holds faces, keep it as
    patient data. Weights adapted from the shipped ones stay under the licence of those: for research
    that is not commercial. To be free of it, train from ImageNet's encoder with `semblance train
    default` and `train close-up` on the archive written here.

    Exit codes: 0 done; 1 a model file is at fault; 2 too few usable faces, or wrong usage.

    Example: semblance train site --photos normal/ --out site/
    """
    from service.appraisal.face.finder import MediapipeFaceFinder
    from service.appraisal.methods.localised.normaliser import MODEL
    from service.training.archive import archive_photographs
    from service.training.faces import Split, open_pool
    from service.training.localised.release import enough_to_calibrate
    from service.training.localised.train import TrainingPlan
    from service.training.rated_calibration import stale_calibrations

    store = ModelStore(model_dir)
    weights, licence = store.path(MODEL), store.entry(MODEL).licence
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
        weights = stages.network(plan, out)
    stages.calibrated(
        weights, None, out, out / "model", faces, "site", 5, everyone=not steps, started_from=licence
    )
    for version in stale_calibrations(out / "model", "default"):
        _console.print(
            f"{version} was made for other weights, and results by it stay as they are; run "
            "`semblance validate --calibrate default` with the same ratings to have your raters' scale again",
            highlight=False,
            soft_wrap=True,
        )
    _console.print(f"licence of these weights: {licence}", highlight=False, soft_wrap=True)
    _console.print(f"to use it: SEMBLANCE_MODEL_DIR={out / 'model'}", highlight=False, soft_wrap=True)


train_app.command()(discrepancy)
train_app.command()(patchcore)
