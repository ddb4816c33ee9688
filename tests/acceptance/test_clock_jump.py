"""The node's clock jumps days forwards and backwards under it (libfaketime), associations open or not."""

from __future__ import annotations

import glob
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.audit.trail import seal_pending, verify
from service.config import Settings
from service.database import instances, ledger
from service.database.pool import Pool, transaction
from service.records import LedgerEvent
from tests import dicom_objects
from tests.acceptance.node_process import node_process
from tests.dicom_objects import associate, photograph

_LIBRARY = "/usr/lib/*/faketime/libfaketimeMT.so.1"  # Debian's package libfaketime, of every architecture


@pytest.mark.peers("faketime")
@pytest.mark.timeout(300)
def test_a_clock_that_jumps_breaks_nothing(settings: Settings, pool: Pool, tmp_path: Path) -> None:
    offset, log = tmp_path / "offset", tmp_path / "log"
    offset.write_text("+0d\n")
    fake = {
        "LD_PRELOAD": glob.glob(_LIBRARY)[0],
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # the kernel's monotonic clock does not jump either
        "SEMBLANCE_LOG_FORMAT": "json",
        "SEMBLANCE_DICOM_IDLE_TIMEOUT_S": "3600",  # less than any jump, more than a loaded machine takes
    }
    sent = []
    with node_process(
        settings, log, program=(sys.executable, "-m", "tests.acceptance.relative_sleep"), environment=fake
    ) as (port, _):
        held = associate(port)
        held.network_timeout = None
        for jump in ("+0d", "+3d", "-10d", "+400d"):
            offset.write_text(f"{jump}\n")
            across, fresh = photograph(), photograph()
            assert held.send_c_store(across).Status == 0x0000, jump
            assert dicom_objects.store(port, fresh).Status == 0x0000, jump
            assert dicom_objects.store(port, fresh).Status == 0x0000, jump  # known already
            sent += [across, fresh]
        held.release()
    said = log.read_text()
    for days in (3, -10, 400):  # the node did see those days
        assert f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%dT}" in said
    with transaction(pool) as connection:
        for ds in sent:
            assert instances.by_uid(connection, ds.SOPInstanceUID) is not None
        entries = [entry for ds in sent for entry in ledger.entries(connection, ds.SOPInstanceUID)]
    assert {e.event for e in entries} == {LedgerEvent.RECEIVED, LedgerEvent.RECEIVED_AGAIN}
    assert all(abs(e.at - datetime.now(UTC)) < timedelta(hours=1) for e in entries)  # the database's clock
    seal_pending(pool, settings)
    with transaction(pool) as connection:
        assert verify(connection).faults == ()
