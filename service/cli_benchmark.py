"""`semblance benchmark`: synthetic validity of any method on any folder of normal faces."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from service.appraisal.anomalies import Maker, named_types, read_lip_shapes
from service.appraisal.appraiser import Appraiser
from service.appraisal.benchmark.judges import NOT_METHODS, ORACLE, AppraiserJudge
from service.appraisal.benchmark.report import write_report
from service.appraisal.benchmark.subjects import read_subjects
from service.appraisal.benchmark.summary import FIGURES, Summary, summarise
from service.appraisal.benchmark.trial import SEVERITIES, Judge, Sheet, Subject, Verdict, trial
from service.appraisal.face import MediapipeFaceFinder
from service.appraisal.models import ModelStore
from service.errors import ConfigurationError

_SHEET_FACES = 4
_ALWAYS_SHOWN = (ORACLE, "symmetry")


def benchmark(  # noqa: PLR0917
    photos: Annotated[Path, typer.Argument(help="Folder of photographs of normal faces, one face each.")],
    method: Annotated[
        list[str], typer.Option("--method", help="Method or normaliser+comparator; may be given again.")
    ] = ["default"],  # noqa: B006
    lip_shapes: Annotated[
        Path | None, typer.Option(help="Folder of 68-point landmarks of repaired clefts; adds type lt-v2.")
    ] = None,
    types: Annotated[str, typer.Option(help="Comma-separated anomaly types; all when empty.")] = "",
    subjects: Annotated[int, typer.Option(min=2, help="How many faces at most.")] = 40,
    repeats: Annotated[int, typer.Option(help="Bootstrap resamples for the intervals; 0 for none.")] = 200,
    seed: Annotated[int, typer.Option(help="Of all chance.")] = 0,
    html: Annotated[Path | None, typer.Option(help="Write an HTML report with contact sheets here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON line.")] = False,
    model_dir: Annotated[
        Path | None, typer.Option(envvar="SEMBLANCE_MODEL_DIR", help="Where more model files are.")
    ] = None,
) -> None:
    """Measure synthetic validity: how well methods find, rank and localise synthetic anomalies.

    The faces must be of people no method was trained on. The oracle (a perfect normaliser) and the
    symmetry method are always shown for comparison. Synthetic validity is not clinical validity.

    Exit codes: 0 done, 2 bad usage or configuration.

    Example: semblance benchmark faces/ --method default --subjects 60 --html report.html --json
    """
    console = Console(stderr=True)
    makers = named_types(read_lip_shapes(lip_shapes) if lip_shapes else ())
    if types:
        makers = {name: _type(makers, name) for name in types.split(",")}
    faces = _subjects(photos, subjects, console)
    store = ModelStore(model_dir)
    summaries: list[Summary] = []
    sheets: dict[str, Sequence[Sheet]] = {}
    for name in dict.fromkeys((*method, *_ALWAYS_SHOWN)):
        judge = NOT_METHODS[name]() if name in NOT_METHODS else AppraiserJudge(Appraiser(name, store=store))
        kept: list[Sheet] = []
        verdicts, spent = _run(name, faces, makers, judge, seed, kept, console)
        each = 1000 * spent / len(verdicts)
        summaries.append(summarise(name, verdicts, repeats=repeats, milliseconds=each))
        sheets[name] = kept
        _show(summaries[-1], console)
    if html is not None:
        write_report(html, summaries, sheets)
        console.print(f"report: {html}")
    if as_json:
        typer.echo(json.dumps({s.method: as_figures(s) for s in summaries}))


def _type(makers: Mapping[str, Maker], name: str) -> Maker:
    if name not in makers:
        raise ConfigurationError(f"no anomaly type {name!r}; there are: {', '.join(sorted(makers))}")
    return makers[name]


def _subjects(photos: Path, most: int, console: Console) -> list[Subject]:
    finder = MediapipeFaceFinder()
    faces: list[Subject] = []
    unusable = 0
    for subject in read_subjects(photos, finder):
        if subject is None:
            unusable += 1
            continue
        faces.append(subject)
        if len(faces) == most:
            break
    console.print(f"{len(faces)} faces; {unusable} photographs without exactly one face left out")
    if len(faces) < 2:
        raise ConfigurationError(f"{photos}: a benchmark needs at least two faces")
    return faces


def _run(  # noqa: PLR0917
    name: str,
    faces: Sequence[Subject],
    makers: Mapping[str, Maker],
    judge: Judge,
    seed: int,
    kept: list[Sheet],
    console: Console,
) -> tuple[list[Verdict], float]:
    images = len(faces) * (1 + len(makers) * len(SEVERITIES))
    shams = 0

    def keep(sheet: Sheet) -> None:
        nonlocal shams
        shams += sheet.kind == "sham"
        if shams <= _SHEET_FACES and sheet.severity in {0.0, 0.5}:
            kept.append(sheet)

    verdicts: list[Verdict] = []
    began = time.monotonic()
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(name, total=images)
        for verdict in trial(faces, makers, judge, seed=seed, keep=keep):
            verdicts.append(verdict)
            progress.advance(task)
    return verdicts, time.monotonic() - began


def _show(summary: Summary, console: Console) -> None:
    head = f"{summary.method}: {summary.subjects} faces, {summary.milliseconds:.0f} ms an image"
    table = Table(title=f"{head} (synthetic validity)")
    table.add_column("type")
    for name in FIGURES:
        table.add_column(name.replace("_", " "), justify="right")
    for kind, row in summary.types.items():
        table.add_row(kind, *(f"{row[name].value:.2f}" for name in FIGURES))
    console.print(table)


def as_figures(summary: Summary) -> dict[str, object]:
    """The summary as plain JSON: figure -> value and interval, over all and by type."""

    def plain(value: float) -> float | None:
        return None if math.isnan(value) else round(value, 4)

    return {
        "subjects": summary.subjects,
        "ms_per_image": round(summary.milliseconds, 1),
        "types": {
            kind: {
                name: {"value": plain(f.value), "low": plain(f.low), "high": plain(f.high)}
                for name, f in row.items()
            }
            for kind, row in summary.types.items()
        },
    }
