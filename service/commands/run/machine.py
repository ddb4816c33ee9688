"""``semblance up`` and ``semblance demo``: the whole product on this machine."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from service.commands.program import PROGRAM
from service.commands.run import demo_photographs
from service.config import load_settings
from service.errors import StackError
from service.exit_codes import ExitCode
from service.stack.calling import called_as
from service.stack.stack import Stack, StackFacts, StackOptions, running_stack

DataDir = Annotated[Path, typer.Option(help="Where the embedded stack keeps everything.")]
_DATA_DIR = Path("var")  # where commands look by themselves


def up(
    *,
    data_dir: DataDir = _DATA_DIR,
    dicom_port: Annotated[int, typer.Option(help="Port of the DICOM node; 0: a free one.")] = 11112,
    api_port: Annotated[int, typer.Option(help="Port of the FHIR API; 0: a free one.")] = 8080,
    demo_pacs: Annotated[bool, typer.Option(help="Run a small PACS that results are sent to.")] = True,
) -> None:
    """Run the whole product on this machine until Ctrl-C: database, broker, node, API, workers.

    Example: `semblance up`, then dcmtk's `storescu -xy -aec SEMBLANCE localhost 11112 photo.dcm`.
    """
    console = Console(stderr=True)
    settings = load_settings()
    options = StackOptions(data_dir=data_dir, dicom_port=dicom_port, api_port=api_port, demo_pacs=demo_pacs)
    stack = Stack(options, settings, PROGRAM)
    _interrupt_on_signals()
    try:
        with console.status("starting") as spinner:
            facts = stack.start(spinner.update)
        _describe(console, facts, data_dir, has_pages=settings.web_enabled)
        stack.supervisor.watch()
    except KeyboardInterrupt:
        console.print("stopping")
    finally:
        _stop(stack)
    console.print(f"stopped; what was received is kept in {data_dir}", highlight=False)


def demo(*, data_dir: DataDir = _DATA_DIR) -> None:
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
    stack = Stack(StackOptions(data_dir=data_dir), load_settings(), PROGRAM)
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


def _run_demo(facts: StackFacts, data_dir: Path, *, stays_up: bool) -> ExitCode:
    """Run the demonstration against a stack; returns its exit code."""
    from dicom_node.demo import run as demonstration
    from service.peers import Destination

    address = Destination(name="node", ae_title=facts.dicom_ae_title, host="127.0.0.1", port=facts.dicom_port)
    where = demonstration.Stack(
        node=address,
        fhir_url=facts.fhir_url,
        pacs_directory=Path(facts.pacs_directory),
        output=data_dir / "demo",
        stays_up=stays_up,
        option=_option(data_dir),
    )
    settings = load_settings(database_url=facts.database_url, storage_dir=Path(facts.storage_dir))
    demonstration.run(settings, where, _make_photographs(data_dir / "demo"), Console())
    return ExitCode.DONE


def _make_photographs(directory: Path) -> dict[str, Path]:
    """Make the demonstration's photographs in a process of their own."""
    command = [sys.executable, "-P", "-m", demo_photographs.__name__, str(directory)]
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


def _describe(console: Console, facts: StackFacts, data_dir: Path, *, has_pages: bool) -> None:
    console.print("[bold]Semblance is up.[/bold]  Ctrl-C stops it.")
    console.print(f"  DICOM node   {facts.dicom_ae_title} at localhost:{facts.dicom_port}")
    if has_pages:
        console.print(f"  dashboard    {facts.fhir_url.removesuffix('/fhir')}/ui/")
    console.print(f"  FHIR API     {facts.fhir_url}/metadata")
    if facts.pacs_directory:
        console.print(f"  results go to the demonstration's PACS: {facts.pacs_directory}")
    console.print(f"  logs         {data_dir / 'log'}")
    command = called_as()
    where = _option(data_dir)
    advice = f"  in another terminal: {command} status{where}, {command} demo{where}"
    console.print(advice, soft_wrap=True, highlight=False, markup=False)


def _option(data_dir: Path) -> str:
    """By which commands find a stack, with a space before; "" where they look by themselves."""
    return "" if data_dir == _DATA_DIR else f" --data-dir {shlex.quote(str(data_dir))}"
