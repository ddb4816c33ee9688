"""`semblance models`: which model files there are, whether they are right, fetching and converting them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from service.appraisal.model_files.models import ModelState, ModelStore
from service.commands.failures import tell
from service.config import load_settings
from service.errors import SemblanceError
from service.exit_codes import ExitCode

app = typer.Typer(no_args_is_help=True, help="Model files: list, verify, pull, convert.")

_COLOURS = {ModelState.PRESENT: "green", ModelState.MISSING: "yellow", ModelState.CORRUPT: "red"}


@app.command("list")
def list_models() -> None:
    """List every model of the manifest, where it was found, its licence and intended use.

    Example: semblance models list
    """
    table = Table(title="Models")
    for column in ("model", "state", "line", "licence", "intended use", "file"):
        table.add_column(column, overflow="fold")
    for status in _store().status():
        entry = status.entry
        table.add_row(
            entry.id,
            f"[{_COLOURS[status.state]}]{status.state.value}[/]",
            entry.line,
            entry.licence,
            entry.intended_use,
            str(status.path or entry.file),
        )
    Console().print(table)


@app.command()
def verify() -> None:
    """Check the SHA-256 of every model file that is there.

    Exit codes: 0 all right (files that are not there do not count); 1 a file differs.

    Example: semblance models verify
    """
    console = Console()
    corrupt = 0
    for status in _store().status():
        corrupt += status.state is ModelState.CORRUPT
        console.print(
            f"[{_COLOURS[status.state]}]{status.state.value:>8}[/] {status.entry.id} {status.entry.sha256}",
            highlight=False,
            soft_wrap=True,
        )
    if corrupt:
        raise typer.Exit(ExitCode.FAILED)


@app.command()
def pull(
    models: Annotated[list[str], typer.Argument(help="Ids from `semblance models list`.")],
) -> None:
    """Fetch models from their source into SEMBLANCE_MODEL_DIR and check them.

    Exit codes: 0 all there; 1 one could not be had, or was not what the manifest says.

    Example: semblance models pull NAME
    """
    store = _store()
    errors = Console(stderr=True)
    try:
        for model_id in models:
            path = _pull_shown(store, model_id, errors)
            Console().print(f"{model_id}: {path}", highlight=False, soft_wrap=True)
    except SemblanceError as exc:
        raise typer.Exit(tell(exc)) from exc


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(help="NVIDIA .pkl, rosinality .pt or .pth, or MobileNetV2 .tflite.")
    ],
    target: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    *,
    half: Annotated[bool, typer.Option("--half", help="Store in half precision.")] = False,
) -> None:
    """Convert a StyleGAN2 generator or a quantised MobileNetV2 to safetensors, running no code of the file.

    A pickle that asks for anything but known containers of numbers is refused. Ends with the row
    for the models_manifest.toml of SEMBLANCE_MODEL_DIR.

    Exit codes: 0 written; 1 the file is unsafe, damaged or of another network; 2 wrong usage.

    Example: semblance models convert ffhq.pkl models/generator.safetensors
    """
    from service.appraisal.conversion import convert_model

    try:
        made = convert_model(source, target, half=half)
    except SemblanceError as exc:
        raise typer.Exit(tell(exc)) from exc
    Console(stderr=True).print(f"{made.content}, {made.tensors} tensors: {made.path}", highlight=False)
    typer.echo(f'file = "{made.path.name}"\nsha256 = "{made.sha256}"')


def _pull_shown(store: ModelStore, model_id: str, console: Console) -> Path:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(model_id, total=None)
        return store.pull(
            model_id, lambda done, total: progress.update(task, completed=done, total=total or None)
        )


def _store() -> ModelStore:
    try:
        return ModelStore(load_settings().model_dir)
    except SemblanceError as exc:
        raise typer.Exit(tell(exc)) from exc
