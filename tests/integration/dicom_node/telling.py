"""Commands of media as processes of their own, and what the audit trail tells of them."""

from __future__ import annotations

import os
import subprocess
import sys

from lxml import etree

from service.config import Settings
from service.database import audit_messages
from service.database.pool import Pool, transaction
from tests.audit import faults


def run(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``semblance`` as a process of its own, on the test's database and store."""
    environment = os.environ | {
        "SEMBLANCE_DATABASE_URL": settings.database_url,
        "SEMBLANCE_STORAGE_DIR": str(settings.storage_dir),
        "SEMBLANCE_STORAGE_LOW_WATERMARK_BYTES": "0",
    }
    return subprocess.run(
        [sys.executable, "-c", "from service.commands.main import main; main()", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def told(pool: Pool, code: str) -> list[etree._Element]:
    """The audit messages of one kind, checked against the schema."""
    with transaction(pool) as connection:
        found = [each.message for each in reversed(audit_messages.newest(connection, 100))]
    assert [fault for xml in found for fault in faults(xml)] == []
    read = [etree.fromstring(xml) for xml in found]
    return [each for each in read if each.find(".//EventID").get("csd-code") == code]
