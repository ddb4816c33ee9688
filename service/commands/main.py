"""The ``semblance`` command. Exit codes: see docs/cli.md."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from service import __version__
from service.commands import demo_photographs
from service.commands.audit import audit_app
from service.commands.deferred import DeferringGroup, announce
from service.commands.destinations import destinations_command
from service.commands.passcode import passcode
from service.commands.state import retry, status
from service.config import CONFIG_VARIABLE, load_settings
from service.errors import DatabaseUnavailableError, SemblanceError, StackError
from service.exit_codes import ExitCode, code_of
from service.stack.calling import called_as
from service.stack.stack import Stack, StackFacts, StackOptions, running_stack
from service.steps import Queue

_EPILOG = "Settings come from SEMBLANCE_* variables or the TOML file named by SEMBLANCE_CONFIG."
DataDir = Annotated[Path, typer.Option(help="Where the embedded stack keeps everything.")]


class Medium(StrEnum):
    """What DICOM files are brought or taken away on (as MediaType of service.audit.codes)."""

    USB = "usb"
    CD = "cd"
    URI = "uri"  # anything else that has a place in the file system


app = typer.Typer(
    name="semblance",
    cls=DeferringGroup,
    help="Appraise facial difference from clinical photographs: DICOM in, heatmap and score out.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
announce(app)
for command in (status, retry):
    app.command()(command)
app.command("destinations")(destinations_command)
app.command()(passcode)
app.add_typer(audit_app)


def _print_version(wanted: bool) -> None:
    """Answer ``--version`` before a command is asked for."""
    if wanted:
        sys.stdout.write(f"semblance {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Appraise facial difference from clinical photographs: DICOM in, heatmap and score out."""


@app.command()
def up(
    *,
    data_dir: DataDir = Path("var"),
    dicom_port: Annotated[int, typer.Option(help="Port of the DICOM node; 0: a free one.")] = 11112,
    api_port: Annotated[int, typer.Option(help="Port of the FHIR API; 0: a free one.")] = 8080,
    demo_pacs: Annotated[bool, typer.Option(help="Run a small PACS that results are sent to.")] = True,
) -> None:
    """Run the whole product on this machine until Ctrl-C: database, broker, node, API, workers.

    Example: `semblance up --dicom-port 11112`, then `storescu -aec SEMBLANCE localhost 11112 photo.dcm`.
    """
    console = Console(stderr=True)
    settings = load_settings()
    options = StackOptions(data_dir=data_dir, dicom_port=dicom_port, api_port=api_port, demo_pacs=demo_pacs)
    stack = Stack(options, settings)
    _interrupt_on_signals()
    try:
        with console.status("starting") as spinner:
            facts = stack.start(spinner.update)
        _describe(console, facts, data_dir)
        stack.supervisor.watch()
    except KeyboardInterrupt:
        console.print("stopping")
    finally:
        _stop(stack)
    console.print(f"stopped; what was received is kept in {data_dir}", highlight=False)


@app.command()
def demo(*, data_dir: DataDir = Path("var")) -> None:
    """Send two photographs through the whole product on this machine and show what comes out.

    Uses the stack that `semblance up` runs on the same directory, or runs one for itself.

    Example: `semblance demo`, or `semblance demo --data-dir /tmp/semblance`.
    """
    console = Console(stderr=True)
    facts = running_stack(data_dir)
    if facts is not None:
        if not facts.pacs_directory:
            raise StackError("the running stack has no demonstration PACS; start it with --demo-pacs")
        raise typer.Exit(_run_demo(facts, data_dir, stays_up=True))
    stack = Stack(StackOptions(data_dir=data_dir), load_settings())
    _interrupt_on_signals()
    try:
        with console.status("starting") as spinner:
            facts = stack.start(spinner.update)
        code = _run_demo(facts, data_dir, stays_up=False)
    except KeyboardInterrupt:
        code = ExitCode.FAILED
    finally:
        _stop(stack)
    raise typer.Exit(code)


@app.command()
def node() -> None:
    """Run the DICOM node: receives photographs and sends nothing. Needs PostgreSQL and the store.

    Example: `SEMBLANCE_DICOM_PORT=11112 semblance node`.
    """
    _replace_by("dicom_node")


@app.command()
def api() -> None:
    """Run the FHIR API and DICOMweb. Needs PostgreSQL and the store.

    Example: `SEMBLANCE_API_PORT=8080 semblance api`.
    """
    _replace_by("service.commands.api")


@app.command()
def withdraw(
    uid: Annotated[str, typer.Argument(help="SOP Instance UID of a photograph, or the id of one appraisal.")],
    *,
    reason: Annotated[str, typer.Option(help="Why; no patient data.")],
    by: Annotated[str, typer.Option(help="Who; none: the user that runs it.")] = "",
    data_dir: DataDir = Path("var"),
) -> None:
    """Take a result back: EHRs read it as entered in error, with the reason; nothing is deleted.

    Example: `semblance withdraw 2.25.1234 --reason "photograph of another patient"`.
    """
    _use_stack(data_dir)
    _replace_by("service.commands.withdraw", uid, "--reason", reason, *(["--by", by] if by else []))


@app.command("import")
def import_command(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files, and folders of them.", exists=True)],
    *,
    medium: Annotated[Medium, typer.Option(help="What they are on.")] = Medium.URI,
    label: Annotated[str, typer.Option(help="Of the medium; none: where it is.")] = "",
    by: Annotated[str, typer.Option(help="Who; none: the user that runs it.")] = "",
    data_dir: DataDir = Path("var"),
) -> None:
    """Take photographs in from media, as if a camera had sent them; the audit trail says so.

    Example: `semblance import /media/usb --medium usb --label "camera 3"`.
    """
    _use_stack(data_dir)
    _replace_by("dicom_node.media", "import", *map(str, paths), *_of_medium(medium, label, by))


@app.command("export")
def export_command(
    study: Annotated[str, typer.Argument(help="Study Instance UID.")],
    to: Annotated[Path, typer.Argument(help="Folder; files that are there already are not replaced.")],
    *,
    medium: Annotated[Medium, typer.Option(help="What it is on.")] = Medium.URI,
    label: Annotated[str, typer.Option(help="Of the medium; none: where it is.")] = "",
    by: Annotated[str, typer.Option(help="Who; none: the user that runs it.")] = "",
    data_dir: DataDir = Path("var"),
) -> None:
    """Write a study's photographs and results to media; the audit trail says so.

    Example: `semblance export 1.2.3 /media/usb/study --medium usb --label "for the referring clinic"`.
    """
    _use_stack(data_dir)
    _replace_by("dicom_node.media", "export", study, str(to), *_of_medium(medium, label, by))


@app.command()
def subscriptions(
    subscription: Annotated[
        str | None, typer.Argument(help="Id of one, for what was given up of it; none: all.")
    ] = None,
    *,
    retry: Annotated[bool, typer.Option("--retry", help="Send what was given up again.")] = False,
    data_dir: DataDir = Path("var"),
) -> None:
    """Show which EHRs are told of results and what was given up, as lines of JSON; or try that again.

    Example: `semblance subscriptions`, then `semblance subscriptions 1b2c --retry` after it was repaired.
    """
    _use_stack(data_dir)
    named = [subscription] if subscription else []
    _replace_by("service.commands.subscriptions", *named, *(["--retry"] if retry else []))


@app.command()
def relay() -> None:
    """Run the relay between PostgreSQL's outbox and the broker, which also finds stalled work.

    Example: `SEMBLANCE_BROKER_URL=amqp://localhost semblance relay`.
    """
    _replace_by("service.pipeline.relay")


@app.command()
def worker(
    queues: Annotated[list[Queue] | None, typer.Argument(help="Queues to serve; none: all.")] = None,
    *,
    concurrency: Annotated[int, typer.Option(min=1, help="Threads.")] = 1,
) -> None:
    """Run a worker. One process per GPU for `gpu`; threads are for `report` and `io`.

    Example: `semblance worker gpu` beside `semblance worker report io --concurrency 4`.
    """
    names = [queue.value for queue in queues or list(Queue)]
    _replace_by("service.pipeline.worker", *names, "--concurrency", str(concurrency))


@app.command()
def migrate(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit 1 when not up to date.")
    ] = False,
) -> None:
    """Bring the database's schema up to date; safe to run from several places at once.

    Example: `semblance migrate`, or `semblance migrate --check` to only look.
    """
    from service.database import migrate as migrations

    settings = load_settings()
    if not check:
        migrations.migrate(settings.database_url)
    at, newest = migrations.current(settings.database_url), migrations.head()
    sys.stdout.write(f"schema at {at or 'nothing'}, newest {newest}\n")
    if at != newest:
        raise typer.Exit(ExitCode.FAILED)


def main() -> None:
    """Entry point of the ``semblance`` command."""
    try:
        app()
    except SemblanceError as exc:
        console = Console(stderr=True)
        console.print(f"semblance: {exc}", style="red", markup=False, highlight=False)
        if isinstance(exc, DatabaseUnavailableError):
            console.print("Is SEMBLANCE_DATABASE_URL right? `semblance up` runs a database of its own.")
        sys.exit(code_of(exc))


def _use_stack(data_dir: Path) -> None:
    """Have the stack that runs there used, unless settings name another database."""
    facts = running_stack(data_dir)
    if facts is not None and "SEMBLANCE_DATABASE_URL" not in os.environ and CONFIG_VARIABLE not in os.environ:
        os.environ["SEMBLANCE_DATABASE_URL"] = facts.database_url
        os.environ.setdefault("SEMBLANCE_STORAGE_DIR", facts.storage_dir)
        os.environ.setdefault("SEMBLANCE_API_BASE_URL", facts.fhir_url)


def _of_medium(medium: Medium, label: str, by: str) -> list[str]:
    return ["--medium", medium.value, *(["--label", label] if label else []), *(["--by", by] if by else [])]


def _replace_by(module: str, *arguments: str) -> NoReturn:
    """Become another of our processes, so that signals reach it directly."""
    if importlib.util.find_spec(module) is None:
        raise StackError(f"{module} is not installed")
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606 -- no shell, our own module


def _run_demo(facts: StackFacts, data_dir: Path, *, stays_up: bool) -> int:
    """Run the demonstration against a stack; returns its exit code."""
    environment = {
        **os.environ,
        "SEMBLANCE_DATABASE_URL": facts.database_url,
        "SEMBLANCE_STORAGE_DIR": facts.storage_dir,
    }
    photographs = _make_photographs(data_dir / "demo")
    command = [
        *(sys.executable, "-m", "dicom_node.demo.run"),
        *(f"--photograph={name}={path}" for name, path in photographs.items()),
        *("--dicom-port", str(facts.dicom_port)),
        *("--ae-title", facts.dicom_ae_title),
        *("--fhir-url", facts.fhir_url),
        *("--pacs-directory", facts.pacs_directory),
        *("--output", str(data_dir / "demo")),
        *(["--stays-up"] if stays_up else []),
    ]
    return subprocess.run(command, env=environment, check=False).returncode


def _make_photographs(directory: Path) -> dict[str, Path]:
    """Make the demonstration's photographs in a process of their own."""
    command = [sys.executable, "-m", demo_photographs.__name__, str(directory)]
    made = subprocess.run(command, check=False, capture_output=True, text=True)
    if made.returncode:
        raise StackError(f"the demonstration's photographs cannot be made:\n{made.stderr}")
    return demo_photographs.photograph_paths(directory)


def _interrupt_on_signals() -> None:
    """Let SIGTERM end us as Ctrl-C does, and Ctrl-C even when a background shell had it ignored."""

    def interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)


def _stop(stack: Stack) -> None:
    """Stop everything, undisturbed by a second Ctrl-C; it takes half a minute at most."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    stack.stop()


def _describe(console: Console, facts: StackFacts, data_dir: Path) -> None:
    console.print("[bold]Semblance is up.[/bold]  Ctrl-C stops it.")
    console.print(f"  DICOM node   {facts.dicom_ae_title} at localhost:{facts.dicom_port}")
    console.print(f"  FHIR API     {facts.fhir_url}/metadata")
    if facts.pacs_directory:
        console.print(f"  results go to the demonstration's PACS: {facts.pacs_directory}")
    console.print(f"  logs         {data_dir / 'log'}")
    command = called_as()
    console.print(f"  in another terminal: [bold]{command} status[/bold], [bold]{command} demo[/bold]")
