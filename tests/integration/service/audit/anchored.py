"""A site whose chain is anchored, and what an owner of its database may do to it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.audit.anchoring.exporting import entry_of, read_export, write_export
from service.audit.anchoring.making import anchor_of, make
from service.audit.anchoring.places import Directory
from service.audit.anchoring.verifying import Outcome, verify
from service.audit.trail import seal_pending
from service.commands.program import PROGRAM
from service.config import Settings
from service.database import instances
from service.database.pool import Connection, Pool, transaction
from service.database.sealing import seals
from service.database.sealing.chain import GENESIS, chained
from tests.records import offered


@dataclass(frozen=True, kw_only=True)
class Site:
    """A database with a chain, and where it is anchored."""

    settings: Settings
    pool: Pool
    directory: Path
    vkey: str

    def receive(self, number: int, first: int = 0) -> None:
        """Have photographs come in, and all of it sealed."""
        with transaction(self.pool) as connection:
            for count in range(first, first + number):
                instances.receive(connection, offered(f"1.2.{count + 1}"))
        seal_pending(self.pool, self.settings)

    def checkpoint(self) -> int:
        """Sign the chain; its size."""
        anchor = anchor_of(self.settings)
        assert anchor is not None
        with transaction(self.pool) as connection:
            made = make(connection, anchor)
        assert made is not None
        return made.size

    def look(self) -> Outcome:
        """Compare the database with the checkpoints."""
        with transaction(self.pool) as connection:
            return verify(map(entry_of, seals.sealed(connection)), Directory(self.directory), self.vkey)

    def look_at(self, export: Path) -> Outcome:
        """Compare an export with the checkpoints."""
        with export.open("rb") as lines:
            return verify(read_export(lines), Directory(self.directory), self.vkey)

    def export(self, to: Path) -> int:
        """Write one."""
        with transaction(self.pool) as connection, to.open("wb") as file:
            return write_export(map(entry_of, seals.sealed(connection)), file)


@contextmanager
def as_owner(pool: Pool) -> Iterator[Connection]:
    """A superuser whom no trigger stops."""
    with transaction(pool) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        yield connection


def made_anew(connection: Connection) -> None:
    """The whole chain over what is in the rows now, as an owner with our program can."""
    rows = list(seals.sealed(connection))
    connection.execute("TRUNCATE seal")
    digest = GENESIS
    position = 0
    for row in rows:
        if row.content is None:
            continue
        position += 1
        digest = chained(digest, row.content)
        connection.execute(
            "INSERT INTO seal (position, source, row_id, row_key, digest, form)"
            " VALUES (%s, %s, %s, %s, %s, 2)",
            (position, row.row.source, row.row.row_id, row.row.row_key, digest),
        )


def change(connection: Connection) -> None:
    connection.execute("UPDATE ledger SET event = 'delivered' WHERE ledger_id = 4")


def remove(connection: Connection) -> None:
    connection.execute("DELETE FROM ledger WHERE ledger_id = 4")
    connection.execute("DELETE FROM seal WHERE source = 'ledger' AND row_id = 4")


def insert(connection: Connection) -> None:
    """A line of an owner's own, with a seal in the middle of the chain."""
    connection.execute("UPDATE seal SET position = position + 1000 WHERE position >= 5")
    connection.execute("UPDATE seal SET position = position - 999 WHERE position >= 1000")
    connection.execute(
        "INSERT INTO ledger (ledger_id, event, sop_instance_uid, detail) OVERRIDING SYSTEM VALUE"
        " VALUES (9000, 'received', '1.2.3', '{}')"
    )
    connection.execute(
        "INSERT INTO seal (position, source, row_id, row_key, digest, form)"
        " VALUES (5, 'ledger', 9000, '', sha256('mine'), 2)"
    )


def reorder(connection: Connection) -> None:
    """Two entries change places."""
    connection.execute("UPDATE seal SET position = 100000 WHERE position = 4")
    connection.execute("UPDATE seal SET position = 4 WHERE position = 5")
    connection.execute("UPDATE seal SET position = 5 WHERE position = 100000")


def cut_off(connection: Connection) -> None:
    connection.execute("DELETE FROM seal WHERE position > 10")


def empty(connection: Connection) -> None:
    connection.execute("TRUNCATE seal, seal_pending, ledger, audit_message CASCADE")


def make_anew(connection: Connection) -> None:
    change(connection)
    made_anew(connection)


def make_anew_without(connection: Connection) -> None:
    remove(connection)
    made_anew(connection)


ATTACKS: dict[str, tuple[Callable[[Connection], None], str]] = {
    "changed": (change, r"ledger 4 \(entry 4\): changed"),
    "removed": (remove, r"entry 4 is missing: the next is 5, ledger 5"),
    "inserted": (insert, r"ledger 9000 \(entry 5\): (changed|not what was signed)"),
    "reordered": (reorder, r"ledger 5 \(entry 4\): (changed|not what was signed)"),
    "truncated": (cut_off, r"the chain has 10 entries, checkpoint-\d+\.txt more: cut off"),
    "emptied": (empty, r"the chain has 0 entries, checkpoint-\d+\.txt more"),
    "recomputed": (make_anew, r"ledger 4 \(entry 4\): not what was signed"),
    "recomputed without": (make_anew_without, r"ledger 5 \(entry 4\): not what was signed"),
}


def run(*arguments: object, settings: Settings | None = None) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ)
    if settings is not None:
        environment |= {
            "SEMBLANCE_DATABASE_URL": settings.database_url,
            "SEMBLANCE_STORAGE_DIR": str(settings.storage_dir),
            "SEMBLANCE_AUDIT_KEY_FILE": str(settings.audit_key_file),
            "SEMBLANCE_AUDIT_CHECKPOINT_DIR": str(settings.audit_checkpoint_dir),
        }
    command = [*PROGRAM, "audit", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
