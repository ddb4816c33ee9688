"""Senders that do not know what became of what they sent."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

from service.config import Settings
from service.database.pool import open_pool, transaction
from service.storage.local import LocalStore
from tests.peers import find_peer


def send(port: int, batch: list[tuple[str, Path]]) -> list[str]:
    """UIDs the sender was told are stored."""
    program = find_peer("storescu")
    assert program is not None
    command = [program, "-v", "-xy", "127.0.0.1", str(port), *(str(path) for _, path in batch)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    told = len(re.findall(r"Received Store Response \(Success\)", done.stdout + done.stderr))
    return [uid for uid, _ in batch[:told]]


def compare(settings: Settings, told: list[str]) -> dict[str, int]:
    """What was acknowledged against database, ledger, outbox and disk."""
    store = LocalStore(settings.storage_dir)
    with open_pool(settings) as pool, transaction(pool) as connection:
        rows = connection.execute(
            "SELECT i.sop_instance_uid, i.sha256, i.size_bytes,"
            " (SELECT count(*) FROM ledger l WHERE l.instance_id = i.instance_id) AS events,"
            " (SELECT count(*) FROM outbox o WHERE o.subject_id = i.instance_id::text) AS messages"
            " FROM instance i"
        ).fetchall()
    whole = {
        row["sop_instance_uid"]
        for row in rows
        if store.contains(row["sha256"])
        and len(store.read(row["sha256"])) == row["size_bytes"]
        and row["events"] >= 1
        and row["messages"] == 1
    }
    kept = [path for path in settings.storage_dir.glob("??/*") if path.is_file()]
    damaged = [path for path in kept if hashlib.sha256(path.read_bytes()).hexdigest() != path.name]
    return {"lost": len(set(told) - whole), "half": len(rows) - len(whole) + len(damaged), "kept": len(rows)}
