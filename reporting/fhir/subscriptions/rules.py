"""Subscriptions (R4, rest-hook): taken from clients, matched against new Observations.

Secrets in ``channel.header`` are kept apart from the resource, which shows ``***`` in their place; a client
that writes ``***`` back keeps the value.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from reporting.fhir.access import Principal
from reporting.fhir.database import resources as fhir_resources
from reporting.fhir.database import subscriptions as fhir_subscriptions
from reporting.fhir.database.records import Criterion, Saved, SaveOutcome, Search, StoredResource, TokenValue
from reporting.fhir.database.searching import search as fhir_search
from reporting.fhir.database.subscriptions import Subscriber
from reporting.fhir.http import PLAIN_JSON, Api, Request, moment_of
from reporting.fhir.outcome import FhirProblemError, IssueType
from reporting.fhir.render import draft_of, loads
from reporting.fhir.search.restrict import may_chain
from reporting.fhir.search.search_request import RESULT_PARAMETERS, parse
from reporting.fhir.search_table import RESOURCE_TYPES
from reporting.fhir.site import Site, site_of
from service.config import LOOPBACK, Settings
from service.database import outbox
from service.database.pool import Connection
from service.errors import RecordNotFoundError
from service.steps import NOTIFY

TOLD_OF = "Observation"  # the only type that is subscribed to
_PAYLOADS = ("", "application/fhir+json", PLAIN_JSON)
_ID = RESOURCE_TYPES[TOLD_OF].parameters["_id"]
_MASK = "***"
_HEADER = re.compile(r"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(?P<value>[\x20-\x7e]*)\Z")
# What the connection or the payload decides.
_OWN_HEADERS = {
    "connection", "content-length", "content-type", "content-encoding", "expect", "host", "keep-alive",
    "te", "trailer", "transfer-encoding", "upgrade",
}  # fmt: skip


# --- taken from clients


def prepare(
    api: Api, request: Request, connection: Connection, resource: dict[str, Any]
) -> tuple[dict[str, Any], Subscriber]:
    """Check a Subscription that a client writes.

    Args:
        api: Of the process.
        request: Its principal becomes or is the owner.
        connection: In the transaction that saves it.
        resource: Valid R4, with its id.

    Returns:
        The resource to save, active if it was asked for and without secrets, and what is kept beside it.

    Raises:
        FhirProblemError: It asks for what is not served (422) or what its client may not see (403).
    """
    known = fhir_subscriptions.get(connection, resource["id"])
    owner = request.principal.client_id
    if known is not None and known.client_id != owner:
        raise FhirProblemError(
            403, IssueType.FORBIDDEN, "this is another client's Subscription", "http.authorization"
        )
    grant = request.principal.grant(TOLD_OF, "s")
    if grant.patients is not None or grant.alternatives:
        raise FhirProblemError(
            403, IssueType.FORBIDDEN, f"no scope grants all of {TOLD_OF}", "http.authorization"
        )
    status = _status(resource, known)
    channel = resource["channel"]
    headers = _headers(channel.get("header", []), known)
    subscriber = Subscriber(
        subscription_id=resource["id"],
        client_id=owner,
        is_active=status == "active",
        criteria=_criteria(resource["criteria"], request.principal, api.site),
        endpoint=_endpoint(channel, api.settings),
        payload=_payload(channel),
        headers=headers,
        ends_at=_end(resource, api.site),
    )
    shown = {**channel, "header": [f"{header.partition(':')[0]}: {_MASK}" for header in headers]}
    if not headers:
        del shown["header"]
    rest = {key: value for key, value in resource.items() if key != "error"}
    return {**rest, "status": status, "channel": shown}, subscriber


def _refuse(code: IssueType, diagnostics: str, element: str) -> FhirProblemError:
    return FhirProblemError(422, code, diagnostics, f"Subscription.{element}")


def _status(resource: Mapping[str, Any], known: Subscriber | None) -> str:
    status = resource["status"]
    if status == "off" or (status == "active" and known is not None and known.is_active):
        return str(status)
    if status != "requested":
        raise _refuse(IssueType.VALUE, "a client writes the status requested or off", "status")
    return "active"


def _criteria(text: str, principal: Principal, site: Site) -> str:
    resource_type, _, query = text.partition("?")
    if resource_type != TOLD_OF:
        raise _refuse(IssueType.NOT_SUPPORTED, f"criteria are {TOLD_OF} or {TOLD_OF}?search", "criteria")
    pairs = parse_qsl(query, keep_blank_values=True)
    for name, _ in pairs:
        if re.split(r"[:.]", name, maxsplit=1)[0] in RESULT_PARAMETERS:
            raise _refuse(IssueType.NOT_SUPPORTED, f"{name} selects no resource", "criteria")
    try:
        asked = parse(TOLD_OF, pairs, strict=True, site=site)
    except FhirProblemError as exc:
        raise _refuse(IssueType.VALUE, str(exc), "criteria") from exc
    may_chain(principal, asked.search.criteria)
    return text


def _endpoint(channel: Mapping[str, Any], settings: Settings) -> str:
    if channel["type"] != "rest-hook":
        raise _refuse(IssueType.NOT_SUPPORTED, "the channel is rest-hook", "channel.type")
    endpoint = str(channel.get("endpoint", ""))
    if not is_allowed(endpoint, settings.fhir_subscription_endpoints):
        raise _refuse(
            IssueType.FORBIDDEN, "this endpoint is not among those allowed here", "channel.endpoint"
        )
    return endpoint


def is_allowed(endpoint: str, allowed: Sequence[str]) -> bool:
    """Whether an endpoint is one of the allowed URLs or below one: same scheme, host and port.

    Without TLS only this machine is notified, whatever is allowed.
    """
    try:
        asked = urlsplit(endpoint)
        place = (asked.scheme, asked.hostname, asked.port)
    except ValueError:
        return False
    if asked.scheme != "https" and not (asked.scheme == "http" and asked.hostname in LOOPBACK):
        return False
    if (
        asked.username is not None
        or asked.fragment
        or not endpoint.isprintable()
        or not _is_plain(asked.path)
    ):
        return False
    for each in allowed:
        base = urlsplit(each)
        below = base.path.rstrip("/")
        if place == (base.scheme, base.hostname, base.port) and (
            asked.path == below or asked.path.startswith(below + "/")
        ):
            return True
    return False


def _is_plain(path: str) -> bool:
    """Whether a path means what it says to every server it may pass: no dots, no escapes of escapes."""
    text = unquote(path)
    if "%" in text or "\\" in text or not text.isprintable() or text.count("/") != path.count("/"):
        return False
    if "\ufffd" in text or unicodedata.normalize("NFKC", text) != text:
        return False  # bytes that are no UTF-8, or characters that a server may take for dots and slashes
    # servers of servlets take what follows a semicolon away, and see a step of dots where there was none
    return not any(step.partition(";")[0] in (".", "..") or ";" in step for step in text.split("/"))


def _payload(channel: Mapping[str, Any]) -> str:
    payload = str(channel.get("payload", ""))
    if payload not in _PAYLOADS:
        raise _refuse(
            IssueType.NOT_SUPPORTED, "the payload is application/fhir+json or none", "channel.payload"
        )
    return payload


def _headers(given: Sequence[str], known: Subscriber | None) -> tuple[str, ...]:
    kept = {header.partition(":")[0].lower(): header for header in known.headers} if known else {}
    made = []
    for place, text in enumerate(given):
        match = _HEADER.match(text)
        where = f"channel.header[{place}]"
        if match is None:
            raise _refuse(IssueType.VALUE, "a header is Name: value", where)
        name = match["name"]
        if name.lower() in _OWN_HEADERS:
            raise _refuse(IssueType.VALUE, f"{name} is not for a client to set", where)
        if match["value"] != _MASK:
            made.append(f"{name}: {match['value']}")
        elif name.lower() in kept:
            made.append(kept[name.lower()])
        else:
            raise _refuse(IssueType.VALUE, f"the value of {name} is not known here", where)
    return tuple(made)


def _end(resource: Mapping[str, Any], site: Site) -> datetime | None:
    if "end" not in resource:
        return None
    end = moment_of(str(resource["end"]), "end", site.zone)
    if end <= datetime.now(UTC) and resource["status"] == "requested":
        raise _refuse(IssueType.VALUE, "the end is over", "end")
    return end


# --- matched and told


def announce(connection: Connection, saved: Sequence[Saved], settings: Settings) -> int:
    """Note who is to be told of new versions, in the transaction that saves them.

    Args:
        connection: In the transaction.
        saved: What was saved; only new versions of Observations count.
        settings: Uses the base URL.

    Returns:
        How many notifications are on their way.
    """
    new = [
        each.resource
        for each in saved
        if each.resource.resource_type == TOLD_OF and each.outcome is not SaveOutcome.UNCHANGED
    ]
    subscribers = fhir_subscriptions.active(connection) if new else []
    told, site = 0, site_of(settings)
    for subscriber in subscribers:
        try:
            search = _search(subscriber, site)
        except FhirProblemError as exc:  # taken by an earlier release; results do not wait for it
            in_error(connection, subscriber, str(exc), settings)
            continue
        for version in new:
            if _matches(connection, search, version):
                number = fhir_subscriptions.add(
                    connection,
                    subscriber.subscription_id,
                    version.resource_type,
                    version.resource_id,
                    version.version_id,
                )
                if number is not None:
                    outbox.put(connection, NOTIFY.task, NOTIFY.queue, number)
                    told += 1
    if told:
        outbox.nudge(connection)
    return told


def _search(subscriber: Subscriber, site: Site) -> Search:
    pairs = parse_qsl(subscriber.criteria.partition("?")[2], keep_blank_values=True)
    return parse(TOLD_OF, pairs, strict=True, site=site).search


def _matches(connection: Connection, search: Search, version: StoredResource) -> bool:
    this = Criterion(parameter=_ID, values=(TokenValue(system=None, code=version.resource_id),))
    wanted = Search(resource_type=TOLD_OF, criteria=(this, *search.criteria))
    return fhir_search.count(connection, wanted) > 0


def in_error(connection: Connection, subscriber: Subscriber, error: str, settings: Settings) -> None:
    """Put a Subscription in error: it is told no more until its client asks for it again."""
    if not fhir_subscriptions.deactivate(connection, subscriber.subscription_id):
        return
    stored = fhir_resources.read_for_update(connection, "Subscription", subscriber.subscription_id)
    if stored is None:
        return
    resource = {**loads(stored.body), "status": "error", "error": error}
    draft = draft_of(resource, site=site_of(settings))
    fhir_resources.save(connection, [draft], author="semblance")


def revive(connection: Connection, subscription_id: str, settings: Settings) -> int:
    """Take a Subscription that is in error up again, with all that was given up, on an operator's word.

    Args:
        connection: In a transaction.
        subscription_id: Logical id.
        settings: Uses the base URL.

    Returns:
        How many notifications are on their way again.

    Raises:
        RecordNotFoundError: There is no such Subscription, or its client has ended it.
    """
    stored = fhir_resources.read_for_update(connection, "Subscription", subscription_id)
    resource = loads(stored.body) if stored is not None else {"status": "off"}
    if resource["status"] == "off":
        raise RecordNotFoundError(f"no Subscription {subscription_id} that its client wants")
    numbers = fhir_subscriptions.revive(connection, subscription_id)
    active = {key: value for key, value in resource.items() if key != "error"} | {"status": "active"}
    draft = draft_of(active, site=site_of(settings))
    fhir_resources.save(connection, [draft], author="semblance")
    for number in numbers:
        outbox.put(connection, NOTIFY.task, NOTIFY.queue, number)
    if numbers:
        outbox.nudge(connection)
    return len(numbers)
