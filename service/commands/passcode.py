"""``semblance passcode``: a line for the file of DICOM users."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from service.passcodes import digest_of


def passcode(
    name: Annotated[str, typer.Argument(help="The user, as the sender will name it.")],
    *,
    name_only: Annotated[
        bool, typer.Option("--name-only", help="Admit the name without a passcode; it proves nothing.")
    ] = False,
) -> None:
    """Print a line for `dicom_users_file`: a user and the digest of a passcode, asked for or piped in.

    Example: `semblance passcode camera1 >> users`, or `echo "$SECRET" | semblance passcode camera1 >> users`.
    """
    if not name.strip() or not name.isprintable() or ":" in name or name.startswith("#"):
        raise typer.BadParameter("a user's name is printable, without colon, and does not begin with #")
    digest = ""
    if not name_only:
        secret = _asked() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
        if not secret:
            raise typer.BadParameter("the passcode is empty")
        digest = digest_of(secret.encode())
    sys.stdout.write(f"{name.strip()}:{digest}\n")


def _asked() -> str:
    return str(typer.prompt("Passcode", hide_input=True, confirmation_prompt=True, err=True))
