"""HTTP as FHIR uses it: formats, versions, conditions, errors."""

from __future__ import annotations

from fhir.resources.R4B.capabilitystatement import CapabilityStatement

from reporting.fhir.http import Api
from reporting.fhir.search_table import RESOURCE_TYPES
from tests.integration.reporting.fhir.conftest import Client, Save


def observation(save: Save) -> str:
    return next(
        f"Observation/{s.resource.resource_id}" for s in save() if s.resource.resource_type == "Observation"
    )


def test_the_capability_statement_says_what_the_table_serves(client: Client) -> None:
    answer = client.get("metadata")
    statement = answer.json()
    CapabilityStatement.model_validate(statement)
    assert statement["fhirVersion"] == "4.0.1"
    searched = [r for r in statement["rest"][0]["resource"] if r["type"] != "Binary"]  # is read alone
    served = {r["type"]: {p["name"] for p in r["searchParam"]} for r in searched}
    assert served == {name: set(row.parameters) for name, row in RESOURCE_TYPES.items()}


def test_every_parameter_of_the_capability_statement_is_answered(client: Client, save: Save) -> None:
    save()
    values = {"token": "x", "reference": "x", "date": "2020", "string": "x", "quantity": "1", "uri": "x",
              "composite": "x$1"}  # fmt: skip
    for resource in client.get("metadata").json()["rest"][0]["resource"]:
        for parameter in resource.get("searchParam", []):
            url = f"{resource['type']}?{parameter['name']}={values[parameter['type']]}"
            assert client.get(url).status == 200, url
            if parameter["type"] != "composite":
                assert client.get(f"{resource['type']}?{parameter['name']}:missing=true").status == 200, url


def test_formats(client: Client, save: Save) -> None:
    path = observation(save)
    accepted = {
        "application/fhir+json": "application/fhir+json",
        "application/json": "application/json",
        "application/fhir+json, */*; q=0.1": "application/fhir+json",
        "text/html,application/xhtml+xml,*/*;q=0.8": "application/fhir+json",
        "application/json+fhir": "application/json",
    }
    for accept, expected in accepted.items():
        answer = client.get(path, Accept=accept)
        assert (answer.status, answer.headers["content-type"]) == (200, expected), accept
    assert client.get(path, Accept="application/fhir+xml").status == 406
    assert client.get(f"{path}?_format=json").status == 200
    assert client.get(f"{path}?_format=application/fhir%2Bjson").status == 200
    assert client.get(f"{path}?_format=xml").status == 406
    assert client.get(f"{path}?_pretty=true").content.startswith(b'{\n  "resourceType"')
    text_only = client.get(f"{path}?_summary=text").json()
    assert "component" not in text_only


def test_conditional_reads(client: Client, save: Save) -> None:
    path = observation(save)
    first = client.get(path)
    assert first.headers["etag"] == 'W/"1"'
    assert client.get(path, If_None_Match='W/"1"').status == 304
    assert client.get(path, If_None_Match='W/"1"').content == b""
    assert client.get(path, If_None_Match='W/"2"').status == 200
    assert client.get(path, If_Modified_Since=first.headers["last-modified"]).status == 304
    assert client.get(path, If_Modified_Since="Thu, 01 Jan 2015 00:00:00 GMT").status == 200
    assert client.get(path, If_Modified_Since="soon").status == 200


def test_versions_and_histories(client: Client, save: Save) -> None:
    path = observation(save)
    assert client.get(f"{path}/_history/1").json() == client.get(path).json()
    for missing in ("2", "0", "x", "99999999999999999999"):
        assert client.get(f"{path}/_history/{missing}").status == 404
    assert client.get(f"{path}/_history").json()["total"] == 1
    everything = client.get("Media/_history?_count=1")
    link = everything.link("next")
    assert link is not None
    assert (
        client.get(link).json()["entry"][0]["resource"]["id"]
        != everything.json()["entry"][0]["resource"]["id"]
    )
    assert "entry" not in client.get("Media/_history?_since=2999-01-01T00:00:00Z").json()
    assert client.get("Media/_history?_since=soon").status == 400
    assert client.get("Media/none/_history").status == 404


def test_what_is_not_there(client: Client) -> None:
    for url, status in (
        ("Observation/none", 404), ("Banana", 404), ("Banana/1", 404), ("", 405),
        ("Observation/1/2/3/4", 404),
        ("Observation/%00", 400), ("Observation?code=%00", 400), ("Observation/$banana", 404),
        ("Observation?code=%ff", 400),
    ):  # fmt: skip
        answer = client.get(url)
        assert answer.status == status, url
        assert answer.json()["resourceType"] == "OperationOutcome"
    refused = client.ask("DELETE", "Observation/1")
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD, PUT")


def test_a_lost_database_is_said_and_passes(api: Api, client: Client) -> None:
    with api.pool.connection() as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND datname = current_database()"
        )
    assert client.get("Observation").status == 200
    api.pool.close()
    answer = client.get("Observation")
    assert answer.status == 503
    assert answer.headers["retry-after"] == "5"
    assert answer.json()["issue"][0]["code"] == "transient"
