"""``semblance audit verify``, ``checkpoint``, ``export`` and ``prove``: the chain, and what anchors it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated

import typer

from reporting.fhir.database import resources as fhir_resources
from reporting.identifiers import observation_id_of
from service.audit.anchoring.exporting import entry_of, proof_of, read_export, write_export
from service.audit.anchoring.keys import trusted
from service.audit.anchoring.making import anchor_of, make
from service.audit.anchoring.notes import checkpoint_of, opened
from service.audit.anchoring.places import KEYS, Bucket, Directory, Place, checkpoint_name
from service.audit.anchoring.verifying import Comparison, Outcome, verify
from service.audit.trail import Verdict
from service.audit.trail import verify as verify_database
from service.commands.audit.messages import note_use
from service.commands.options import DataDir, settings_of
from service.config import Settings, load_settings
from service.database import appraisals, instances, ledger
from service.database.delivery import deliveries
from service.database.pool import Connection, connect
from service.database.sealing import seals
from service.database.sealing.chain import GENESIS
from service.database.sealing.seals import Head
from service.errors import CheckpointError, ConfigurationError
from service.exit_codes import ExitCode

_CHECKPOINT = re.compile(r"(\d{1,18}):([0-9a-f]{64})")
_MOST_SHOWN = 100  # faults

_Checkpoints = Annotated[
    str, typer.Option(help="Directory or s3://bucket/prefix of signed checkpoints.", show_default=False)
]
_Key = Annotated[str, typer.Option(help="The first key (`semblance audit keys`), as it was noted elsewhere.")]


def verify_chain(
    *,
    checkpoint: Annotated[
        str,
        typer.Option(help="POSITION:DIGEST of an earlier run, kept elsewhere; must still be in the chain."),
    ] = "",
    checkpoints: _Checkpoints = "",
    key: _Key = "",
    file: Annotated[
        Path | None, typer.Option(help="An export to verify in place of the database; needs --checkpoints.")
    ] = None,
    data_dir: DataDir = Path("var"),
) -> None:
    """Verify that all that is sealed is as it was written; ends with 1 when it is not.

    Prints the end of the chain as POSITION:DIGEST. With signed checkpoints also a chain that was made anew,
    cut off or emptied shows; an export is verified with them alone, without a database.

    Example: `semblance audit verify --checkpoints /mnt/worm/semblance`.
    """
    if file is not None:
        if not checkpoints:
            raise typer.BadParameter("an export is verified with --checkpoints")
        with _reading(file) as lines:
            _report_outcome(verify(read_export(lines), _place(checkpoints), key))
        return
    noted = _parsed(checkpoint) if checkpoint else None
    settings = settings_of(data_dir)
    comparison = Comparison(_place(checkpoints), key) if checkpoints else None
    with connect(settings) as connection:
        if comparison is None:
            verdict, outcome = verify_database(connection, noted), None
        else:
            verdict = verify_database(connection, noted, lambda row: comparison.see(entry_of(row)))
            outcome = comparison.outcome()
        note_use(connection, settings)
    _report(verdict, outcome)
    if verdict.faults or (outcome is not None and outcome.faults):
        raise typer.Exit(ExitCode.FAILED)


def make_checkpoint(*, data_dir: DataDir = Path("var")) -> None:
    """Sign the chain as it is now, where the settings say; the relay does so by itself every now and then.

    Example: `semblance audit checkpoint`, before a backup.
    """
    settings = settings_of(data_dir)
    anchor = anchor_of(settings)
    if anchor is None:
        raise ConfigurationError("no checkpoints are made: set audit_key_file and audit_checkpoint_dir")
    with connect(settings) as connection:
        made = make(connection, anchor)
    if made is None:
        sys.stdout.write("nothing was sealed since the last checkpoint\n")
    else:
        sys.stdout.write(f"{checkpoint_name(made.size)}: {made.size} entries, root {made.root.hex()}\n")


def export(
    file: Annotated[Path, typer.Argument(help="Where to write; must not be there yet.")],
    *,
    data_dir: DataDir = Path("var"),
) -> None:
    """Write all that is sealed as lines of JSON, for `semblance audit verify --file`. It holds patient data.

    Example: `semblance audit export chain.ndjson`.
    """
    settings = settings_of(data_dir)
    with connect(settings) as connection, _creating(file) as to:
        number = write_export(map(entry_of, seals.sealed(connection)), to)
        note_use(connection, settings)
    sys.stdout.write(f"{number} entries written\n")


def prove(
    uid: Annotated[str, typer.Argument(help="SOP Instance UID of a photograph.")],
    file: Annotated[Path, typer.Argument(help="Where to write the proof; must not be there yet.")],
    *,
    checkpoints: _Checkpoints = "",
    data_dir: DataDir = Path("var"),
) -> None:
    """Write a proof that a photograph, its results and their history are in the chain that was signed.

    A third party checks it with the page of code in docs/audit.md and the public key. It holds patient data.

    Example: `semblance audit prove 2.25.1234 proof.json --checkpoints /mnt/worm/semblance`.
    """
    settings = settings_of(data_dir)
    place = _place(checkpoints) if checkpoints else _configured_place(settings)
    sizes = place.sizes()
    if not sizes:
        raise CheckpointError(f"{place.name} holds no checkpoint yet; `semblance audit checkpoint` makes one")
    note = (place.get(checkpoint_name(sizes[-1])) or b"").decode()
    signed = checkpoint_of(opened(note, trusted((place.get(KEYS) or b"").decode())))
    with connect(settings) as connection:
        rows = seals.of_rows(connection, list(_rows_of(connection, uid)))
        entries = [entry_of(row) for row in rows if row.position <= signed.size]
        if not entries:
            raise CheckpointError(f"nothing of {uid} is in the last checkpoint; make one first")
        pairs = [(each, seals.digest_at(connection, each.position - 1) or GENESIS) for each in entries]
        digests = (digest for _, digest in seals.digests(connection, 0))
        proof = proof_of(pairs, digests, signed, note)
        note_use(connection, settings)
    with _creating(file) as to:
        to.write(json.dumps(proof, ensure_ascii=False, indent=1).encode() + b"\n")
    sys.stdout.write(f"{len(entries)} entries proven by {checkpoint_name(signed.size)}\n")


def _rows_of(connection: Connection, uid: str) -> Iterator[tuple[str, int]]:
    """Source and id of all that is sealed of a photograph."""
    instance = instances.by_uid(connection, uid)
    if instance is None:
        raise CheckpointError(f"no photograph {uid}")
    yield "instance", instance.instance_id
    yield "appraisal", instance.instance_id
    for entry in ledger.entries(connection, uid):
        yield "ledger", entry.ledger_id
    for delivery in deliveries.for_instance(connection, instance.instance_id):
        yield "delivery", delivery.delivery_id
    names = [
        ("Observation", observation_id_of(str(saved.appraisal.appraisal_id)))
        for saved in appraisals.for_instance(connection, instance.instance_id)
    ]
    for number in fhir_resources.numbers_of(connection, names):
        yield "resource", number


def _place(name: str) -> Place:
    if name.startswith("s3://"):
        return _bucket(load_settings(), name)
    return Directory(Path(name))


def _configured_place(settings: Settings) -> Place:
    if settings.audit_checkpoint_dir is not None:
        return Directory(settings.audit_checkpoint_dir)
    if settings.audit_checkpoint_bucket:
        return _bucket(settings, settings.audit_checkpoint_bucket)
    raise ConfigurationError("name the checkpoints by --checkpoints, or set audit_checkpoint_dir")


def _bucket(settings: Settings, url: str) -> Bucket:
    days = settings.audit_checkpoint_retention_days
    return Bucket(url, endpoint=settings.audit_checkpoint_endpoint, retention_days=days)


@contextmanager
def _creating(file: Path) -> Iterator[IO[bytes]]:
    """A new file, for its owner only; what fails leaves none."""
    try:
        to = file.open("xb")
    except OSError as exc:
        raise CheckpointError(f"{file}: {exc.strerror}") from exc
    try:
        with to:
            file.chmod(0o600)
            yield to
    except BaseException:
        file.unlink(missing_ok=True)
        raise


@contextmanager
def _reading(file: Path) -> Iterator[IO[bytes]]:
    try:
        lines = file.open("rb")
    except OSError as exc:
        raise CheckpointError(f"{file}: {exc.strerror}") from exc
    with lines:
        yield lines


def _parsed(checkpoint: str) -> Head:
    match = _CHECKPOINT.fullmatch(checkpoint)
    if match is None:
        raise typer.BadParameter("a checkpoint is POSITION:DIGEST, the digest in 64 hexadecimal digits")
    return Head(position=int(match[1]), digest=bytes.fromhex(match[2]))


def _report_outcome(outcome: Outcome) -> None:
    sys.stdout.writelines(f"{fault}\n" for fault in outcome.faults)
    state = "NOT intact" if outcome.faults else "intact"
    sys.stdout.write(f"{state}: {outcome.entries} entries, {outcome.checkpoints} signed checkpoints\n")
    sys.stdout.write(f"{outcome.entries}:{outcome.digest.hex()}\n")
    if outcome.faults:
        raise typer.Exit(ExitCode.FAILED)


def _report(verdict: Verdict, outcome: Outcome | None) -> None:
    said = [str(fault) for fault in verdict.faults]
    for fault in said[:_MOST_SHOWN]:
        sys.stdout.write(f"{fault}\n")
    if len(said) > _MOST_SHOWN:
        sys.stdout.write(f"and {len(said) - _MOST_SHOWN} more\n")
    if outcome is not None:
        sys.stdout.writelines(f"{fault}\n" for fault in outcome.faults)
    state = "NOT intact" if said or (outcome is not None and outcome.faults) else "intact"
    signed = f", {outcome.checkpoints} signed checkpoints" if outcome is not None else ""
    sys.stdout.write(f"{state}: {verdict.head.position} entries sealed, {verdict.waiting} not yet{signed}\n")
    sys.stdout.write(f"{verdict.head.position}:{verdict.head.digest.hex()}\n")
