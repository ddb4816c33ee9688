"""A worker process.

Threads, never forks: CUDA does not survive a fork, and a pool of connections neither.
"""

from __future__ import annotations

from contextlib import ExitStack

from celery import signals

from service.audit.activity import ApplicationActivity
from service.config import Settings
from service.logs import announce_ready, configure_logging
from service.operations.door import Facts, operations_door
from service.operations.readiness import database_check, store_check
from service.pipeline.celery_app import broker_check, make_app, prepare_tasks
from service.steps import Queue


def serve(settings: Settings, queues: list[Queue], concurrency: int) -> None:
    """Serve queues until SIGTERM; the work in hand is ended first.

    The modules that declare the queues' tasks are imported before.

    Args:
        settings: Of the process.
        queues: One or more.
        concurrency: Threads.

    Raises:
        DatabaseUnavailableError: Before the first message was taken.
        StorageError: The store cannot be opened.
    """
    configure_logging(settings)
    app = make_app(settings)
    app.context  # noqa: B018 -- opened here, so that what is not there is said at once
    names = ",".join(queue.value for queue in queues)

    running = ExitStack()

    def ready(**_: object) -> None:
        prepare_tasks(app)
        running.enter_context(ApplicationActivity(settings, app.context.pool, f"worker-{names}"))
        checks = [database_check(settings), store_check(settings), broker_check(app)]
        running.enter_context(operations_door(settings, Facts(process=f"worker-{names}", checks=checks)))
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
