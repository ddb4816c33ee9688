"""The node as a process of its own, begun by whatever command a fault needs."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from service.commands.program import PROGRAM
from service.config import Settings


@contextmanager
def node_process(
    settings: Settings,
    log: Path,
    *,
    prefix: Sequence[str] = (),
    program: Sequence[str] = (*PROGRAM, "node"),
    environment: Mapping[str, str] | None = None,
) -> Iterator[tuple[int, int]]:
    """Run ``semblance node`` behind a prefix; yields its port and process id.

    Args:
        settings: Database and store.
        log: Gets its log.
        prefix: A command that ends by running the rest of its arguments in its own place.
        program: What is run.
        environment: More variables.
    """
    variables = os.environ | {
        "SEMBLANCE_DATABASE_URL": settings.database_url,
        "SEMBLANCE_STORAGE_DIR": str(settings.storage_dir),
        "SEMBLANCE_STORAGE_LOW_WATERMARK_BYTES": "0",
        "SEMBLANCE_DICOM_HOST": "127.0.0.1",
        "SEMBLANCE_DICOM_PORT": "0",
        **(environment or {}),
    }
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [*prefix, *program],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, log.read_text()
        try:
            yield int(json.loads(line)["port"]), process.pid
        finally:
            process.terminate()
            process.wait(60)
