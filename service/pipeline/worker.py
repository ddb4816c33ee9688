"""A worker process: ``python -m service.pipeline.worker gpu report io``.

Threads, never forks: CUDA does not survive a fork, and a pool of connections neither.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack

from celery import signals

from service.audit.activity import ApplicationActivity
from service.config import Settings, load_settings
from service.errors import SemblanceError
from service.exit_codes import ExitCode
from service.logs import announce_ready, configure_logging
from service.pipeline.celery_app import make_app, prepare_tasks
from service.steps import Queue


def serve(settings: Settings, queues: list[Queue], concurrency: int) -> None:
    """Serve queues until SIGTERM; the work in hand is ended first.

    Args:
        settings: Of the process.
        queues: One or more.
        concurrency: Threads.
    """
    configure_logging(settings)
    app = make_app(settings, queues)
    names = ",".join(queue.value for queue in queues)

    running = ExitStack()

    def ready(**_: object) -> None:
        prepare_tasks(app)
        running.enter_context(ApplicationActivity(settings, app.context.pool, f"worker-{names}"))
        announce_ready("worker", queues=names)

    signals.worker_ready.connect(ready, weak=False)
    try:
        app.worker_main(
            [
                "worker",
                "--pool=threads",
                f"--concurrency={concurrency}",
                f"--queues={names}",
                "--without-gossip",
                "--without-mingle",
                "--without-heartbeat",
                f"--loglevel={settings.log_level}",
                f"--hostname=semblance-{names.replace(',', '-')}@%h",
            ]
        )
    finally:
        running.close()
        if "context" in vars(app):
            app.context.pool.close()


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m service.pipeline.worker", description=__doc__)
    parser.add_argument("queues", nargs="+", choices=[queue.value for queue in Queue], help="queues to serve")
    parser.add_argument("--concurrency", type=int, default=1, help="threads (default 1)")
    options = parser.parse_args(arguments)
    try:
        serve(load_settings(), [Queue(name) for name in options.queues], options.concurrency)
    except SemblanceError as exc:
        sys.stderr.write(f"semblance worker: {exc}\n")
        return ExitCode.USAGE
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
