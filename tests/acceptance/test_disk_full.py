"""A disk that is really full: the store on a small tmpfs, in a mount namespace of the node's own."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian

from service.config import Settings
from service.database import instances, ledger
from service.database.pool import Pool, transaction
from service.records import LedgerEvent
from service.stack.waiting import wait_until
from tests import dicom_objects
from tests.acceptance.node_process import node_process
from tests.dicom_objects import photograph

_SIZE = "6m"
_MOUNT = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'
_OBJECT = (400, 400)  # 480 KB of uncompressed noise
_FILLER_BYTES = 2 << 20


def prefix(directory: Path) -> list[str]:
    """Run in a mount namespace with a small tmpfs over a directory."""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *as_root, "--mount", "sh", "-c", _MOUNT, "sh", _SIZE, str(directory)]


@pytest.mark.timeout(300)
def test_a_full_disk_is_refused_keeps_nothing_half_and_recovers(
    settings: Settings, pool: Pool, tmp_path: Path
) -> None:
    settings.storage_dir.mkdir(parents=True, exist_ok=True)
    with node_process(settings, tmp_path / "log", prefix=prefix(settings.storage_dir)) as (port, pid):
        inside = Path(f"/proc/{pid}/root{settings.storage_dir.resolve()}")
        filler = inside / "filler"
        filler.write_bytes(bytes(_FILLER_BYTES))
        kept, refused = [], []  # type: ignore[var-annotated]
        while len(refused) < 3:
            ds = photograph(transfer_syntax=ExplicitVRLittleEndian, size=_OBJECT, seed=len(kept))
            response = dicom_objects.store(port, ds)
            (kept if response.Status == 0 else refused).append((str(ds.SOPInstanceUID), response))
            assert len(kept) < 20, "the disk is not full"
        assert kept
        assert {response.Status for _, response in refused} == {0xA700}
        assert_whole(pool, inside, [uid for uid, _ in kept])
        with transaction(pool) as connection:
            for uid, _ in refused:
                assert instances.by_uid(connection, uid) is None
                (entry,) = ledger.entries(connection, uid)
                assert (entry.event, entry.detail["status"]) == (LedgerEvent.REFUSED, "0xA700")
        filler.unlink()
        ds = photograph(transfer_syntax=ExplicitVRLittleEndian, size=_OBJECT, seed=99)
        wait_until(
            lambda: dicom_objects.store(port, ds).Status == 0,
            timeout_s=60,
            what="the node to take objects again",
        )
        assert_whole(pool, inside, [*(uid for uid, _ in kept), str(ds.SOPInstanceUID)])


def assert_whole(pool: Pool, store: Path, uids: list[str]) -> None:
    """Those and no others are in the database, each with its bytes; nothing half lies about."""
    with transaction(pool) as connection:
        rows = connection.execute("SELECT sop_instance_uid, sha256, size_bytes FROM instance").fetchall()
    assert {row["sop_instance_uid"] for row in rows} == set(uids)
    for row in rows:
        path = store / row["sha256"][:2] / row["sha256"]
        content = wait_until(
            lambda path=path: path.exists() and path.read_bytes(),  # type: ignore[misc]
            timeout_s=30,
            what="bytes",
        )
        assert (len(content), hashlib.sha256(content).hexdigest()) == (row["size_bytes"], row["sha256"])
    assert [path for path in (store / "incoming").iterdir() if path.is_file()] == []
