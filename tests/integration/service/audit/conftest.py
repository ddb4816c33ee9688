"""A site whose chain was signed twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.audit.anchoring.keys import make_key
from service.config import Settings
from service.database.pool import Pool
from tests.integration.service.audit.anchored import Site


@pytest.fixture
def site(settings: Settings, pool: Pool, tmp_path: Path) -> Site:
    key = make_key(tmp_path / "audit.key", "hospital-1")
    directory = tmp_path / "checkpoints"
    anchored = settings.model_copy(
        update={"audit_key_file": tmp_path / "audit.key", "audit_checkpoint_dir": directory}
    )
    made = Site(settings=anchored, pool=pool, directory=directory, vkey=key.public.vkey())
    made.receive(12)
    made.checkpoint()
    made.receive(12, first=12)
    made.checkpoint()
    return made
