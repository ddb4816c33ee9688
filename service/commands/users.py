"""``semblance users``: who may log in to the dashboard by passcode."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from reporting.web.database import users
from reporting.web.login.passcode import LEAST_LETTERS
from reporting.web.people import Role
from service.commands.options import By, DataDir, settings_of, user
from service.database import ledger
from service.database.pool import Connection, connect
from service.errors import RecordNotFoundError
from service.passcodes import MAX_PASSCODE_BYTES, digest_of
from service.records import LedgerEvent

users_app = typer.Typer(no_args_is_help=True, help="Who may log in to the dashboard by passcode.")

Name = Annotated[str, typer.Argument(help="What the user logs in by.")]


@users_app.command()
def add(
    name: Name,
    *,
    role: Annotated[list[Role], typer.Option(help="What the user is; several are possible.")],
    full_name: Annotated[str, typer.Option(help="As pages show it; none: the name.")] = "",
    by: By = "",
    data_dir: DataDir = Path("var"),
) -> None:
    """Add a user; the passcode is asked for or piped in.

    Example: `semblance users add anna --role clinician --full-name "Dr Anna Example"`.
    """
    if not name.strip() or not name.isprintable() or name != name.strip() or len(name) > 100:
        raise typer.BadParameter("a name is printable, of at most 100 letters, without spaces around it")
    roles = list(dict.fromkeys(each.value for each in role))
    with connect(settings_of(data_dir)) as connection:
        if users.get(connection, name) is not None:
            raise typer.BadParameter(f"there is a user {name} already")
        digest = digest_of(_passcode())
        users.add(connection, name=name, full_name=full_name.strip(), roles=roles, passcode=digest)
        _tell(connection, name, f"added, {', '.join(roles)}", by)
    sys.stdout.write(f"{name} may log in\n")


@users_app.command("list")
def list_users(*, data_dir: DataDir = Path("var")) -> None:
    """Show every user with roles, and since when a disabled one is.

    Example: `semblance users list`.
    """
    with connect(settings_of(data_dir)) as connection:
        for each in users.everyone(connection):
            state = f"disabled {_moment(each.disabled_at)}" if each.disabled_at else "may log in"
            sys.stdout.write(f"{each.name}\t{','.join(each.roles)}\t{state}\t{each.full_name}\n")


@users_app.command()
def disable(name: Name, *, by: By = "", data_dir: DataDir = Path("var")) -> None:
    """Let a user in no more, and end what they have open.

    Example: `semblance users disable anna`.
    """
    with connect(settings_of(data_dir)) as connection:
        if not users.disable(connection, name):
            raise RecordNotFoundError(f"no user {name}")
        _tell(connection, name, "disabled", by)
    sys.stdout.write(f"{name} may log in no more\n")


@users_app.command()
def passcode(name: Name, *, by: By = "", data_dir: DataDir = Path("var")) -> None:
    """Give a user another passcode, asked for or piped in; one who was disabled may log in again.

    Example: `semblance users passcode anna`.
    """
    with connect(settings_of(data_dir)) as connection:
        if users.get(connection, name) is None:
            raise RecordNotFoundError(f"no user {name}")
        users.set_passcode(connection, name, digest_of(_passcode()))
        _tell(connection, name, "passcode set", by)
    sys.stdout.write(f"{name} has another passcode\n")


def _tell(connection: Connection, name: str, done: str, by: str) -> None:
    """A line of the ledger, in the same transaction."""
    detail = {"by": user(by), "note": f"user {name}: {done}", "page": "semblance users"}
    ledger.append(connection, LedgerEvent.ACTED, sop_instance_uid="", detail=detail)


def _passcode() -> bytes:
    if sys.stdin.isatty():
        said = str(typer.prompt("Passcode", hide_input=True, confirmation_prompt=True, err=True))
    else:
        said = sys.stdin.readline().rstrip("\n")
    if len(said) < LEAST_LETTERS or len(said.encode()) > MAX_PASSCODE_BYTES:
        raise typer.BadParameter(f"a passcode has at least {LEAST_LETTERS} letters")
    return said.encode()


def _moment(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="seconds")
