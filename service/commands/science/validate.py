"""`semblance validate`: a hospital's own ratings against the methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from service.appraisal.appraiser import BATCH
from service.appraisal.model_files.models import ModelStore
from service.commands.failures import tell
from service.commands.science.progress import QuietFinder, step_progress, steps_shown
from service.config import load_settings
from service.errors import ConfigurationError, SemblanceError
from service.evaluation.validation import Validation, read_ratings, usable_methods, validate
from service.evaluation.validation_report import write_report
from service.records import Region
from service.training.rated_calibration import Fit, calibrate_on_ratings, install_calibration


def validate_command(
    ratings: Annotated[Path, typer.Argument(help="CSV with the columns photo,rater,rating (1 to 7).")],
    photos: Annotated[Path, typer.Option(help="Folder of the photographs.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder the report goes to.")] = Path("validation"),
    method: Annotated[
        list[str] | None,
        typer.Option(help="Method, or normaliser+comparator; may be repeated.", show_default=False),
    ] = None,
    normaliser: Annotated[
        str, typer.Option(help="Normaliser of the pairs that are compared when no method is named.")
    ] = "symmetry",
    draws: Annotated[int, typer.Option(min=50, help="Bootstrap resamples.")] = 2000,
    batch: Annotated[
        int, typer.Option(min=1, help="Photographs appraised together: more is faster on a large GPU.")
    ] = BATCH,
    calibrate: Annotated[
        str | None,
        typer.Option(help="Method to calibrate on these ratings; needs --calibration.", show_default=False),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="Folder for it, for SEMBLANCE_MODEL_DIR to name; other models in it are kept."),
    ] = None,
    fit: Annotated[
        Fit, typer.Option(help="Rating as a function of the score: the paper's anchors, isotonic or linear.")
    ] = Fit.ANCHORS,
) -> None:
    """Compare scores with human ratings: Pearson, Spearman, MAE, W1, agreement of the raters.

    Writes report.html, agreement.csv, scores.csv and rejected.csv. Without --method, the product's method and
    every pair of the normaliser with a comparator whose model files are there are compared.

    With --calibrate the ratings also become a calibration of one method: from then on, wherever
    SEMBLANCE_MODEL_DIR names the folder of --calibration, its ratings are on your raters' scale and
    every result carries the calibration's version.

    For example `semblance validate ratings.csv --photos photos/ --out report/`.

    Photographs that cannot be judged are left out and named, with the reasons.

    Exit codes: 0 done; 1 a model file is at fault; 2 wrong usage, ratings, setting or method, a
    photograph that is not there, or too few that can be judged.
    """
    errors = Console(stderr=True)
    try:
        settings = load_settings()
        store = ModelStore(settings.model_dir)
        if (calibrate is None) != (calibration is None):
            raise ConfigurationError("--calibrate and --calibration belong together")
        names = tuple(method or (settings.method, *usable_methods(normaliser, store)))
        names = tuple(dict.fromkeys((*names, *((calibrate,) if calibrate else ()))))
        rated = read_ratings(ratings)
        out.mkdir(parents=True, exist_ok=True)
        progress = step_progress(errors)
        task, steps = progress.add_task("appraising", total=None), steps_shown(progress)
        with progress:
            found = validate(
                rated,
                photos,
                names,
                store,
                device=settings.device,
                draws=draws,
                batch=batch,
                finder=QuietFinder(),
                progress=lambda done, total: progress.update(task, completed=done, total=total),
                steps=steps,
            )
        path = write_report(found, photos, out)
        for photo, reasons in found.rejected:
            errors.print(f"{photo}: rejected: {reasons}", highlight=False, markup=False)
        _show(found, path)
        if calibrate is not None and calibration is not None:
            made = calibrate_on_ratings(found, calibrate, fit, photos, store, device=settings.device)
            errors.print(
                f"calibration {made.version}: {install_calibration(made, calibration)}", highlight=False
            )
    except (SemblanceError, OSError) as exc:
        raise typer.Exit(tell(exc)) from exc


def _show(found: Validation, path: Path) -> None:
    table = Table(title="Agreement with people, entire face", caption=str(path))
    for column in ("method", "Pearson", "Spearman", "MAE", "W1"):
        named = column == "method"  # whole: it is what one copies
        table.add_column(column, justify="left" if named else "right", no_wrap=named)
    for result in found.results:
        if result.region is Region.FACE:
            figures = result.agreement
            table.add_row(
                result.method,
                *(
                    f"{e.value:.2f} ({e.low:.2f} to {e.high:.2f})"
                    for e in (figures.pearson, figures.spearman, figures.mae, figures.w1)
                ),
            )
    console = Console()
    console.print(table)
    raters = found.raters
    console.print(
        f"Raters: {raters.model} {raters.single:.2f} for one, {raters.mean:.2f} for the mean; "
        f"{len(found.rejected)} photographs not judged",
        highlight=False,
    )
