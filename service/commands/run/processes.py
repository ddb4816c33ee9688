"""The processes of the product, each a command: node, API, relay, workers, and the schema they need."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from service.commands.options import DataDir, settings_of
from service.commands.program import PROGRAM
from service.config import load_settings
from service.exit_codes import ExitCode
from service.steps import Queue

_RELAY_SILENT_S = 120.0  # of its loop, after which it counts as stuck


def node() -> None:
    """Run the DICOM node: receives photographs and sends nothing.

    Needs PostgreSQL and the store.

    Example: `SEMBLANCE_DICOM_PORT=11112 semblance node`.
    """
    from dicom_node.acceptor.serve import serve

    serve(load_settings(), (*PROGRAM, "node"))


def api() -> None:
    """Run the FHIR API and DICOMweb.

    Needs PostgreSQL and the store.

    Example: `SEMBLANCE_API_PORT=8080 semblance api`.
    """
    from service.commands.run.api import run

    run(load_settings())


def relay() -> None:
    """Run the relay between PostgreSQL's outbox and the broker, which also finds stalled work.

    Example: `SEMBLANCE_BROKER_URL=amqp://localhost semblance relay`.
    """
    from reporting.fhir.subscriptions.notifications import SWEEP, forget_received
    from reporting.outcomes.following.follow import ask
    from service.audit.activity import ApplicationActivity
    from service.audit.processes import AuditThreads
    from service.database.pool import open_pool
    from service.logs import announce_ready, configure_logging
    from service.operations.door import Facts, operations_door
    from service.operations.readiness import Check, Heartbeat, database_check
    from service.operations.standing import Standing
    from service.pipeline.again.rerate_due import ask_to_rerate
    from service.pipeline.celery_app import CeleryPublisher, make_app
    from service.pipeline.relay import Relay

    settings = load_settings()
    configure_logging(settings)
    with open_pool(settings) as pool:
        publisher = CeleryPublisher(make_app(settings))
        heartbeat = Heartbeat(_RELAY_SILENT_S + settings.sweep_interval_s)
        moving = Relay(
            settings,
            pool,
            publisher,
            sweeps=(SWEEP,),
            chores=(forget_received, ask, ask_to_rerate),
            heartbeat=heartbeat.beat,
        )
        facts = Facts(
            process="relay",
            checks=[database_check(settings), Check(name="broker", ask=publisher.require_answer)],
            heartbeat=heartbeat,
            collectors=[Standing(pool)],
        )
        audit = AuditThreads(settings, pool)

        def stop(_signal: int, _frame: FrameType | None) -> None:
            moving.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        with ApplicationActivity(settings, pool, "relay"), operations_door(settings, facts):
            audit.start()
            announce_ready("relay")
            try:
                moving.run()
            finally:
                audit.stop()


def hl7() -> None:
    """Run the HL7 listener: merges and updates of patients by ADT messages over MLLP. Needs PostgreSQL.

    Example: `SEMBLANCE_HL7_PORT=2575 semblance hl7`.
    """
    import asyncio

    from reporting.hl7.listener import Listener
    from service.audit.activity import ApplicationActivity
    from service.database.pool import open_pool
    from service.logs import announce_ready, configure_logging
    from service.operations.door import Facts, operations_door
    from service.operations.readiness import database_check

    settings = load_settings()
    configure_logging(settings)

    async def run(listener: Listener) -> None:
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        announce_ready("hl7", port=await listener.start())
        await stopped.wait()
        await listener.stop()

    facts = Facts(process="hl7", checks=[database_check(settings)])
    with (
        open_pool(settings) as pool,
        ApplicationActivity(settings, pool, "hl7"),
        operations_door(settings, facts),
    ):
        asyncio.run(run(Listener(settings, pool)))


def worker(
    queues: Annotated[list[Queue] | None, typer.Argument(help="Queues to serve; none: all.")] = None,
    *,
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Threads; default: 1, and SEMBLANCE_APPRAISAL_THREADS for gpu.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run a worker: appraisals, result objects, deliveries.

    One process per GPU for `gpu`; threads are for `report` and `io`.

    Example: `semblance worker gpu` beside `semblance worker report io --concurrency 4`.
    """
    from service.pipeline.worker import serve

    settings = load_settings()
    served = queues or list(Queue)
    declare_tasks(served)
    alone = settings.appraisal_threads if Queue.GPU in served else 1
    serve(settings, served, concurrency or alone)


def declare_tasks(queues: list[Queue]) -> None:
    """Import the modules that declare the tasks of these queues, and no others: only ``gpu`` needs torch."""
    if Queue.GPU in queues:
        from service.pipeline import appraise, reappraise  # noqa: F401
        from service.pipeline.again import rerate  # noqa: F401
    if Queue.REPORT in queues:
        from reporting import report  # noqa: F401
        from reporting.outcomes.following import follow, publish  # noqa: F401
    if Queue.IO in queues:
        from dicom_node.delivery import deliver  # noqa: F401
        from reporting.fhir.subscriptions import notifications  # noqa: F401


def demo_pacs(
    *,
    directory: Annotated[Path, typer.Option(help="Where objects are kept.")],
    port: Annotated[int, typer.Option(help="On 127.0.0.1; 0: a free one.")] = 0,
) -> None:
    """Run the small PACS of the demonstration.

    Example: `semblance demo-pacs --directory /tmp/pacs --port 11113`.
    """
    from dicom_node.demo.pacs import serve

    serve(directory, port)


def migrate(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit 1 when not up to date.")
    ] = False,
    data_dir: DataDir = Path("var"),
) -> None:
    """Bring the database's schema up to date; safe to run from several places at once.

    With SEMBLANCE_DATABASE_OWNER_URL it works as that role, and gives the role of SEMBLANCE_DATABASE_URL what
    a writer may do.

    Example: `semblance migrate`, or `semblance migrate --check` to only look.
    """
    from service.database import migrate as migrations
    from service.database import roles

    settings = settings_of(data_dir)
    owner_url = settings.database_owner_url or settings.database_url
    if not check:
        migrations.migrate(owner_url)
        if settings.database_owner_url:
            roles.share(owner_url, settings.database_url, settings.database_reader)
    at, newest = migrations.current(owner_url), migrations.head()
    sys.stdout.write(f"schema at {at or 'nothing'}, newest {newest}\n")
    if at != newest:
        raise typer.Exit(ExitCode.FAILED)
