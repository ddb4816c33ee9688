"""Wrong, contradictory and malicious reads: refused where the fault is, never failed at or ignored."""

from __future__ import annotations

import base64
import gzip
import json

import pytest

from reporting.fhir.http import Api
from service.database.pool import transaction
from tests.integration.reporting.fhir.conftest import Client, Save
from tests.integration.reporting.fhir.hostile import patient, put, refused

_HUGE = "9" * 5000

# URL -> status, expression; whatever the preference.
READS: dict[str, tuple[int, str]] = {
    "Observation?_count=%C2%B2": (400, "http._count"),
    "Observation?_count=-1": (400, "http._count"),
    "Observation?_count=1&_count=2": (400, "http._count"),
    "Observation?_count:exact=5": (400, "http._count:exact"),
    "Observation?_count.x=5": (400, "http._count.x"),
    "Observation?_sort=date&_sort=-date": (400, "http._sort"),
    "Observation?_summary=true&_summary=count": (400, "http._summary"),
    "Observation?_summary=text&_include=Observation:subject": (400, "http._summary"),
    "Observation?_include=Observation:subject:Banana": (400, "http._include"),
    "Observation?_include=Observation:subject:Device": (400, "http._include"),
    "Observation?code=,": (400, "http.code"),
    "Observation?code=%7C": (400, "http.code"),
    "Observation?code=a%7C%7Cb": (400, "http.code"),
    "Observation?status=final,": (400, "http.status"),
    "Observation?patient:=1": (400, "http.patient:"),
    "Observation?subject:Patient=Device/1": (400, "http.subject:Patient"),
    "Observation?patient=Device/1": (400, "http.patient"),
    "Observation?subject:Device.identifier=x": (400, "http.subject.identifier"),
    "Observation?date=%D9%A2020": (400, "http.date"),
    "Observation?value-quantity=1_0": (400, "http.value-quantity"),
    "Observation?value-quantity=%D9%A1": (400, "http.value-quantity"),
    "Observation?value-quantity=%201": (400, "http.value-quantity"),
    f"Observation?value-quantity={_HUGE}": (400, "http.value-quantity"),
    "Observation?component-code-value-quantity=$1": (400, "http.component-code-value-quantity"),
    "Patient?name=,a": (400, "http.name"),
    f"Patient?{'link.' * 900}identifier=x": (400, f"http.{('link.' * 20)[:60]}"),
    f"Patient?{'_has:Patient:link:' * 300}name=x": (400, f"http.{('_has:Patient:link:' * 9)[:60]}"),
    "Observation?_id=" + ",".join(f"i{n}" for n in range(5001)): (400, "http.query"),
    "Observation/$lastn?patient=1&max=%C2%B2": (400, "http.max"),
    "Observation/$lastn?patient=1&max=1&max=2": (400, "http.max"),
    "Observation/$lastn?patient:missing=true": (400, "http.patient"),
    "Observation/$lastn?patient=1&_format=xml": (406, "http._format"),
    "Observation?_format=json&_format=xml": (406, "http._format"),
    "Patient/_history?_count=%C2%B2": (400, "http._count"),
    "Patient/_history?_count=1&_count=2": (400, "http._count"),
    "Patient/_history?_since=9999-12-31T23:59:59-14:00": (400, "http._since"),
    "Patient/_history?_page=abc": (400, "http._page"),
    "Patient/p1/_history/%C2%B2": (404, "http.path"),
    f"Patient/p1/_history/{_HUGE}": (404, "http.path"),
    "Patient/p1?_elements=banana": (400, "http._elements"),
    "Patient/p1?_summary=count": (400, "http._summary"),
    "Patient/p1/$everything?_count=%C2%B2": (400, "http._count"),
    "Patient/p1/$everything?start=2030&end=2020": (400, "http.start"),
    "Patient/p1/$everything?_since=2020-01-01&_since=2021-01-01": (400, "http._since"),
    "metadata?mode=terminology": (400, "http.mode"),
}

# What is left out, and said, with handling=lenient; and refused with handling=strict.
IGNORED = (
    "Observation?patient=",
    "Observation?patient.identifier=",
    "Observation?=1",
    "Observation?foo",
    "Observation/$lastn?patient=p1&foo=1",
    "Observation/$lastn?patient=p1&_count=1",
    "Observation/$lastn?patient=p1&_sort=date",
    "Patient/p1/$everything?foo=1",
)

# What has no place to say so, and is refused with handling=strict.
UNSAID = (
    "Patient/p1?foo=1",
    "Patient/p1/_history?_at=2020",
    "Patient/_history?foo=1",
    "metadata?foo=1",
    "Patient/p1/_history/1?foo=1",
)


def test_wrong_reads_are_refused_where_they_are_wrong(client: Client) -> None:
    put(client)
    for preference in ("handling=lenient", "handling=strict"):
        for url, (status, expression) in READS.items():
            refused(client.get(url, Prefer=preference), status, expression, url)


def test_what_is_left_out_is_said_and_with_strict_refused(client: Client) -> None:
    put(client)
    for url in IGNORED:
        answer = client.get(url)
        assert answer.status == 200, url
        (note,) = [e["resource"] for e in answer.json()["entry"] if e["search"]["mode"] == "outcome"]
        assert note["issue"][0]["severity"] == "warning", url
        left_out = note["issue"][0]["expression"][0].removeprefix("http.")
        assert f"{left_out}=" not in (answer.link("self") or "").partition("?")[2].split("&"), url
    for url in (*IGNORED, *UNSAID):
        assert client.get(url, Prefer="handling=strict").status == 400, url
    for url in UNSAID:
        assert client.get(url).status == 200, url


def test_odd_but_right_requests_are_answered(client: Client) -> None:
    put(client, birthDate="9999-12-31")
    for url, found in {
        f"Patient?_count={_HUGE}": 1,
        "Patient?birthdate=le9999-12-31": 1,
        "Patient?birthdate=9999-12-31": 1,
        "Patient?birthdate=9999": 1,
        "Patient?birthdate=ap9999": 1,
        "Patient?birthdate=lt9999": 0,
        "Patient?_lastUpdated=lt9999-12-31T23:59:59.999Z": 1,
        "Patient?name:contains=%25": 0,
        "Patient?name=_": 0,
        "Patient?name=wei%C3%9F": 1,
        "Patient?_id=" + ",".join(["p1", *(f"i{n}" for n in range(4000))]): 1,
    }.items():
        answer = client.get(url)
        assert (answer.status, len(answer.ids())) == (200, found), (url, answer.content[:300])
    leap = patient(id="p2", deceasedDateTime="2016-12-31T23:59:60Z")
    assert client.ask("PUT", "Patient/p2", leap).status == 201
    assert client.get("Patient?death-date=2016-12-31").ids() == ["p2"]


@pytest.mark.parametrize(
    "since",
    ["Mon, 01 Jan 0001 00:00:00 +2359", "Fri, 31 Dec 9999 23:59:59 -2359", "x" * 5000, "1"],
)
def test_a_condition_that_is_no_date_is_as_none(client: Client, since: str) -> None:
    put(client)
    assert client.get("Patient/p1", If_Modified_Since=since).status == 200


def test_formats_that_are_not_served(client: Client) -> None:
    put(client)
    for accept in ("application/fhir+json; fhirVersion=3.0", "application/fhir+json;q=0", "text/turtle"):
        refused(client.get("Patient/p1", Accept=accept), 406, "http.accept", accept)
    for accept in ("application/fhir+json; fhirVersion=4.0", "text/turtle, application/json;q=0.5"):
        assert client.get("Patient/p1", Accept=accept).status == 200, accept
    old = {"Content_Type": "application/fhir+json; fhirVersion=5.0"}
    refused(client.ask("POST", "Patient", patient(), **old), 415, "http.content-type", old)
    packed = gzip.compress(json.dumps(patient()).encode())
    answer = client.ask("POST", "Patient", packed, Content_Encoding="gzip")
    refused(answer, 415, "http.content-encoding", "gzip")
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    refused(client.ask("POST", "Patient/_search", b"_format=xml", **form), 406, "http._format", "form")


def test_a_page_link_is_followed_as_it_is(client: Client, save_photograph: Save) -> None:
    for number in range(3):
        save_photograph(number)
    link = client.get("Observation?_count=1").link("next")
    assert link is not None
    token = link.partition("_page=")[2]
    history = client.get("Observation/_history?_count=1").link("next")
    owner = client.get("Patient").ids()[0]
    everything = client.get(f"Patient/{owner}/$everything?_count=1").link("next")
    for each in (link, history, everything):
        assert each is not None
        assert client.get(f"{each}&_format=json&_pretty=true").status == 200
        refused(client.get(f"{each}&patient=x"), 400, "http.patient", each)
        assert len(client.get(f"{each}&_count=9").json()["entry"]) == len(client.get(each).json()["entry"])
        refused(client.get(f"{each}&_page={token}"), 400, "http._page", each)
        refused(client.get(f"{each}!"), 400, "http._page", each)
        refused(client.get(each[:-2]), 400, "http._page", each)
    refused(client.get(f"Media?_page={token}"), 400, "http._page", "another type")
    refused(client.get("Observation?_page="), 400, "http._page", "none")


def test_last_n_takes_the_shape_of_a_search(client: Client, save_photograph: Save) -> None:
    save_photograph(1)
    owner = client.get("Patient").ids()[0]
    url = f"Observation/$lastn?patient={owner}"
    assert client.get(f"{url}&_include=Observation:subject").ids("include") == [owner]
    assert "component" not in client.get(f"{url}&_elements=status").json()["entry"][0]["resource"]


def test_everything_takes_its_types_together(client: Client, save_photograph: Save) -> None:
    save_photograph(1)
    owner = client.get("Patient").ids()[0]
    answer = client.get(f"Patient/{owner}/$everything?_type=Observation&_type=Media")
    assert {e["resource"]["resourceType"] for e in answer.json()["entry"]} == {"Observation", "Media"}


def test_more_than_can_be_included_is_said(
    client: Client, save_photograph: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reporting.fhir.search import searching

    for number in range(3):
        save_photograph(number)
    monkeypatch.setattr(searching, "MOST_INCLUDED", 2)
    answer = client.get("Patient?_revinclude=Observation:patient")
    assert len(answer.ids("include")) == 2
    (note,) = [e["resource"] for e in answer.json()["entry"] if e["search"]["mode"] == "outcome"]
    assert note["issue"][0]["code"] == "incomplete"


def test_export_filters_that_select_nothing_or_hold_a_comma(client: Client, save_photograph: Save) -> None:
    save_photograph(1)
    for query, expression in (
        ("_typeFilter=Observation?", "http._typeFilter"),
        ("_typeFilter=Observation?_count=5", "http._typeFilter"),
        ("_typeFilter=Observation?foo=1", "http._typeFilter"),
        ("_type=,", "http._type"),
        ("foo=1", "http.foo"),
        ("_since=2020-01-01&_since=2021-01-01", "http._since"),
    ):
        refused(client.get(f"$export?{query}", Prefer="respond-async"), 400, expression, query)
    wanted = "_type=Observation&_typeFilter=Observation?code=none,score,Observation?status=amended"
    started = client.get(f"$export?{wanted}", Prefer="respond-async")
    manifest = client.get(started.headers["content-location"]).json()
    assert len(client.get(manifest["output"][0]["url"]).content.splitlines()) == 1


def test_parameters_that_contradict_each_other(client: Client) -> None:
    twice = [{"name": "resource", "resource": patient(gender=g)} for g in ("male", "female")]
    body = {"resourceType": "Parameters", "parameter": twice}
    refused(client.ask("POST", "Patient/$validate", body), 400, "Parameters.parameter", body)
    url = "Patient/$validate?mode=create&mode=delete"
    refused(client.ask("POST", url, patient()), 400, "http.mode", url)
    unknown = {"resourceType": "Parameters", "parameter": [twice[0], {"name": "foo", "valueString": "x"}]}
    strict = client.ask("POST", "Patient/$validate", unknown, Prefer="handling=strict")
    refused(strict, 400, "http.foo", unknown)
    odd = [{"name": "patient", "valueString": "p"}, {"name": "code", "valueCoding": {"code": ["x"]}}]
    answer = client.ask("POST", "Observation/$lastn", {"resourceType": "Parameters", "parameter": odd})
    refused(answer, 400, "Parameters.parameter[1]", odd)


def test_a_failure_of_ours_is_recorded_too(api: Api, client: Client) -> None:
    """Provoked by a table that is not there for as long as one request lasts."""
    with transaction(api.pool) as connection:
        connection.execute("ALTER TABLE fhir_template RENAME TO fhir_template_elsewhere")
    answer = client.get("Patient/p1")
    with transaction(api.pool) as connection:
        connection.execute("ALTER TABLE fhir_template_elsewhere RENAME TO fhir_template")
    assert (answer.status, answer.json()["issue"][0]["code"]) == (500, "exception")
    event = client.get("AuditEvent?outcome=8").json()["entry"][0]["resource"]
    assert event["outcomeDesc"] == "HTTP 500"
    assert base64.b64decode(event["entity"][-1]["query"]).decode() == "GET Patient/p1"
