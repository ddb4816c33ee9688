"""``semblance rerating``: how far results are rated by a new calibration, and what cannot be."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from service.commands.options import DataDir, settings_of
from service.database import reratings
from service.database.pool import connect


def rerating_command(
    *,
    retry: Annotated[bool, typer.Option("--retry", help="Take up again what was given up.")] = False,
    data_dir: DataDir = Path("var"),
) -> None:
    """Show how far results are rated anew by new calibrations, and what is not comparable, as lines of JSON.

    Scores stay; ratings and percentiles are amended. It begins by itself when a worker starts with another
    calibration.

    Example: `semblance rerating`, or `semblance rerating --retry`.
    """
    with connect(settings_of(data_dir)) as connection:
        if retry:
            sys.stdout.write(f"{reratings.retry(connection)} results are taken up again\n")
            return
        lines = [
            *({**asdict(each), "comparable": True} for each in reratings.progress(connection)),
            *({**asdict(each), "comparable": False} for each in reratings.not_comparable(connection)),
        ]
    sys.stdout.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
