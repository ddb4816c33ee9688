"""Subscriptions: taken from clients, told of new Observations over real HTTP, in error after failures."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from reporting.fhir.database import subscriptions as fhir_subscriptions
from reporting.fhir.http import Api
from reporting.fhir.subscriptions.notifications import SWEEP, forget_received, notify
from reporting.fhir.valid.validate import issues_of
from reporting.identifiers import fhir_id
from service.config import Settings
from service.database import outbox
from service.database.pool import transaction
from service.errors import BrokerUnavailableError
from service.pipeline.context import Context
from service.pipeline.sweeper import SWEEPS, sweep
from service.steps import NOTIFY, Queue
from tests.command import semblance
from tests.integration.reporting.fhir.conftest import Client, Save
from tests.integration.reporting.fhir.subscriber import Endpoint, listening

ANNA = fhir_id("Patient", "HOSPITAL-A", "ANNA")
ATTEMPTS = 3


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with listening() as here:
        yield here


@pytest.fixture
def settings(settings: Settings, endpoint: Endpoint) -> Settings:
    return settings.model_copy(
        update={
            "fhir_subscription_endpoints": (f"{endpoint.url}/hooks", "https://ehr.example/in"),
            "fhir_notification_max_attempts": ATTEMPTS,
            "retry_base_s": 1e-6,
        }
    )


@pytest.fixture
def context(api: Api) -> Context:
    return Context(settings=api.settings, pool=api.pool, store=api.store)


class Idle:
    """A broker with nothing in its queues."""

    def publish(self, message: outbox.OutboxMessage) -> None:
        raise BrokerUnavailableError(message.task)

    def depth(self, queue: Queue) -> int:
        return 0


def subscription(here: Endpoint, criteria: str = "Observation", /, **channel: Any) -> dict[str, Any]:
    made = {"type": "rest-hook", "endpoint": f"{here.url}/hooks/a", "payload": "application/fhir+json"}
    return {
        "resourceType": "Subscription", "status": "requested", "reason": "scores", "criteria": criteria,
        "channel": {k: v for k, v in (made | channel).items() if v is not None},
    }  # fmt: skip


def subscribe(client: Client, resource: dict[str, Any]) -> dict[str, Any]:
    answer = client.ask("POST", "Subscription", resource)
    assert answer.status == 201, answer.content
    made: dict[str, Any] = answer.json()
    return made


def messages(context: Context) -> list[int]:
    """Takes the notifications that are due out of the outbox, as the relay does."""
    with transaction(context.pool) as connection:
        found = [m for m in outbox.take_due(connection, 100) if m.task == NOTIFY.task]
        outbox.delete(connection, [m.outbox_id for m in found])
    return [int(m.subject_id) for m in found]


def state(context: Context) -> list[tuple[str, int, str]]:
    with transaction(context.pool) as connection:
        rows = connection.execute(
            "SELECT state, attempts, last_error FROM fhir_notification ORDER BY notification_id"
        ).fetchall()
    return [(row["state"], row["attempts"], row["last_error"]) for row in rows]


def make_due(context: Context) -> None:
    with transaction(context.pool) as connection:
        connection.execute("UPDATE fhir_notification SET next_attempt_at = now() - interval '1 hour'")
        connection.execute("UPDATE outbox SET not_before = now()")


def test_a_new_observation_is_put_to_its_subscriber(
    client: Client, context: Context, endpoint: Endpoint, save_photograph: Save
) -> None:
    made = subscribe(client, subscription(endpoint, header=["Authorization: Bearer secret"]))
    assert made["status"] == "active"
    assert made["channel"]["header"] == ["Authorization: ***"]
    saved = save_photograph(1, "ANNA")
    observation = next(s.resource for s in saved if s.resource.resource_type == "Observation")
    waiting = messages(context)
    assert len(waiting) == 1
    notify(context, waiting[0])
    taken = endpoint.taken[0]
    assert (taken.method, taken.path) == ("PUT", f"/hooks/a/Observation/{observation.resource_id}")
    assert taken.body.decode() == observation.body
    assert taken.headers["authorization"] == "Bearer secret"
    assert taken.headers["content-type"] == "application/fhir+json; charset=utf-8"
    assert state(context) == [("sent", 1, "")]
    notify(context, waiting[0])  # the message came twice
    assert len(endpoint.taken) == 1
    save_photograph(1, "ANNA")  # nothing new
    assert messages(context) == []


def test_a_notification_leaves_an_audit_event(
    client: Client, context: Context, endpoint: Endpoint, save_photograph: Save
) -> None:
    subscribe(client, subscription(endpoint, endpoint=f"{endpoint.url}/hooks/a?key=secret"))
    save_photograph(1, "ANNA")
    notify(context, messages(context)[0])
    assert endpoint.taken[0].path.endswith("?key=secret")
    events = client.get(f"AuditEvent?patient={ANNA}&type=110106").json()["entry"]
    assert len(events) == 1
    event = events[0]["resource"]
    assert list(issues_of(event)) == []
    assert event["agent"][1]["network"]["address"] == f"{endpoint.url}/hooks/a"
    assert event["agent"][1]["who"]["identifier"]["value"] == "local"


def test_without_payload_nothing_is_sent_but_the_word(
    client: Client, context: Context, endpoint: Endpoint, save_photograph: Save
) -> None:
    subscribe(client, subscription(endpoint, payload=None))
    save_photograph(1)
    notify(context, messages(context)[0])
    taken = endpoint.taken[0]
    assert (taken.method, taken.path, taken.body) == ("POST", "/hooks/a", b"")


def test_only_what_matches_is_told(
    client: Client, context: Context, endpoint: Endpoint, save_photograph: Save
) -> None:
    subscribe(client, subscription(endpoint, f"Observation?patient={ANNA}&value-quantity=lt2"))
    subscribe(client, subscription(endpoint, "Observation?patient.identifier=BEN"))
    ended = subscribe(client, subscription(endpoint))
    off = client.ask("PUT", f"Subscription/{ended['id']}", ended | {"status": "off"})
    assert off.json()["status"] == "off"
    save_photograph(1, "ANNA", 3.0)
    save_photograph(2, "BEN", 1.0)
    save_photograph(3, "ANNA", 1.0)
    assert len(messages(context)) == 2


def test_failures_are_tried_again_and_end_in_error(
    client: Client, context: Context, endpoint: Endpoint, save_photograph: Save
) -> None:
    made = subscribe(client, subscription(endpoint, header=["X-Key: k"]))
    endpoint.status = 503
    save_photograph(1)
    save_photograph(2)
    first = messages(context)[0]
    for attempt in range(1, ATTEMPTS + 1):
        notify(context, first)
        assert len(endpoint.taken) == attempt
        expected = "dead" if attempt == ATTEMPTS else "pending"
        assert state(context)[0] == (expected, attempt, "the endpoint answered HTTP 503")
        make_due(context)
    # the other one is given up with it, and new ones are not told
    assert [row[0] for row in state(context)] == ["dead", "dead"]
    now = client.get(f"Subscription/{made['id']}").json()
    assert (now["status"], now["error"]) == ("error", "the endpoint answered HTTP 503")
    assert client.get("Subscription?status=error").ids() == [made["id"]]
    messages(context)
    save_photograph(3)
    assert messages(context) == []
    # its client asks again, with the header it does not know the value of any more
    endpoint.status = 204
    again = client.ask("PUT", f"Subscription/{made['id']}", now | {"status": "requested"}).json()
    assert again["status"] == "active"
    assert "error" not in again
    save_photograph(4)
    notify(context, messages(context)[0])
    assert endpoint.taken[-1].headers["x-key"] == "k"
    assert state(context)[-1][0] == "sent"


def test_what_was_given_up_is_shown_and_sent_again(  # noqa: PLR0917
    client: Client,
    context: Context,
    endpoint: Endpoint,
    save_photograph: Save,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SEMBLANCE_DATABASE_URL", context.settings.database_url)
    monkeypatch.setenv("SEMBLANCE_API_PORT", "8080")
    made = subscribe(client, subscription(endpoint, endpoint=f"{endpoint.url}/hooks/a?key=secret"))
    endpoint.status = 503
    saved = save_photograph(1)
    observation = next(s.resource for s in saved if s.resource.resource_type == "Observation")
    number = messages(context)[0]
    for _ in range(ATTEMPTS):
        notify(context, number)
        make_due(context)
    messages(context)
    capsys.readouterr()  # what was logged
    assert semblance("subscriptions") == 0
    printed = capsys.readouterr().out
    standing = json.loads(printed)
    assert (standing["is_active"], standing["dead"], standing["pending"]) == (False, 1, 0)
    assert standing["last_error"] == "the endpoint answered HTTP 503"
    assert "secret" not in printed
    assert semblance("subscriptions", made["id"]) == 0
    letter = json.loads(capsys.readouterr().out)
    assert letter["resource"] == f"Observation/{observation.resource_id}/_history/1"
    assert letter["attempts"] == ATTEMPTS
    endpoint.status = 200
    assert semblance("subscriptions", made["id"], "--retry") == 0
    assert capsys.readouterr().out == "1 notifications are on their way again\n"
    now = client.get(f"Subscription/{made['id']}").json()
    assert (now["status"], "error" in now) == ("active", False)
    notify(context, messages(context)[0])
    assert state(context) == [("sent", 1, "")]
    assert semblance("subscriptions", "nothing", "--retry") != 0
    assert "no Subscription nothing" in capsys.readouterr().err
    client.ask("PUT", f"Subscription/{made['id']}", now | {"status": "off"})
    assert semblance("subscriptions", made["id"], "--retry") != 0


def test_what_was_received_is_forgotten_and_what_was_given_up_is_not(
    client: Client, context: Context, endpoint: Endpoint, save_photograph: Save
) -> None:
    subscribe(client, subscription(endpoint))
    for number in range(4):
        save_photograph(number)
    sent_long_ago, sent_lately, dead, _pending = messages(context)
    notify(context, sent_long_ago)
    notify(context, sent_lately)
    with transaction(context.pool) as connection:
        fhir_subscriptions.mark_dead(connection, dead, "given up")
        connection.execute("UPDATE fhir_notification SET created_at = now() - interval '31 days'")
        connection.execute(
            "UPDATE fhir_notification SET sent_at = now() - interval '31 days' WHERE notification_id = %s",
            (sent_long_ago,),
        )
    forget_received(context.pool, context.settings)
    assert [row[0] for row in state(context)] == ["sent", "dead", "pending"]


def test_criteria_that_are_no_longer_understood_hold_no_result_up(
    client: Client, context: Context, endpoint: Endpoint, save_photograph: Save
) -> None:
    old = subscribe(client, subscription(endpoint))
    subscribe(client, subscription(endpoint, endpoint=f"{endpoint.url}/hooks/b"))
    with transaction(context.pool) as connection:
        connection.execute(
            "UPDATE fhir_subscription SET criteria = 'Observation?gone=1' WHERE subscription_id = %s",
            (old["id"],),
        )
    save_photograph(1)
    assert len(messages(context)) == 1
    assert client.get("Observation").json()["total"] == 1
    now = client.get(f"Subscription/{old['id']}").json()
    assert now["status"] == "error"
    assert "gone" in now["error"]


def test_an_endpoint_that_is_not_there(
    client: Client, api: Api, context: Context, endpoint: Endpoint, save_photograph: Save
) -> None:
    with socket.socket() as nobody:  # bound, but it does not listen
        nobody.bind(("127.0.0.1", 0))
        _nowhere(client, api, context, endpoint, save_photograph, nobody.getsockname()[1])


def _nowhere(  # noqa: PLR0917
    client: Client, api: Api, context: Context, endpoint: Endpoint, save_photograph: Save, port: int
) -> None:
    nowhere = f"http://127.0.0.1:{port}"
    moved = api.settings.model_copy(update={"fhir_subscription_endpoints": (nowhere,)})
    object.__setattr__(api, "settings", moved)
    subscribe(client, subscription(endpoint, endpoint=nowhere))
    save_photograph(1)
    number = messages(context)[0]
    notify(Context(settings=moved, pool=api.pool, store=api.store), number)
    assert state(context) == [("pending", 1, "the endpoint cannot be reached: ConnectError")]
    make_due(context)
    notify(context, number)  # the old list: it is not allowed any more
    assert state(context) == [("pending", 2, "the endpoint is no longer among those allowed here")]


def test_redirects_are_not_followed(
    client: Client, context: Context, endpoint: Endpoint, save_photograph: Save
) -> None:
    subscribe(client, subscription(endpoint))
    endpoint.status = 307
    save_photograph(1)
    notify(context, messages(context)[0])
    assert [t.path.split("/")[1] for t in endpoint.taken] == ["hooks"]
    assert state(context)[0][2] == "the endpoint answered HTTP 307"


def test_what_is_not_taken(client: Client, endpoint: Endpoint) -> None:
    here = endpoint.url
    wrong: list[tuple[dict[str, Any], str]] = [
        (subscription(endpoint, "Patient?name=x"), "criteria"),
        (subscription(endpoint, "Observation?banana=1"), "criteria"),
        (subscription(endpoint, "Observation?date=x"), "criteria"),
        (subscription(endpoint, "Observation?_include=Observation:device"), "criteria"),
        (subscription(endpoint, type="email"), "channel.type"),
        (subscription(endpoint, endpoint=f"{here}/elsewhere"), "channel.endpoint"),
        (subscription(endpoint, endpoint=f"{here}/hooks/../admin"), "channel.endpoint"),
        (subscription(endpoint, endpoint=f"{here}/hooks/%2e%2e/admin"), "channel.endpoint"),
        (subscription(endpoint, endpoint=f"{here}/hooksaw"), "channel.endpoint"),
        (subscription(endpoint, endpoint="http://169.254.169.254/latest/meta-data"), "channel.endpoint"),
        (subscription(endpoint, endpoint="http://ehr.example/in"), "channel.endpoint"),
        (subscription(endpoint, endpoint="https://user@ehr.example/in"), "channel.endpoint"),
        (subscription(endpoint, endpoint="https://ehr.example:8443/in"), "channel.endpoint"),
        (subscription(endpoint, endpoint="https://ehr.example.evil.test/in"), "channel.endpoint"),
        (subscription(endpoint, endpoint=None), "channel.endpoint"),
        (subscription(endpoint, payload="application/fhir+xml"), "channel.payload"),
        (subscription(endpoint, header=["Host: elsewhere"]), "channel.header[0]"),
        (subscription(endpoint, header=["X-A: b", "no header"]), "channel.header[1]"),
        (subscription(endpoint, header=["X-A: b\nHost: c"]), "channel.header[0]"),
        (subscription(endpoint, header=["X-A: ***"]), "channel.header[0]"),
        (subscription(endpoint) | {"status": "active"}, "status"),
        (subscription(endpoint) | {"end": "2020-01-01T00:00:00Z"}, "end"),
    ]
    for resource, element in wrong:
        answer = client.ask("POST", "Subscription", resource)
        assert answer.status == 422, resource
        assert answer.json()["issue"][0]["expression"] == [f"Subscription.{element}"], resource
    assert client.get("Subscription").json()["total"] == 0
    https = subscription(endpoint, endpoint="https://ehr.example/in/scores")
    assert client.ask("POST", "Subscription", https).status == 201


@pytest.mark.parametrize(
    "steps",
    [
        "%2e%2e",
        "%252e%252e",
        "%25252e%25252e",
        ".%2e",
        ".%252e",
        "..;",
        "..;x=y",
        "%2e%2e;",
        "%2e%2e%3b",
        "..%3b",
        "a;/..",
        ".;",
        "..%2f",
        "..%5c",
        "..\\",
        "%c0%ae%c0%ae",
        "%e0%80%ae%e0%80%ae",
        "\uff0e\uff0e",
        "%ef%bc%8e%ef%bc%8e",
        "\u2025",
        "%u002e%u002e",
        "..%00",
        "a/../..",
        "./..",
    ],
)
def test_steps_out_of_an_allowed_endpoint_are_not_taken(
    client: Client, endpoint: Endpoint, steps: str
) -> None:
    """However they are written: a server on the way may read them so."""
    for allowed in (f"{endpoint.url}/hooks", "https://ehr.example/in"):
        resource = subscription(endpoint, endpoint=f"{allowed}/{steps}/admin")
        answer = client.ask("POST", "Subscription", resource)
        assert answer.status == 422, answer.content
        assert answer.json()["issue"][0]["expression"] == ["Subscription.channel.endpoint"]
        plain = subscribe(client, subscription(endpoint, endpoint=f"{allowed}/a"))
        changed = plain | {"channel": plain["channel"] | {"endpoint": f"{allowed}/{steps}/admin"}}
        assert client.ask("PUT", f"Subscription/{plain['id']}", changed).status == 422
    taken = {each["resource"]["channel"]["endpoint"] for each in client.get("Subscription").json()["entry"]}
    assert taken == {f"{endpoint.url}/hooks/a", "https://ehr.example/in/a"}


def test_none_is_taken_where_no_endpoint_is_allowed(client: Client, api: Api, endpoint: Endpoint) -> None:
    closed = api.settings.model_copy(update={"fhir_subscription_endpoints": ()})
    object.__setattr__(api, "settings", closed)
    assert client.ask("POST", "Subscription", subscription(endpoint)).status == 422


def test_a_notification_the_broker_lost_is_enqueued_again(
    client: Client, context: Context, endpoint: Endpoint, save_photograph: Save
) -> None:
    subscribe(client, subscription(endpoint))
    save_photograph(1)
    lost = messages(context)
    assert sweep(context.pool, Idle(), context.settings, (*SWEEPS, SWEEP)) == 0
    make_due(context)
    assert sweep(context.pool, Idle(), context.settings, (*SWEEPS, SWEEP)) == 1
    assert messages(context) == lost


def test_a_transaction_may_subscribe(client: Client, endpoint: Endpoint) -> None:
    entry = {"resource": subscription(endpoint), "request": {"method": "POST", "url": "Subscription"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    assert client.ask("POST", "", bundle).status == 200
    assert client.get("Subscription?status=active").json()["total"] == 1
    assert json.loads(client.get("Subscription?url=" + f"{endpoint.url}/hooks/a").content)["total"] == 1
