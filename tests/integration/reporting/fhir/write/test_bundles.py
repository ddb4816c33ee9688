"""Bundles: the order of entries says nothing, nobody waits for ever, and the answer says what was written."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from typing import Any

import psycopg
import pytest

from reporting.fhir.http import Api
from service.config import Settings
from service.database.pool import in_transaction, transaction
from service.errors import StatementTimeoutError, TransactionConflictError
from tests.integration.reporting.fhir.conftest import Answer, Client
from tests.integration.reporting.fhir.write.bodies import PATIENT, bundle_of, post, procedure

SURGEON = {"resourceType": "Practitioner", "identifier": [{"value": "s1"}], "name": [{"family": "Lane"}]}


def test_conditional_references_are_looked_up_after_the_writes(client: Client) -> None:
    operation = procedure(
        "Patient?identifier=77", performer=[{"actor": {"reference": "Practitioner?identifier=s1"}}]
    )
    entries = [post(PATIENT), post(SURGEON), post(operation)]
    for place, order in enumerate(itertools.permutations(entries)):
        bundle = bundle_of(*order)
        text = str(bundle).replace("77", f"77-{place}").replace("'s1'", f"'s1-{place}'")
        text = text.replace("identifier=s1", f"identifier=s1-{place}")
        answer = client.ask("POST", "", eval(text))  # noqa: S307 - of our own making
        assert answer.status == 200, answer.content
        assert len(client.get(f"Procedure?patient.identifier=77-{place}").ids()) == 1
        assert len(client.get(f"Procedure?performer:Practitioner.identifier=s1-{place}").ids()) == 1
        assert (
            client.get(f"Patient?identifier=77-{place}").json()["entry"][0]["resource"]["meta"]["versionId"]
            == "1"
        )
    assert client.get("Procedure/_history").json()["entry"].__len__() == 6


def test_conditions_of_each_on_the_other(client: Client) -> None:
    def patient(number: str, other: str) -> dict[str, Any]:
        link = [{"other": {"reference": f"Patient?identifier={other}"}, "type": "seealso"}]
        return {"resourceType": "Patient", "identifier": [{"value": number}], "link": link}

    answer = client.ask("POST", "", bundle_of(post(patient("a", "b")), post(patient("b", "a"))))
    assert answer.status == 200, answer.content
    first, second = client.get("Patient?identifier=a").ids()[0], client.get("Patient?identifier=b").ids()[0]
    assert client.get(f"Patient?link={second}").ids() == [first]
    assert client.get(f"Patient?link={first}").ids() == [second]


def test_a_condition_with_no_match_or_two_writes_nothing(client: Client) -> None:
    assert (
        client.ask("POST", "", bundle_of(post(SURGEON), post(procedure("Patient?identifier=9")))).status
        == 412
    )
    twice = bundle_of(post(PATIENT), post(PATIENT), post(procedure("Patient?identifier=77")))
    assert client.ask("POST", "", twice).status == 412
    for resource_type in ("Patient", "Practitioner", "Procedure"):
        assert client.get(resource_type).ids() == []


@pytest.mark.parametrize("second", ["identifier=77", "identifier=77&_id:missing=false", "identifier=%37%37"])
def test_the_same_condition_twice_makes_one(client: Client, second: str) -> None:
    first = "identifier=77" if "missing" not in second else "_id:missing=false&identifier=77"
    bundle = bundle_of(
        post(PATIENT, "urn:uuid:1", ifNoneExist=first),
        post(procedure("urn:uuid:2")),
        post(PATIENT, "urn:uuid:2", ifNoneExist=second),
    )
    for statuses in (["201 Created", "201 Created", "200 OK"], ["200 OK", "201 Created", "200 OK"]):
        answer = client.ask("POST", "", bundle)
        assert [e["response"]["status"] for e in answer.json()["entry"]] == statuses
        assert len({answer.json()["entry"][n]["fullUrl"] for n in (0, 2)}) == 1
    (patient,) = client.get("Patient").ids()
    assert len(client.get(f"Procedure?patient={patient}").ids()) == 2


def test_opposite_orders_at_once_never_fail(client: Client) -> None:
    """Conditional creates and updates of two types, in both orders, by many at once."""
    for resource in (PATIENT | {"id": "p1"}, SURGEON | {"id": "s1"}):
        client.ask("PUT", f"{resource['resourceType']}/{resource['id']}", resource)
    answers: list[Answer] = []

    def send(number: int) -> None:
        entries = [
            post(PATIENT, ifNoneExist=f"identifier=urn:a|{number}"),
            post(SURGEON, ifNoneExist=f"identifier=urn:b|{number}"),
            put(PATIENT | {"id": "p1", "birthDate": f"2019-02-{number + 1:02}"}),
            put(PATIENT | {"id": "p2", "birthDate": f"2019-02-{number + 1:02}"}),
            put(SURGEON | {"id": "s1", "name": [{"family": f"Lane {number}"}]}),
        ]
        answers.append(client.ask("POST", "", bundle_of(*(entries if number % 2 else reversed(entries)))))

    threads = [threading.Thread(target=send, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(a.status for a in answers) == {200: 20}


def put(resource: dict[str, Any]) -> dict[str, Any]:
    name = f"{resource['resourceType']}/{resource['id']}"
    return {"resource": resource, "request": {"method": "PUT", "url": name}}


def test_a_batch_answers_for_each_entry_and_writes_what_it_says(client: Client) -> None:
    bad: list[Any] = [
        None,
        7,
        {},
        {"resource": PATIENT},
        {"request": {"method": "POST", "url": "Patient"}},
        post(PATIENT | {"active": "yes"}),
        post(PATIENT | {"birthDate": 0}),
        post(PATIENT, ifNoneExist="unheard=1"),
        post({"resourceType": "Observation"}),
        post(procedure("urn:uuid:none")),
        {
            "resource": PATIENT | {"id": "p1"},
            "request": {"method": "PUT", "url": "Patient/p1", "ifMatch": 'W/"9"'},
        },
        post(PATIENT | {"contact": None}),
    ]
    entries = [each for wrong in bad for each in (wrong, post(PATIENT))]
    answer = client.ask("POST", "", bundle_of(*entries, kind="batch"))
    assert answer.status == 200
    statuses = [e["response"]["status"] for e in answer.json()["entry"]]
    assert len(statuses) == len(entries)
    assert all(status.startswith("4") for status in statuses[::2]), statuses
    assert statuses[1::2] == ["201 Created"] * len(bad)
    assert client.get("Patient?_summary=count").json()["total"] == len(bad)


def test_a_collision_is_run_again_and_named_if_it_stays(api: Api, settings: Settings) -> None:
    attempts = 0

    def collides(connection: Any) -> str:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise psycopg.errors.DeadlockDetected
        return "done"

    assert in_transaction(api.pool, collides) == "done"
    assert attempts == 3

    def always(connection: Any) -> None:
        raise psycopg.errors.SerializationFailure

    with pytest.raises(TransactionConflictError):
        in_transaction(api.pool, always)


def test_a_statement_that_takes_too_long_is_named(api: Api) -> None:
    def slow() -> None:
        with transaction(api.pool) as connection:
            connection.execute("SET LOCAL statement_timeout = 1")
            connection.execute("SELECT pg_sleep(5)")

    with pytest.raises(StatementTimeoutError):
        slow()
