"""`semblance repeatability`: how much a score varies when the face has not changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from service.appraisal.appraiser import Appraiser
from service.appraisal.models import ModelStore
from service.appraisal.photograph import read_photograph
from service.appraisal.repeatability import (
    REPEATABILITY_DIR,
    Repeatability,
    measure_repeatability,
    save_repeatability,
)
from service.config import load_settings
from service.errors import SemblanceError
from service.exit_codes import code_of


def repeatability(
    photos: Annotated[list[Path], typer.Argument(help="Photographs of different people, five or more.")],
    *,
    method: Annotated[
        str | None, typer.Option(help="Method; default: SEMBLANCE_METHOD.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where the figures are stored; default: beside the method's calibration."),
    ] = None,
) -> None:
    """Measure within-subject SD, smallest detectable change and ICC, per region, and store them.

    Every photograph is appraised under JPEG compression, scale, roll, small changes of pose and
    light, and a simulated second photograph. A change smaller than the smallest detectable one is
    not to be called a change.

    For example `semblance repeatability photos/*.jpg --out repeatability.json`.

    Exit codes: 0 done; 1 a photograph or model file is at fault; 2 wrong usage, setting or
    method.
    """
    errors = Console(stderr=True)
    try:
        settings = load_settings()
        appraiser = Appraiser(
            method or settings.method, store=ModelStore(settings.model_dir), device=settings.device
        )
        photographs = [read_photograph(path) for path in photos]
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
            task = progress.add_task("taking again", total=None)
            found = measure_repeatability(
                appraiser,
                photographs,
                lambda done, total: progress.update(task, completed=done, total=total),
            )
        path = out or REPEATABILITY_DIR / f"{found.method.calibration or found.method.name}.json"
        save_repeatability(found, path)
    except (SemblanceError, OSError) as exc:
        errors.print(f"[bold red]error:[/] {exc}", highlight=False)
        raise typer.Exit(code_of(exc)) from exc
    _show(found, path)


def _show(found: Repeatability, path: Path) -> None:
    table = Table(title=f"Repeatability of {found.method.name}", caption=str(path))
    for column in ("region", "within-subject SD", "smallest detectable change", "ICC"):
        table.add_column(column, justify="left" if column == "region" else "right")
    for name, figures in found.regions.items():
        numbers = (figures.within_sd, figures.smallest_detectable_change, figures.icc)
        table.add_row(name, *(f"{value:.3f}" for value in numbers))
    console = Console()
    console.print(table)
    conditions = Table(title="Mean change of the score by condition, in within-subject SDs")
    for column in ("condition", "change", "no longer judged"):
        conditions.add_column(column, justify="left" if column == "condition" else "right")
    for name, count in found.rejected.items():
        change = f"{found.shift[name]:+.2f}" if name in found.shift else ""
        conditions.add_row(name, change, str(count))
    console.print(conditions)
