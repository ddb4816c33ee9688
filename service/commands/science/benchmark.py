"""`semblance benchmark`: synthetic validity of any method on any folder of normal faces."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from service.appraisal.anomalies import Maker, named_types, read_lip_shapes
from service.appraisal.model_files.models import ModelStore
from service.commands.science.progress import QuietFinder
from service.errors import ConfigurationError
from service.evaluation.benchmark.judges import ORACLE
from service.evaluation.benchmark.report import NOTE, write_report
from service.evaluation.benchmark.run import Plan, Result, Tell, check, run
from service.evaluation.benchmark.studies import StudyTable, as_markdown, cell_text, heading
from service.evaluation.benchmark.subjects import read_subjects
from service.evaluation.benchmark.trial import Subject
from service.training.held_out import held_out_people, held_out_subjects, is_archive

_ALWAYS_SHOWN = (ORACLE, "symmetry")


def benchmark(  # noqa: PLR0917
    photos: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of photographs of normal faces, one face each, with a folder in it for each person "
            "where somebody has several; or of faces_*.npz archives, whose test split is taken.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        list[str], typer.Option("--method", help="Method or normaliser+comparator; may be given again.")
    ] = ["default"],  # noqa: B006
    lip_shapes: Annotated[
        Path | None, typer.Option(help="Folder of 68-point landmarks of repaired clefts; adds type lt-v2.")
    ] = None,
    types: Annotated[str, typer.Option(help="Comma-separated anomaly types; all when empty.")] = "",
    subjects: Annotated[int, typer.Option(min=2, help="How many people at most.")] = 40,
    repeats: Annotated[int, typer.Option(help="Bootstrap resamples for the intervals; 0 for none.")] = 200,
    seed: Annotated[int, typer.Option(help="Of all chance.")] = 0,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Also score the faces mirrored, compressed, noisy, lit ...")
    ] = False,
    landmarks: Annotated[
        bool, typer.Option("--landmarks", help="Also measure how far landmarks follow displacements.")
    ] = False,
    ablations: Annotated[
        bool, typer.Option("--ablations", help="Also measure what each evidence of the fusion contributes.")
    ] = False,
    subgroups: Annotated[
        Path | None,
        typer.Option(help="Also compare skin tones, sexes, ages and sources of the archives in this folder."),
    ] = None,
    subgroup_faces: Annotated[int, typer.Option(min=10, help="How many faces for that at most.")] = 600,
    with_trial: Annotated[
        bool, typer.Option("--trial/--no-trial", help="Whether to make the figures by type of anomaly.")
    ] = True,
    html: Annotated[Path | None, typer.Option(help="Write an HTML report with contact sheets here.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write all tables as Markdown here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one JSON line.")] = False,
    model_dir: Annotated[
        Path | None, typer.Option(envvar="SEMBLANCE_MODEL_DIR", help="Where more model files are.")
    ] = None,
) -> None:
    """Measure synthetic validity: how well methods find, rank and localise synthetic anomalies.

    The faces must be of people no method was trained on. The oracle (a perfect normaliser) and the
    symmetry method are always shown for comparison. Synthetic validity is not clinical validity.

    Exit codes: 0 done, 2 bad usage or configuration.

    Example: semblance benchmark faces/ --robustness --ablations --html report.html --json
    """
    console = Console(stderr=True)
    makers = named_types(read_lip_shapes(lip_shapes) if lip_shapes else ())
    if types:
        makers = {name: _type(makers, name) for name in types.split(",")}
    plan = Plan(
        makers=makers,
        faces=_subjects(photos, subjects, console) if photos else (),
        people=held_out_people(subgroups, subgroup_faces, seed=seed) if subgroups else (),
        trial=with_trial and photos is not None,
        robustness=robustness,
        landmarks=landmarks,
        ablations=ablations,
        repeats=repeats,
        seed=seed,
    )
    check(plan, method)
    results = _run_all(method, plan, ModelStore(model_dir), console)
    if html is not None:
        write_report(
            html,
            [result.summary for result in results if result.summary],
            {result.method: result.sheets for result in results},
            {result.method: result.studies for result in results},
        )
        console.print(f"report: {html}")
    if markdown is not None:
        markdown.write_text(_as_markdown(results), encoding="utf-8")
        console.print(f"tables: {markdown}")
    if as_json:
        typer.echo(json.dumps({result.method: result.figures for result in results}))


def _run_all(methods: Sequence[str], plan: Plan, store: ModelStore, console: Console) -> list[Result]:
    """The methods asked for with their studies, then the baselines of the trial."""
    results: list[Result] = []
    for name in dict.fromkeys((*methods, *(_ALWAYS_SHOWN if plan.trial else ()))):
        with Progress(console=console, transient=True) as progress:
            results.append(run(name, plan if name in methods else plan.baseline, store, _teller(progress)))
        for table in results[-1].tables:
            _show(name, table, console)
    return results


def _teller(progress: Progress) -> Tell:
    tasks: dict[str, TaskID] = {}

    def tell(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = progress.add_task(what, total=total)
        progress.update(tasks[what], completed=done)

    return tell


def _as_markdown(results: Sequence[Result]) -> str:
    parts = [NOTE]
    for result in results:
        parts.append(f"## {result.method}")
        parts += [as_markdown(table) for table in result.tables]
    return "\n\n".join(parts)


def _type(makers: Mapping[str, Maker], name: str) -> Maker:
    if name not in makers:
        raise ConfigurationError(f"no anomaly type {name!r}; there are: {', '.join(sorted(makers))}")
    return makers[name]


def _subjects(photos: Path, most: int, console: Console) -> list[Subject]:
    if is_archive(photos):
        faces = held_out_subjects(photos, most)
        console.print(f"{len(faces)} faces of the test split")
    else:
        faces, unusable = _photographed(photos, most)
        console.print(
            f"{len(faces)} photographs of {_people(faces)} people; {unusable} without exactly one face "
            "left out",
            soft_wrap=True,
        )
    if _people(faces) < 2:
        raise ConfigurationError(
            f"{photos}: a benchmark needs at least two people (photographs of one folder are of one person)"
        )
    return faces


def _photographed(photos: Path, most: int) -> tuple[list[Subject], int]:
    """Faces of a folder of photographs, and how many were left out before there were enough people."""
    faces: list[Subject] = []
    unusable = 0
    for subject in read_subjects(photos, QuietFinder()):
        if subject is None:
            unusable += 1
            continue
        if _people([*faces, subject]) > most:
            break
        faces.append(subject)
    return faces, unusable


def _people(faces: Sequence[Subject]) -> int:
    return len({face.identity for face in faces})


def _show(method: str, study: StudyTable, console: Console) -> None:
    table = Table(title=f"{method}: {study.title} (synthetic validity)", caption=study.note)
    table.add_column("")
    for name in study.columns:
        table.add_column(heading(name), justify="right")
    for name, cells in study.rows:
        table.add_row(name, *(cell_text(cell) for cell in cells))
    console.print(table)
