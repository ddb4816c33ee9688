"""The environment of a served API."""

from __future__ import annotations

import os

from service.config import Settings


def environment(settings: Settings, **more: str) -> dict[str, str]:
    return os.environ | {
        "SEMBLANCE_DATABASE_URL": settings.database_url,
        "SEMBLANCE_STORAGE_DIR": str(settings.storage_dir),
        "SEMBLANCE_API_PORT": "0",
        **more,
    }
