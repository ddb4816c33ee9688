"""`semblance repeatability`: how much a score varies when the face has not changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from service.appraisal.appraiser import Appraiser
from service.appraisal.model_files.models import ModelStore
from service.appraisal.photograph.decode import Photograph, photograph_from_rgb, read_photograph
from service.appraisal.repeatability import (
    RegionRepeatability,
    Repeatability,
    repeatability_places,
    save_repeatability,
)
from service.commands.failures import tell
from service.commands.science.progress import QuietFinder, step_progress, steps_shown
from service.config import load_settings
from service.errors import ConfigurationError, SemblanceError
from service.evaluation.benchmark.subjects import people_of, photographs_in
from service.evaluation.exposures import exposures_in, measure_exposures
from service.evaluation.repeatability import LEAST_PEOPLE, measure_repeatability

_FACE_PX = 512  # of an archive's face, as a photograph


def repeatability(
    photos: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Photographs, or a folder of them, of five people. Those of one folder are of one person, "
            "unless there is one folder alone.",
            show_default=False,
        ),
    ] = None,
    *,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of faces_*.npz archives: held-out faces instead of photographs."),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="Real photographs of unchanged people, two or more of each: a folder with a folder for each "
            "person (in it, if you like, one for each expression), or an .npz archive of them."
        ),
    ] = None,
    faces: Annotated[int, typer.Option(min=5, help="How many of the archives' faces.")] = 20,
    method: Annotated[
        str | None, typer.Option(help="Method; default: SEMBLANCE_METHOD.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where the figures are stored; default: under SEMBLANCE_MODEL_DIR, else beside the "
            "method's calibration."
        ),
    ] = None,
) -> None:
    """Measure within-subject SD, smallest detectable change and ICC, per region, and store them.

    With --pairs, photographs that were really taken twice are appraised, and what varies between those
    of one person is chance: take them as you take patients', of people whose faces have not changed.
    Without, every photograph is altered by the computer: JPEG compression, scale, roll, small changes of
    pose and light. That tells how little a method minds such changes, and is too sure of change between
    two photographs. A change smaller than the smallest detectable one is not to be called a change;
    `semblance change` and outcomes take the figures of real photographs where there are some.

    For example `semblance repeatability --pairs volunteers/`, or `semblance repeatability photos/*.jpg`.

    Exit codes: 0 done; 1 a photograph or model file is at fault; 2 wrong usage, setting or
    method.
    """
    errors = Console(stderr=True)
    try:
        settings = load_settings()
        progress = step_progress(errors)
        task, steps = progress.add_task("taking again", total=None), steps_shown(progress)
        if sum((bool(photos), data is not None, pairs is not None)) != 1:
            raise ConfigurationError("either photographs, --data or --pairs")
        exposures = exposures_in(pairs) if pairs is not None else ()
        people, photographs = ((), []) if exposures else _photographs(photos or [], data, faces)
        appraiser = Appraiser(
            method or settings.method,
            store=ModelStore(settings.model_dir),
            device=settings.device,
            face_finder=QuietFinder(),
            progress=steps,
        )

        def done_so_far(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        with progress:
            if exposures:
                found = measure_exposures(appraiser, exposures, done_so_far)
            else:
                found = measure_repeatability(appraiser, photographs, people, done_so_far)
        place = repeatability_places(settings.model_dir)[0]
        kind = "-pairs" if exposures else ""
        path = out or place / f"{found.method.calibration or found.method.name}{kind}.json"
        save_repeatability(found, path)
    except (SemblanceError, OSError) as exc:
        raise typer.Exit(tell(exc)) from exc
    _show(found, path)


def _photographs(photos: list[Path], data: Path | None, faces: int) -> tuple[Sequence[str], list[Photograph]]:
    """Those named, or evenly spread held-out faces of the archives; first who each is of."""
    if data is None:
        return _named(photos)
    from service.training.faces import Split, open_pool

    pool = open_pool(data, Split.TEST, fine_only=True)
    chosen = range(0, len(pool), max(1, len(pool) // faces))[:faces]
    found = [pool.face(number, _FACE_PX) for number in chosen]
    return [face.identity for face in found], [photograph_from_rgb(face.image) for face in found]


def _named(photos: list[Path]) -> tuple[Sequence[str], list[Photograph]]:
    for path in photos:
        if not path.exists():
            read_photograph(path)  # says why it cannot be
    if len(photos) == 1 and photos[0].is_dir():
        paths = photographs_in(photos[0])
        people = people_of(paths, photos[0])
    else:
        paths = [path for place in photos for path in (photographs_in(place) if place.is_dir() else [place])]
        people = people_of(paths)
    found = len(set(people))
    if found < LEAST_PEOPLE:
        raise ConfigurationError(
            f"{len(paths)} photographs of {found} people (those of one folder are of one person); "
            f"{LEAST_PEOPLE} people are the least"
        )
    return people, [read_photograph(path) for path in paths]


def _show(found: Repeatability, path: Path) -> None:
    console = Console()
    console.print(_figures(f"Repeatability of {found.method.name}: {found.basis}", found.regions, str(path)))
    for kind, regions in found.apart.items():
        console.print(_figures(f"By {kind} alone", regions, ""))
    conditions = Table(title="Mean change of the score by condition, in within-subject SDs")
    for column in ("condition", "change", "no longer judged"):
        conditions.add_column(column, justify="left" if column == "condition" else "right")
    for name, count in found.rejected.items():
        change = f"{found.shift[name]:+.2f}" if name in found.shift else ""
        conditions.add_row(name, change, str(count))
    console.print(conditions)


def _figures(title: str, regions: Mapping[str, RegionRepeatability], caption: str) -> Table:
    table = Table(title=title, caption=caption)
    for column in ("region", "people", "within-subject SD", "smallest detectable change", "ICC"):
        table.add_column(column, justify="left" if column == "region" else "right")
    for name, figures in regions.items():
        numbers = (figures.within_sd, figures.smallest_detectable_change, figures.icc)
        table.add_row(name, str(figures.people), *(f"{value:.3f}" for value in numbers))
    return table
