"""`semblance change`: whether two photographs of one face differ by more than chance."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from reporting.outcomes.by_uid import change_by_uid
from service.appraisal.appraiser import Appraiser
from service.appraisal.change import RegionChange, Verdict, compare_appraisals
from service.appraisal.model_files.models import ModelStore
from service.appraisal.photograph.decode import read_photograph
from service.appraisal.repeatability import find_repeatability, repeatability_places
from service.commands.failures import tell
from service.commands.options import DataDir, settings_of
from service.commands.science.caution import caution
from service.commands.science.progress import QuietFinder, step_progress, steps_shown
from service.config import load_settings
from service.database.pool import connect
from service.errors import SemblanceError
from service.exit_codes import ExitCode

_UID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")  # PS3.5 section 9.1
_COLOURS = {Verdict.BETTER: "green", Verdict.WORSE: "red"}


def change(
    before: Annotated[Path, typer.Argument(help="The earlier photograph: a file, or a SOP Instance UID.")],
    after: Annotated[Path, typer.Argument(help="The later photograph of the same person, likewise.")],
    *,
    method: Annotated[
        str | None, typer.Option(help="Method; default: SEMBLANCE_METHOD.", show_default=False)
    ] = None,
    data_dir: DataDir = Path("var"),
) -> None:
    """Say which regions changed between two photographs by more than the method varies by itself.

    What the method varies by comes from `semblance repeatability`; where it was not measured for
    this method and weights, no change is called real.

    The regions are judged together, so that all verdicts are wrong by chance at most once in twenty
    times. Of two SOP Instance UIDs the stored results are compared, by the newest method that judged both.

    For example `semblance change before.jpg after.jpg`, or `semblance change 2.25.12 2.25.13`.

    Exit codes: 0 compared; 1 a photograph or model file is at fault; 2 wrong usage, setting or
    method; 3 a photograph was rejected.
    """
    errors = Console(stderr=True)
    if _is_uid(before) and _is_uid(after):
        _stored(str(before), str(after), data_dir)
        return
    try:
        settings = load_settings()
        store = ModelStore(settings.model_dir)
        progress = step_progress(errors)
        photographs = [read_photograph(before), read_photograph(after)]
        appraiser = Appraiser(
            method or settings.method,
            store=store,
            device=settings.device,
            face_finder=QuietFinder(),
            progress=steps_shown(progress),
        )
        caution(method or settings.method, errors)
        with progress:
            found = appraiser.appraise_batch(photographs, with_maps=False)
        known = find_repeatability(appraiser.identity, *repeatability_places(settings.model_dir))
        changes = compare_appraisals(found[0].appraisal, found[1].appraisal, known)
    except (SemblanceError, OSError) as exc:
        raise typer.Exit(tell(exc)) from exc
    rejected = [(p, r.appraisal) for p, r in zip((before, after), found, strict=True) if r.appraisal.reasons]
    for path, appraisal in rejected:
        errors.print(f"{path}: rejected: {', '.join(appraisal.reasons)}", highlight=False)
    if rejected:
        raise typer.Exit(ExitCode.REJECTED)
    if known is None:
        errors.print("no repeatability is stored for this method and weights: run semblance repeatability")
    _show(appraiser.identity.name, changes, "" if known is None else known.basis)


def _is_uid(given: Path) -> bool:
    """Whether a SOP Instance UID is meant: it looks like one, and no file is called so."""
    return _UID.fullmatch(str(given)) is not None and not given.exists()


def _stored(before: str, after: str, data_dir: Path) -> None:
    """Compare the stored results of two photographs."""
    settings = settings_of(data_dir)
    with connect(settings) as connection:
        method, outcomes, basis = change_by_uid(connection, before, after, settings)
    changes = tuple(
        RegionChange(
            region=each.region,
            before=each.before,
            after=each.after,
            smallest_detectable=each.smallest_detectable,
            verdict=each.verdict,
        )
        for each in outcomes
    )
    _show(method, changes, basis)


def _show(method: str, changes: tuple[RegionChange, ...], basis: str) -> None:
    """The table, and what it takes chance to be."""
    table = Table(
        title=f"Change by {method}; scores, higher = more normal",
        caption=f"assumes that photographs of an unchanged face vary as did {basis}" if basis else None,
    )
    for column in ("region", "before", "after", "change", "smallest detectable", "verdict"):
        table.add_column(column, justify="left" if column in ("region", "verdict") else "right")
    for row in changes:
        numbers = (row.before, row.after, row.difference, row.smallest_detectable)
        cells = ["" if number is None else f"{number:.2f}" for number in numbers]
        colour = _COLOURS.get(row.verdict)
        said = f"[{colour}]{row.verdict.value}[/]" if colour else row.verdict.value
        table.add_row(row.region.value, *cells, said)
    Console().print(table)
