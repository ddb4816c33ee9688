"""Every access leaves an AuditEvent, or it is not answered."""

from __future__ import annotations

import base64
import threading

import psycopg
import pytest

from reporting.fhir.http import Api
from reporting.fhir.valid.validate import issues_of
from reporting.identifiers import fhir_id
from service.audit.trail import seal_pending, verify
from tests.integration.reporting.fhir.conftest import Client, Save

ANNA = fhir_id("Patient", "HOSPITAL-A", "ANNA")


def test_a_search_is_recorded_with_its_query(client: Client, save_photograph: Save) -> None:
    save_photograph(1, "ANNA")
    client.get(f"Observation?patient={ANNA}&code=score")
    events = client.get(f"AuditEvent?patient={ANNA}").json()["entry"]
    assert len(events) == 1
    event = events[0]["resource"]
    assert list(issues_of(event)) == []
    assert (event["action"], event["outcome"], event["subtype"][0]["code"]) == ("E", "0", "search-type")
    queries = [base64.b64decode(e["query"]).decode() for e in event["entity"] if "query" in e]
    assert queries == [f"GET Observation?patient={ANNA}&code=score"]
    references = {e["what"]["reference"].split("/")[0] for e in event["entity"] if "what" in e}
    assert references == {"Patient"}
    assert event["agent"][0]["network"]["address"] == "127.0.0.1"


def test_reads_writes_and_refusals_are_recorded(client: Client, save_photograph: Save) -> None:
    save_photograph(1, "ANNA")
    client.get(f"Patient/{ANNA}")
    client.get("Patient/none")
    client.ask("POST", "Patient", {"resourceType": "Patient", "gender": "banana"})
    client.ask("POST", "Patient", {"resourceType": "Patient"})
    found = client.get("AuditEvent?_sort=date").json()["entry"]
    seen = sorted((e["resource"]["action"], e["resource"]["outcomeDesc"]) for e in found)
    assert seen == [("C", "HTTP 201"), ("C", "HTTP 422"), ("R", "HTTP 200"), ("R", "HTTP 404")]
    assert client.get("AuditEvent?outcome=4&_summary=count").json()["total"] == 2
    client.get("metadata")
    assert client.get("AuditEvent?_summary=count").json()["total"] == 6


def test_accesses_at_the_same_time_are_all_recorded(client: Client) -> None:
    threads = [threading.Thread(target=client.get, args=("Observation",)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.get("AuditEvent?subtype=search-type&_summary=count").json()["total"] == 12


def test_what_cannot_be_recorded_is_not_answered(api: Api, client: Client, save_photograph: Save) -> None:
    save_photograph(1, "ANNA")
    with api.pool.connection() as connection:
        connection.execute("ALTER TABLE fhir_token ADD CONSTRAINT broken CHECK (param <> 1002) NOT VALID")
    answer = client.get(f"Patient/{ANNA}")
    assert answer.status == 503
    assert b"birthDate" not in answer.content


def test_audit_events_cannot_be_written_by_clients(client: Client) -> None:
    assert client.ask("POST", "AuditEvent", {"resourceType": "AuditEvent"}).status == 405


def test_events_are_sealed_and_a_changed_one_shows(api: Api, client: Client) -> None:
    client.get("Observation?code=score")
    client.get("Patient/none")
    assert seal_pending(api.pool, api.settings) > 2  # with what describes the service
    with api.pool.connection() as connection:
        assert verify(connection).faults == ()
    for change in ("UPDATE fhir_resource SET body = '{}' WHERE type = 'AuditEvent'",
                   "DELETE FROM fhir_resource WHERE type = 'AuditEvent'"):  # fmt: skip
        with pytest.raises(psycopg.errors.RaiseException), api.pool.connection() as connection:
            connection.execute(change.encode())
    # somebody who owns the database
    with api.pool.connection() as connection:
        connection.execute("SET session_replication_role = replica")
        rows = connection.execute(
            "SELECT resource_id FROM fhir_resource WHERE type = 'AuditEvent' ORDER BY resource_id"
        ).fetchall()
        first, second = (row["resource_id"] for row in rows)
        connection.execute(
            "UPDATE fhir_resource SET body = replace(body, 'HTTP 200', 'HTTP 404') WHERE resource_id = %s",
            (first,),
        )
        connection.execute("DELETE FROM fhir_resource WHERE resource_id = %s", (second,))
        connection.execute("SET session_replication_role = origin")
    with api.pool.connection() as connection:
        found = [(fault.row_id, fault.what) for fault in verify(connection).faults]
    assert found == [(first, "changed"), (second, "deleted")]


def test_the_audit_outlives_a_lost_connection(api: Api, client: Client) -> None:
    client.get("Observation")
    with api.pool.connection() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert client.get("Observation").status == 200
    assert client.get("AuditEvent?subtype=search-type&_summary=count").json()["total"] == 2
