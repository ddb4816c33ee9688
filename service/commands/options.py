"""Options that several commands have, and what follows from them."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from service.config import CONFIG_VARIABLE, Settings, load_settings
from service.database.pool import Pool, connect, open_pool
from service.stack.stack import READER, running_stack

DataDir = Annotated[Path, typer.Option(help="Directory of an embedded stack; used when it runs.")]


def _require_words(reason: str) -> str:
    """Refuse a reason without words.

    Raises:
        typer.BadParameter: It is blank.
    """
    if not reason.strip():
        raise typer.BadParameter("say why, in words")
    return reason


Reason = Annotated[str, typer.Option(help="Why; no patient data.", callback=_require_words)]
By = Annotated[str, typer.Option(help="Who; none: the user that runs it.")]


def settings_of(data_dir: Path) -> Settings:
    """Settings of this command: those given, or else those of the embedded stack that runs there.

    Raises:
        ConfigurationError: A setting is wrong.
    """
    facts = running_stack(data_dir)
    given = "SEMBLANCE_DATABASE_URL" in os.environ or CONFIG_VARIABLE in os.environ
    if facts is None or given:
        return load_settings()
    stack: dict[str, object] = {
        "database_url": facts.database_url,
        "database_owner_url": facts.database_owner_url,
        "database_reader": READER,
    }
    if "SEMBLANCE_STORAGE_DIR" not in os.environ:
        stack["storage_dir"] = Path(facts.storage_dir)
    if "SEMBLANCE_API_BASE_URL" not in os.environ:
        stack["api_base_url"] = facts.fhir_url
    return load_settings(**stack)


def user(by: str) -> str:
    """Who does it: as said, or the user that runs the command."""
    return by or getpass.getuser()


@contextmanager
def pool_of(settings: Settings) -> Iterator[Pool]:
    """The pool of a command; where the database is away that is said at once, in one line.

    Raises:
        DatabaseUnavailableError: It cannot be reached.
    """
    with connect(settings) as connection:
        connection.execute("SELECT 1")
    with open_pool(settings) as pool:
        yield pool
