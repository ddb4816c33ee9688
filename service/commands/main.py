"""The ``semblance`` command. Exit codes: see docs/cli.md."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from service import __version__
from service.commands.failures import tell
from service.commands.family import DeferringGroup, announce
from service.errors import SemblanceError

_EPILOG = "Settings come from SEMBLANCE_* variables or the TOML file named by SEMBLANCE_CONFIG."

app = typer.Typer(
    name="semblance",
    cls=DeferringGroup,
    help="Appraise facial difference from clinical photographs: DICOM in, heatmap and score out.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
announce(app)


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


def main() -> None:
    """Entry point of the ``semblance`` command and of every process of the product."""
    try:
        app()
    except (SemblanceError, OSError) as exc:
        sys.exit(tell(exc))
