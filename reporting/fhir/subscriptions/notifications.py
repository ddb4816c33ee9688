"""The errand that tells a subscriber of a new Observation (R4 Subscription, rest-hook)."""

from __future__ import annotations

from datetime import timedelta

import httpx
import structlog

import service
from reporting.fhir.audit import disclosure
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database import subscriptions as fhir_subscriptions
from reporting.fhir.database.records import StoredResource
from reporting.fhir.database.subscriptions import Notification, Subscriber
from reporting.fhir.render import draft_of
from reporting.fhir.site import site_of
from reporting.fhir.subscriptions.rules import in_error, is_allowed
from service.config import Settings
from service.database import outbox
from service.database.pool import Connection, Pool, transaction
from service.errors import NotificationError
from service.pipeline.backoff import delay_s
from service.pipeline.celery_app import errand
from service.pipeline.context import Context
from service.pipeline.sweeper import Sweep
from service.steps import NOTIFY

_log = structlog.get_logger(__name__)


@errand(NOTIFY)
def notify(context: Context, notification_id: int) -> None:
    """Make one attempt at a notification; a failed one is tried again later, with growing pauses.

    When the last attempt fails, the Subscription is in error and its client has to ask for it again.

    Args:
        context: Of the process.
        notification_id: Of a pending notification; one that is not due is left alone.

    Raises:
        DatabaseUnavailableError: Nothing happened, or what did is not written down; the message is to stay.
    """
    with transaction(context.pool) as connection:
        notification = fhir_subscriptions.claim(connection, notification_id, context.settings.stall_after_s)
        if notification is None:
            return
        subscriber = fhir_subscriptions.get(connection, notification.subscription_id)
        version = fhir_resources.read_version(
            connection, notification.resource_type, notification.resource_id, notification.version_id
        )
    if subscriber is None or version is None or not subscriber.is_active:
        with transaction(context.pool) as connection:
            fhir_subscriptions.mark_dead(connection, notification_id, "the Subscription is off")
        return
    try:
        send(subscriber, version, notification, context)
    except NotificationError as exc:
        _failed(context, subscriber, notification, str(exc))
        return
    with transaction(context.pool) as connection:
        fhir_subscriptions.mark_sent(connection, notification_id)
        event = disclosure(version, subscriber.client_id, subscriber.endpoint, full=bool(subscriber.payload))
        draft = draft_of(event, site=site_of(context.settings))
        fhir_resources.save(connection, [draft], author="semblance")
    _log.info("notified", notification_id=notification_id, attempt=notification.attempts)


def send(
    subscriber: Subscriber, version: StoredResource, notification: Notification, context: Context
) -> None:
    """Tell the endpoint: PUT the version as the resource it is, or POST nothing when no payload is asked for.

    Redirects are not followed: they would lead past the list of allowed endpoints, which is looked at again.

    Raises:
        NotificationError: The endpoint is not allowed, cannot be reached or does not take it.
    """
    if not is_allowed(subscriber.endpoint, context.settings.fhir_subscription_endpoints):
        raise NotificationError("the endpoint is no longer among those allowed here")
    headers = [(name, value.strip()) for name, _, value in (h.partition(":") for h in subscriber.headers)]
    headers += [
        ("User-Agent", f"Semblance/{service.__version__}"),
        ("X-Request-Id", f"{subscriber.subscription_id}-{notification.notification_id}"),
    ]
    method, url, body = "POST", subscriber.endpoint, b""
    if subscriber.payload:
        method, body = "PUT", version.body.encode()
        base, _, query = subscriber.endpoint.partition("?")
        url = f"{base.rstrip('/')}/{version.resource_type}/{version.resource_id}"
        url += f"?{query}" if query else ""
        headers.append(("Content-Type", f"{subscriber.payload}; charset=utf-8"))
    try:
        # no proxy of the environment: it would see what TLS hides from it only by accident
        with httpx.Client(
            timeout=context.settings.delivery_timeout_s, follow_redirects=False, trust_env=False
        ) as client:
            status = client.request(method, url, headers=headers, content=body).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise NotificationError(f"the endpoint cannot be reached: {type(exc).__name__}") from exc
    if not 200 <= status < 300:
        raise NotificationError(f"the endpoint answered HTTP {status}")


def _failed(context: Context, subscriber: Subscriber, notification: Notification, error: str) -> None:
    number = notification.notification_id
    _log.warning("notification failed", notification_id=number, attempt=notification.attempts, error=error)
    with transaction(context.pool) as connection:
        if notification.attempts >= context.settings.fhir_notification_max_attempts:
            fhir_subscriptions.mark_dead(connection, number, error)
            in_error(connection, subscriber, error, context.settings)
            return
        wait_s = delay_s(notification.attempts, context.settings)
        fhir_subscriptions.postpone(connection, number, error, wait_s)
        outbox.put_after(connection, NOTIFY.task, NOTIFY.queue, number, wait_s)


def _stalled(connection: Connection, overdue: timedelta) -> list[int]:
    return fhir_subscriptions.due(connection, overdue, NOTIFY.task)


SWEEP = Sweep(work=NOTIFY, stalled=_stalled, touch=fhir_subscriptions.touch)


def forget_received(pool: Pool, settings: Settings) -> None:
    """Forget notifications that were received ``fhir_notification_keep_days`` ago, some at a time."""
    with transaction(pool) as connection:
        keep = timedelta(days=settings.fhir_notification_keep_days)
        if forgotten := fhir_subscriptions.forget_sent(connection, keep):
            _log.info("notifications-forgotten", notifications=forgotten)
