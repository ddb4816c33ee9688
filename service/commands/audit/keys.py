"""``semblance audit keys``: the keys that sign checkpoints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from service.audit.anchoring.keys import make_key, read_key, succession, trusted
from service.audit.anchoring.places import KEYS, Directory
from service.errors import CheckpointError

keys_app = typer.Typer(
    name="keys",
    help="Keys that sign checkpoints.\n\nExample: `semblance audit keys make /etc/semblance/audit.key`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_File = Annotated[Path, typer.Argument(help="File of the key.")]
_Checkpoints = Annotated[Path, typer.Argument(help="Directory of the checkpoints.")]


@keys_app.command("make")
def make(
    file: _File,
    *,
    name: Annotated[str, typer.Option(help="Name shown in every checkpoint.")] = "semblance-1",
) -> None:
    """Make a key, readable by its owner only, and print what verifies it. Note that elsewhere.

    Example: `semblance audit keys make /etc/semblance/audit.key --name hospital-2026`.
    """
    sys.stdout.write(f"{make_key(file, name).public.vkey()}\n")


@keys_app.command("list")
def list_keys(
    checkpoints: _Checkpoints,
    *,
    key: Annotated[str, typer.Option(help="The first key, as it was noted elsewhere.")] = "",
) -> None:
    """Print the keys whose checkpoints count, the first one first; each is vouched for by the one before.

    Example: `semblance audit keys list /mnt/worm/semblance`.
    """
    listed = Directory(checkpoints).get(KEYS)
    if listed is None:
        raise CheckpointError(f"{checkpoints} holds no {KEYS}")
    sys.stdout.writelines(f"{each.vkey()}\n" for each in trusted(listed.decode(), key))


@keys_app.command("rotate")
def rotate(
    checkpoints: _Checkpoints,
    old: Annotated[Path, typer.Argument(help="File of the key that signed so far.")],
    new: Annotated[Path, typer.Argument(help="File of the key that is to sign; made if it is not there.")],
    *,
    name: Annotated[str, typer.Option(help="Name of the new key, if it is made now.")] = "semblance-2",
) -> None:
    """Have the old key vouch for a new one; then name the new file as `audit_key_file`, and destroy the old.

    Example: `semblance audit keys rotate /mnt/worm/semblance old.key new.key --name hospital-2027`.
    """
    place = Directory(checkpoints)
    listed = place.get(KEYS)
    if listed is None:
        raise CheckpointError(f"{checkpoints} holds no {KEYS}: there is nothing to go on from")
    before = read_key(old)
    if trusted(listed.decode())[-1].vkey() != before.public.vkey():
        raise CheckpointError(f"{KEYS} ends with another key than {old}")
    after = read_key(new) if new.exists() else make_key(new, name)
    place.add(KEYS, listed + succession(before, after).encode())
    sys.stdout.write(f"{after.public.vkey()}\n")
