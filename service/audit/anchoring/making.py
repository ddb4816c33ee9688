"""Making checkpoints: the chain goes on from the last one that was signed, or nothing is signed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from service.audit.anchoring.keys import SigningKey, first_line, read_key, trusted
from service.audit.anchoring.merkle import Frontier
from service.audit.anchoring.notes import Checkpoint, checkpoint_of, opened
from service.audit.anchoring.places import (
    DIGEST_BYTES,
    KEYS,
    Bucket,
    Directory,
    Place,
    Syslog,
    checkpoint_name,
    digests_name,
)
from service.audit.syslog import syslog_server
from service.config import Settings
from service.database.pool import Connection
from service.database.sealing import seals
from service.database.sealing.chain import GENESIS
from service.errors import CheckpointError, ConfigurationError

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """Who signs, and where checkpoints go."""

    origin: str
    key: SigningKey
    places: Sequence[Place]
    syslog: Syslog | None = None


def anchor_of(settings: Settings) -> Anchor | None:
    """What the settings say; None where no checkpoints are made.

    Raises:
        ConfigurationError: A key without a place or the other way round, or one that cannot be read.
    """
    places: list[Place] = []
    if settings.audit_checkpoint_dir is not None:
        places.append(Directory(settings.audit_checkpoint_dir))
    if settings.audit_checkpoint_bucket:
        places.append(
            Bucket(
                settings.audit_checkpoint_bucket,
                endpoint=settings.audit_checkpoint_endpoint,
                retention_days=settings.audit_checkpoint_retention_days,
            )
        )
    if settings.audit_key_file is None:
        if places:
            raise ConfigurationError("checkpoints need audit_key_file; `semblance audit keys make` makes one")
        return None
    if not places:
        raise ConfigurationError("audit_key_file needs audit_checkpoint_dir or audit_checkpoint_bucket")
    server = syslog_server(settings)
    return Anchor(
        origin=origin_of(settings),
        key=read_key(settings.audit_key_file),
        places=places,
        syslog=None if server is None else Syslog(server),
    )


def origin_of(settings: Settings) -> str:
    """Which installation a checkpoint is of."""
    site = settings.audit_enterprise_site_id or settings.organisation
    source = settings.audit_source_id or settings.dicom_ae_title
    return f"semblance/{site}/{source}".replace("\n", " ").replace(" ", "-")


def latest(place: Place, anchor: str = "") -> Checkpoint | None:
    """The newest checkpoint of a place, if its signature is good.

    Raises:
        CheckpointError: It is not, or the list of keys is not.
        AuditServerError: The place cannot be asked.
    """
    sizes = place.sizes()
    if not sizes:
        return None
    note = place.get(checkpoint_name(sizes[-1])) or b""
    listed = place.get(KEYS)
    if listed is None:
        raise CheckpointError(f"{place.name} holds checkpoints and no {KEYS}")
    return checkpoint_of(opened(note.decode(), trusted(listed.decode(), anchor)))


def make(connection: Connection, anchor: Anchor) -> Checkpoint | None:
    """Sign the chain as it is now, and put that in every place.

    Args:
        connection: In a transaction.
        anchor: Who signs.

    Returns:
        None when nothing was sealed since the last one.

    Raises:
        CheckpointError: The chain is not the one that was signed last: nothing is signed.
        AuditServerError: A place did not take it; made again, it is the same up to its time.
    """
    before = latest(anchor.places[0])
    frontier = before.frontier.copy() if before is not None else Frontier()
    digest = before.digest if before is not None else GENESIS
    if before is not None:
        _require_same(connection, before)
    added = bytearray()
    for position, sealed in seals.digests(connection, frontier.size):
        if position != frontier.size + 1:
            raise CheckpointError(f"seal {frontier.size + 1} is missing: nothing is signed")
        frontier.add(sealed)
        digest = sealed
        added += sealed[:DIGEST_BYTES]
    if before is not None and frontier.size == before.size:
        return None
    made = Checkpoint(origin=anchor.origin, frontier=frontier, digest=digest, at=datetime.now(UTC))
    note = anchor.key.sign(made.text())
    for place in anchor.places:
        _require_key(place, anchor.key)
        place.put(digests_name(made.size), bytes(added))
        place.put(checkpoint_name(made.size), note.encode())
    if anchor.syslog is not None:
        anchor.syslog.tell(note)
    _log.info("checkpoint", size=made.size, root=made.root.hex(), key=anchor.key.name)
    return made


def _require_same(connection: Connection, before: Checkpoint) -> None:
    """Refuse a chain that does not go on from the last checkpoint."""
    if before.size == 0:
        return
    found = seals.digest_at(connection, before.size)
    if found is None:
        raise CheckpointError(
            f"the chain is shorter than at the last checkpoint ({before.size} entries): nothing is signed"
        )
    if found != before.digest:
        raise CheckpointError(
            f"the chain is not the one of the last checkpoint ({before.size} entries): nothing is signed"
        )


def _require_key(place: Place, key: SigningKey) -> None:
    """Have the list of keys hold ours as the last one.

    Raises:
        CheckpointError: It ends with another key: `semblance audit keys rotate` adds one.
    """
    listed = place.get(KEYS)
    if listed is None:
        place.put(KEYS, first_line(key).encode())
        return
    last = trusted(listed.decode())[-1]
    if last.vkey() != key.public.vkey():
        raise CheckpointError(
            f"{place.name}: {KEYS} ends with key {last.name}, and {key.name} signs;"
            " `semblance audit keys rotate` has the one vouch for the other"
        )
