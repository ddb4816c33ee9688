"""`semblance train discrepancy`, `semblance train patchcore`: the baselines that the papers name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from service.appraisal.model_files.models import ModelStore
from service.errors import ConfigurationError

_ENCODER = "squeezenet1_1-imagenet"
_console = Console(stderr=True)


def discrepancy(  # noqa: PLR0917
    data: Annotated[Path, typer.Option(help="Folder of faces_*.npz archives (docs/method.md).")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, log, contact sheets and weights.")],
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps in all.")] = 6_000,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Threads of the CPU.")] = 1,
    faces: Annotated[int, typer.Option(min=2, help="Faces a step; parts of half of them are hidden.")] = 12,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.01, help="Stop after so long; the learning rate falls to its end by then."),
    ] = None,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 200,
    calibration_faces: Annotated[int, typer.Option(min=10, help="Faces to calibrate on at most.")] = 400,
    seed: Annotated[int, typer.Option(help="Of all chance.")] = 2,
    model_dir: Annotated[
        Path | None, typer.Option(envvar="SEMBLANCE_MODEL_DIR", help="Where the teacher's weights are.")
    ] = None,
) -> None:
    """Train paper 002's discrepancy student on normal faces; run again to continue.

    Writes log.csv, contact sheets and, once trained, discrepancy-face.safetensors with its calibration,
    its model card and its manifest row. Faces are those of the archives' training split; what is usual
    is measured on their calibration split.

    Example: semblance train discrepancy --data faces/ --out run/ --minutes 30
    """
    from service.training.faces import Split, open_pool
    from service.training.localised.release import enough_to_calibrate
    from service.training.two_phase.discrepancy_release import release_discrepancy
    from service.training.two_phase.train import DiscrepancyPlan, train_discrepancy

    plan = DiscrepancyPlan(
        out=out,
        teacher=ModelStore(model_dir).path(_ENCODER),
        steps=steps,
        faces_per_batch=faces,
        minutes=minutes,
        device=device,
        threads=threads,
        seed=seed,
        save_every=save_every,
    )
    pool, held = open_pool(data, Split.TRAIN), open_pool(data, Split.CALIBRATION)
    if not pool.members:
        raise ConfigurationError(f"{data}: no faces to train on")
    enough_to_calibrate(held)
    with Progress(console=_console) as progress:
        task = progress.add_task(f"training on {len(pool)} faces", total=steps)

        def tell(step: int, _steps: int, figures: Mapping[str, float]) -> None:
            progress.update(task, completed=step)
            progress.console.print(step, {k: round(v, 3) for k, v in figures.items()}, highlight=False)

        student = train_discrepancy(plan, pool, held, progress=tell)
        task = progress.add_task("calibrating", total=None)
        made = release_discrepancy(
            student,
            plan.teacher,
            data,
            out,
            faces=calibration_faces,
            tell=lambda done, total: progress.update(task, completed=done, total=total),
        )
    for path in made:
        _console.print(f"{path}", highlight=False, soft_wrap=True)


def patchcore(
    data: Annotated[Path, typer.Option(help="Folder of faces_*.npz archives (docs/method.md).")],
    out: Annotated[Path, typer.Option(help="Directory of models that SEMBLANCE_MODEL_DIR may then name.")],
    *,
    faces: Annotated[int, typer.Option(min=1, help="Faces of the training split to look at.")] = 500,
    count: Annotated[int, typer.Option(min=1, help="Patches kept.")] = 2_000,
    seed: Annotated[int, typer.Option(help="Of all chance.")] = 0,
    model_dir: Annotated[
        Path | None, typer.Option(envvar="SEMBLANCE_MODEL_DIR", help="Where the backbone's weights are.")
    ] = None,
) -> None:
    """Fit PatchCore's bank of normal patches, which the comparator `patchcore` needs.

    Writes the bank, its row in models_manifest.toml beside those of other models, and the backbone's
    weights where OUT lacks them.

    Example: semblance train patchcore --data faces/ --out models/, then
    SEMBLANCE_MODEL_DIR=models semblance score --method symmetry+patchcore photo.jpg
    """
    from service.training.faces import Split, open_pool
    from service.training.patchcore import install_bank

    pool = open_pool(data, Split.TRAIN)
    if not pool.members:
        raise ConfigurationError(f"{data}: no faces to fit a bank on")
    with Progress(console=_console) as progress:
        task = progress.add_task("reading faces", total=min(faces, len(pool)))
        bank = install_bank(
            pool,
            ModelStore(model_dir),
            out,
            faces=faces,
            count=count,
            seed=seed,
            tell=lambda done, total: progress.update(task, completed=done, total=total),
        )
    _console.print(f"{bank}", highlight=False, soft_wrap=True)
    _console.print(
        f"to use it: SEMBLANCE_MODEL_DIR={out}, method symmetry+patchcore", highlight=False, soft_wrap=True
    )
