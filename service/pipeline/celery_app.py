"""The Celery app, its queues, and the decorator that makes a function a step of the pipeline.

Messages carry one id; PostgreSQL holds the state. An app is made by ``make_app`` at a process's entry
point; tasks are declared with ``@task(STEP)`` and found by the app of a process that imports their module.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from celery import Celery, shared_task
from celery.app.task import Task
from celery.exceptions import Reject
from kombu.entity import Queue as BrokerQueue
from kombu.exceptions import OperationalError

from service.config import Settings
from service.database.outbox import OutboxMessage
from service.errors import BrokerUnavailableError, DatabaseUnavailableError
from service.operations.readiness import Check
from service.pipeline.attempt import Gate, StepFunction, attempt
from service.pipeline.context import Context, open_context
from service.steps import Errand, Queue, Step, names_of

_CONNECTION_TIMEOUT_S = 5
# Far above the longest step: what a killed worker held is enqueued again by the sweeper long before.
_VISIBILITY_TIMEOUT_S = 6 * 3600
_BROKER_ERRORS = (OperationalError, ConnectionError, TimeoutError, OSError)


class SemblanceApp(Celery):  # type: ignore[misc]
    """Celery with our settings and, in a worker, the context tasks work with."""

    settings: Settings

    @cached_property
    def context(self) -> Context:
        """Settings, pool and store of this process; opened at first use, after any fork."""
        return open_context(self.settings)


def make_app(settings: Settings) -> SemblanceApp:
    """Make the app of this process; it has the tasks of the modules that were imported.

    Args:
        settings: Uses ``broker_url``.
    """
    app = SemblanceApp("semblance", set_as_current=True)
    app.settings = settings
    app.conf.update(_configuration(settings))
    return app


def _configuration(settings: Settings) -> dict[str, object]:
    amqp = settings.broker_url.startswith(("amqp", "pyamqp"))
    arguments = {"x-queue-type": "quorum"} if amqp else {}
    transport = (
        {"confirm_publish": True}
        if amqp
        else {
            "visibility_timeout": _VISIBILITY_TIMEOUT_S,
            "socket_connect_timeout": _CONNECTION_TIMEOUT_S,
            "socket_keepalive": True,
            "max_retries": 0,
        }
    )
    return {
        "broker_url": settings.broker_url,
        "broker_transport_options": transport,
        "broker_connection_timeout": _CONNECTION_TIMEOUT_S,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_native_delayed_delivery_queue_type": "quorum",
        "task_queues": [
            BrokerQueue(queue.value, durable=True, queue_arguments=arguments)  # type: ignore[no-untyped-call]
            for queue in Queue
        ],
        "task_create_missing_queues": False,
        "task_default_queue": Queue.IO.value,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_acks_on_failure_or_timeout": True,
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_publish_retry": False,
        "worker_prefetch_multiplier": 1,
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_redirect_stdouts": False,
    }


def task(
    step: Step, prepare: Callable[[Context], None] | None = None, gate: Gate | None = None
) -> Callable[[StepFunction], StepFunction]:
    """Make a function the work of a step.

    The function gets the process's context and the id; it is only called while the subject is claimed
    for it (state ``step.begins_in``, or a pending delivery), must bear to be run twice, and raises when
    it fails. Retry, backoff, dead letters and the ledger of failures are done here, once for all.

    Args:
        step: The row of STEPS.
        prepare: Called once before a worker says it is ready, e.g. to load models.
        gate: Of a step on deliveries: holds them back while their destination is not to be sent to.

    Example::

        @task(REPORT)
        def report(context: Context, instance_id: int) -> None: ...
    """

    def declare(function: StepFunction) -> StepFunction:
        def run(self: Task[Any, Any], subject_id: int | str) -> str:
            try:
                return attempt(self.app.context, step, function, int(subject_id), gate).value
            except DatabaseUnavailableError as exc:
                raise Reject(str(exc), requeue=True) from exc

        preparation = (prepare,) if prepare else ()
        for name in names_of(step.task):
            shared_task(run, name=name, bind=True, preparation=preparation if name == step.task else ())
        return function

    return declare


def errand(work: Errand) -> Callable[[StepFunction], StepFunction]:
    """Make a function the work of an errand: it claims its subject itself and writes down how it ended.

    Args:
        work: The row of ERRANDS.
    """

    def declare(function: StepFunction) -> StepFunction:
        def run(self: Task[Any, Any], subject_id: int | str) -> None:
            try:
                function(self.app.context, int(subject_id))
            except DatabaseUnavailableError as exc:
                raise Reject(str(exc), requeue=True) from exc

        for name in names_of(work.task):
            shared_task(run, name=name, bind=True)
        return function

    return declare


def prepare_tasks(app: SemblanceApp) -> None:
    """Do what the tasks of this worker want done before the first message."""
    for declared in app.tasks.values():
        for prepare in getattr(declared, "preparation", ()):
            prepare(app.context)


class CeleryPublisher:
    """Hands messages to the app's broker; see service.pipeline.publishing.Publisher."""

    def __init__(self, app: SemblanceApp) -> None:
        """Connects at first use."""
        self._app = app

    def publish(self, message: OutboxMessage) -> None:
        """See Publisher."""
        try:
            self._app.send_task(message.task, args=[message.subject_id], queue=message.queue)
        except _BROKER_ERRORS as exc:
            raise BrokerUnavailableError(f"broker: {exc}") from exc

    def require_answer(self) -> None:
        """Do nothing while the broker answers.

        Raises:
            BrokerUnavailableError: It does not.
        """
        try:
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, timeout=_CONNECTION_TIMEOUT_S)
        except _BROKER_ERRORS as exc:
            raise BrokerUnavailableError(f"broker: {type(exc).__name__}") from exc

    def depth(self, queue: Queue) -> int:
        """See Publisher."""
        try:
            with self._app.connection_for_read() as connection:
                channel = connection.default_channel
                try:
                    return int(channel.queue_declare(queue.value, passive=True).message_count)
                except connection.channel_errors:  # no such queue: nothing waits in it
                    return 0
        except _BROKER_ERRORS as exc:
            raise BrokerUnavailableError(f"broker: {exc}") from exc


def broker_check(app: SemblanceApp) -> Check:
    """The broker answers."""
    publisher = CeleryPublisher(app)
    return Check(name="broker", ask=publisher.require_answer)
