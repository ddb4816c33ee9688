"""Who asks on from the last lastUpdated misses nothing, whoever writes meanwhile."""

from __future__ import annotations

import threading

import pytest

from reporting.fhir.database import resources
from reporting.fhir.http import Api
from reporting.fhir.render import draft_of
from service.database.pool import transaction
from tests.integration.reporting.fhir.conftest import Client

WRITERS, EACH = 3, 100


def patient(name: str) -> dict[str, object]:
    return {"resourceType": "Patient", "id": name, "active": True}


def write(api: Api, writer: int) -> None:
    """Write in transactions of different lengths: the clock is read long before some of them are visible."""
    for number in range(EACH):
        with transaction(api.pool) as connection:
            draft = draft_of(patient(f"{writer}-{number}"), site=api.site)
            resources.save(connection, [draft], author="test")
            connection.execute("SELECT pg_sleep(%s)", ((number * (writer + 1)) % 7 / 1000,))


@pytest.mark.parametrize("form", ["search", "history"])
def test_a_poller_misses_nothing(api: Api, client: Client, form: str) -> None:
    writers = [threading.Thread(target=write, args=(api, n)) for n in range(WRITERS)]
    for writer in writers:
        writer.start()
    seen: set[str] = set()
    last, finished = "2000-01-01T00:00:00.000Z", False
    while True:
        asked = f"Patient?_lastUpdated=gt{last}&_count=7"
        answer = client.get(asked if form == "search" else f"Patient/_history?_since={last}&_count=7")
        found = []
        while True:
            assert answer.status == 200, answer.content
            found += [entry["resource"] for entry in answer.json().get("entry", [])]
            if (link := answer.link("next")) is None:
                break
            answer = client.get(link)
        seen |= {each["id"] for each in found}
        last = max([last, *(each["meta"]["lastUpdated"] for each in found)])
        if finished:
            break
        finished = not any(writer.is_alive() for writer in writers)
    for writer in writers:
        writer.join()
    assert len(seen) == WRITERS * EACH


def test_what_is_shown_ends_before_the_oldest_write_under_way(api: Api, client: Client) -> None:
    assert client.ask("PUT", "Patient/a", patient("a")).status == 201
    with transaction(api.pool) as connection:
        resources.save(connection, [draft_of(patient("slow"), site=api.site)], author="test")
        assert client.ask("PUT", "Patient/b", patient("b")).status == 201
        assert client.get("Patient?_lastUpdated=gt2000").ids() == ["a"]
        assert set(client.get("Patient?_sort=-_lastUpdated").ids()) == {"a"}
        assert len(client.get("Patient/_history?_since=2000").json()["entry"]) == 1
        assert client.get("Patient/b/$everything?_since=2000").ids() == []
        assert set(client.get("Patient").ids()) == {"a", "b"}  # who does not ask on sees all there is
    assert set(client.get("Patient?_lastUpdated=gt2000").ids()) == {"a", "slow", "b"}


def test_the_audit_is_polled_alike(client: Client) -> None:
    client.get("Patient")
    first = client.get("AuditEvent?_lastUpdated=gt2000").json()["entry"][0]["resource"]
    later = client.get(f"AuditEvent?_lastUpdated=gt{first['meta']['lastUpdated']}")
    assert [e["resource"]["id"] for e in later.json()["entry"]] != [first["id"]]
