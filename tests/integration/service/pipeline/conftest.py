"""Workers that rate by the calibration that is shipped, and a site with one of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.config import Settings
from service.database.pool import Pool
from service.pipeline.context import Context
from service.storage.local import InstanceStore
from tests.integration.reporting.judging import DESTINATIONS
from tests.integration.service.pipeline.rerating import calibrated, workers


@pytest.fixture
def context(settings: Settings, pool: Pool, store: InstanceStore) -> Context:
    configured = settings.model_copy(
        update={"destinations": DESTINATIONS[:1], "timezone": "Europe/Berlin", "step_max_attempts": 2}
    )
    return workers(Context(settings=configured, pool=pool, store=store), None)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return calibrated(tmp_path / "site")
