"""Structured logs on standard error; standard output is for results and the line that says "ready"."""

from __future__ import annotations

import json
import logging
import sys

import structlog

from service.config import Settings

# Libraries that log each of their steps, some with names and values of patients.
_CHATTY = (
    "alembic",
    "celery.app.trace",
    "celery.worker.strategy",
    "highdicom",
    "httpx",
    "pydicom",
    "pynetdicom",
)


def configure_logging(settings: Settings) -> None:
    """Send every log line, our own and foreign ones, to standard error in the shape the settings name."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if settings.log_format == "json"
        # plain: the other formatters print local variables, patients' data among them
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


def announce_ready(process: str, **facts: str | int) -> None:
    """Write the line a supervisor waits for: one JSON object on standard output.

    Args:
        process: Which process is ready, e.g. ``relay``.
        facts: What others need to reach it, e.g. ``port``.
    """
    sys.stdout.write(json.dumps({"event": "ready", "process": process, **facts}) + "\n")
    sys.stdout.flush()
