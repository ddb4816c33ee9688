"""The sealed content as lines of JSON: what is verified without a database, and proofs of single results."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator
from typing import IO, Any

from service.audit.anchoring.merkle import inclusion_proof, root_of_proof
from service.audit.anchoring.notes import Checkpoint
from service.audit.anchoring.verifying import Entry
from service.database.sealing.chain import chained
from service.database.sealing.seals import SealedRow
from service.errors import CheckpointError

FORMAT = "semblance-chain-1"
PROOF_FORMAT = "semblance-proof-1"


def entry_of(row: SealedRow) -> Entry:
    """A sealed row as an entry."""
    return Entry(
        position=row.position,
        table=row.row.source,
        key=f"{row.row.row_id} {row.row.row_key}".rstrip(),
        digest=row.digest,
        content=row.content,
    )


def write_export(entries: Iterable[Entry], to: IO[bytes]) -> int:
    """Write a chain; returns how many entries it has."""
    to.write(json.dumps({"format": FORMAT}).encode() + b"\n")
    number = 0
    for entry in entries:
        number += 1
        to.write(json.dumps(_plain(entry), ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
    return number


def read_export(lines: Iterable[bytes]) -> Iterator[Entry]:
    """Read what ``write_export`` wrote.

    Raises:
        CheckpointError: It is something else, or a line of it is damaged.
    """
    numbered = enumerate(lines, 1)
    _, first = next(numbered, (1, b""))
    if _object(first, 1).get("format") != FORMAT:
        raise CheckpointError("no export of a chain: its first line does not say so")
    for number, line in numbered:
        found = _object(line, number)
        try:
            yield Entry(
                position=int(found["position"]),
                table=str(found["table"]),
                key=str(found["key"]),
                digest=bytes.fromhex(found["digest"]),
                content=_content(found),
            )
        except (KeyError, TypeError, ValueError, binascii.Error) as exc:
            raise CheckpointError(f"line {number} of the export cannot be read") from exc


def _object(line: bytes, number: int) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as exc:
        raise CheckpointError(f"line {number} of the export cannot be read") from exc
    if not isinstance(found, dict):
        raise CheckpointError(f"line {number} of the export cannot be read")
    return found


def _plain(entry: Entry) -> dict[str, object]:
    return {
        "position": entry.position,
        "table": entry.table,
        "key": entry.key,
        "digest": entry.digest.hex(),
        **_written(entry.content),
    }


def _written(content: bytes | None) -> dict[str, str | None]:
    if content is None:
        return {"content": None}
    try:
        return {"content": content.decode("utf-8")}
    except UnicodeDecodeError:
        return {"content_base64": base64.b64encode(content).decode()}


def _content(found: dict[str, Any]) -> bytes | None:
    if "content_base64" in found:
        return base64.b64decode(found["content_base64"], validate=True)
    return None if found["content"] is None else str(found["content"]).encode()


def proof_of(
    rows: Iterable[tuple[Entry, bytes]], digests: Iterable[bytes], checkpoint: Checkpoint, note: str
) -> dict[str, object]:
    """A proof that rows are in the chain that a checkpoint has signed.

    Args:
        rows: Each entry with the digest before it.
        digests: Of all entries of the checkpoint's chain, in order.
        checkpoint: Of a chain that holds them.
        note: The checkpoint as signed.

    Raises:
        CheckpointError: A row is changed, or came after the checkpoint.
    """
    kept = [digest for _, digest in zip(range(checkpoint.size), digests, strict=False)]
    proven = []
    for entry, previous in rows:
        if entry.content is None:
            raise CheckpointError(f"{entry.name}: deleted, nothing can be proven")
        if entry.position > checkpoint.size:
            raise CheckpointError(f"{entry.name}: newer than the last checkpoint; make one first")
        if chained(previous, entry.content) != entry.digest:
            raise CheckpointError(f"{entry.name}: changed since it was sealed, nothing can be proven")
        path = inclusion_proof(kept, entry.position - 1, checkpoint.size)
        if root_of_proof(entry.digest, entry.position - 1, checkpoint.size, path) != checkpoint.root:
            raise CheckpointError("the chain is not the one that was signed: nothing can be proven")
        proven.append(
            {
                "position": entry.position,
                "table": entry.table,
                "key": entry.key,
                **_written(entry.content),
                "previous_digest": previous.hex(),
                "path": [step.hex() for step in path],
            }
        )
    return {"format": PROOF_FORMAT, "checkpoint": note, "entries": proven}
