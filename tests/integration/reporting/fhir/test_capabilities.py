"""What the CapabilityStatement lists is asked for and answered; what it does not list is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.reporting.fhir.conftest import Answer, Client, Save

# A value of each kind of parameter that is well formed and need not be found.
VALUES = {
    "token": ["a", "http://a.example|b", "|c", "d|"],
    "string": ["a", "Ã,b"],
    "date": ["2026", "ge2026-01-01", "lt2026-01-01T10:00:00+13:00", "ap2026-01"],
    "quantity": ["1", "ge1.5", "2||mm"],
    "uri": ["urn:a", "http://a.example"],
    "reference": ["http://ehr.example/fhir/Patient/1", "urn:uuid:1"],
    "composite": ["score$ge1"],
}
MODIFIERS = {"token": ["not"], "string": ["exact", "contains"], "reference": ["identifier"]}


@pytest.fixture
def asked(client: Client, save: Save) -> Client:
    """A server with a patient, a photograph and an operation."""
    save()
    patient = client.get("Patient").ids()[0]
    surgery = {
        "resourceType": "Procedure",
        "status": "completed",
        "subject": {"reference": f"Patient/{patient}"},
        "performedDateTime": "2025-04-01",
    }
    assert client.ask("POST", "Procedure", surgery).status == 201
    return client


def listed(client: Client) -> list[dict[str, Any]]:
    resources: list[dict[str, Any]] = client.get("metadata").json()["rest"][0]["resource"]
    return resources


def searchable(client: Client) -> Iterator[dict[str, Any]]:
    for each in listed(client):
        if {"code": "search-type"} in each["interaction"]:
            yield each


def bundle(answer: Answer, asked: str) -> dict[str, Any]:
    assert answer.status == 200, (asked, answer.content[:300])
    body: dict[str, Any] = answer.json()
    assert (body["resourceType"], body["type"]) == ("Bundle", "searchset"), asked
    outcomes = [e for e in body.get("entry", []) if e["search"]["mode"] == "outcome"]
    assert outcomes == [], (asked, outcomes)
    return body


def test_every_parameter_and_modifier_is_answered(asked: Client) -> None:
    for each in searchable(asked):
        name = each["type"]
        whole = {e["resource"]["id"] for e in bundle(asked.get(f"{name}?_count=1000"), name).get("entry", [])}
        for parameter in each["searchParam"]:
            kind, key = parameter["type"], parameter["name"]
            for value in VALUES[kind]:
                bundle(asked.get(f"{name}?{key}={value}"), f"{name}?{key}={value}")
            for modifier in MODIFIERS.get(kind, []):
                bundle(asked.get(f"{name}?{key}:{modifier}=a"), f"{name}?{key}:{modifier}")
            if kind == "composite":
                continue
            found = []
            for missing in ("true", "false"):
                url = f"{name}?{key}:missing={missing}&_count=1000"
                found.append({e["resource"]["id"] for e in bundle(asked.get(url), url).get("entry", [])})
            if name != "AuditEvent":  # of which each search makes one more
                assert found[0] | found[1] == whole, (name, key)
                assert found[0] & found[1] == set(), (name, key)


def test_every_include_is_answered_with_what_is_referred_to(asked: Client) -> None:
    for each in searchable(asked):
        for include in [*each.get("searchInclude", []), f"{each['type']}:*"]:
            body = bundle(asked.get(f"{each['type']}?_include={include}"), include)
            matches = [e["resource"] for e in body.get("entry", []) if e["search"]["mode"] == "match"]
            included = [e["resource"] for e in body.get("entry", []) if e["search"]["mode"] == "include"]
            referred = {r for match in matches for r in references(match)}
            for resource in included:
                name = f"{resource['resourceType']}/{resource['id']}"
                # the patient of a Provenance is that of what it is about
                assert name in referred or (each["type"], resource["resourceType"]) == (
                    "Provenance",
                    "Patient",
                )


def test_every_reverse_include_is_answered_with_all_that_refers(asked: Client) -> None:
    found = 0
    for each in searchable(asked):
        for include in each.get("searchRevInclude", []):
            source, parameter = include.split(":")
            body = bundle(asked.get(f"{each['type']}?_revinclude={include}&_count=1000"), include)
            included = {
                e["resource"]["id"] for e in body.get("entry", []) if e["search"]["mode"] == "include"
            }
            if source == "AuditEvent":
                continue  # each search makes one more
            matches = [e["resource"]["id"] for e in body.get("entry", []) if e["search"]["mode"] == "match"]
            expected: set[str] = set()
            for target in matches:
                url = f"{source}?{parameter}={each['type']}/{target}&_count=1000"
                expected |= set(bundle(asked.get(url), url) and asked.get(url).ids())
            if source == each["type"]:
                expected -= set(matches)  # a match is not included once more
            assert included == expected, (each["type"], include)
            found += len(included)
    assert found > 10


def test_every_sort_key_is_answered_in_its_order(asked: Client) -> None:
    for each in searchable(asked):
        keys = re.search(r"Sort keys: ([^.]+)\.", each["documentation"])
        assert keys is not None, each["type"]
        for key in keys[1].split(", "):
            up, down = (
                bundle(asked.get(f"{each['type']}?_sort={sign}{key}&_count=1000"), key) for sign in ("", "-")
            )
            if each["type"] != "AuditEvent":
                ids = [{e["resource"]["id"] for e in body.get("entry", [])} for body in (up, down)]
                assert ids[0] == ids[1], (each["type"], key)
            paged = asked.get(f"{each['type']}?_sort=-{key}&_count=1")
            while (link := paged.link("next")) is not None and each["type"] != "AuditEvent":
                paged = asked.get(link)
                assert paged.status == 200


def test_what_is_not_listed_is_refused(asked: Client) -> None:
    for each in searchable(asked):
        name = each["type"]
        known = {p["name"] for p in each["searchParam"]}
        for wrong in ("_filter=a", "_text=a", "unheard=a", *(f"{p}:above=a" for p in sorted(known))):
            assert asked.get(f"{name}?{wrong}", Prefer="handling=strict").status == 400, (name, wrong)
        for wrong in ("_include=Patient:unheard", "_revinclude=Observation:unheard", "_sort=unheard"):
            assert asked.get(f"{name}?{wrong}").status == 400, (name, wrong)


def test_what_is_read_is_listed(asked: Client) -> None:
    types = {each["type"]: {i["code"] for i in each["interaction"]} for each in listed(asked)}
    assert types["Binary"] == {"read"}
    assert asked.get("Binary?_id=1").status == 405
    statement = asked.get("metadata").json()
    assert statement["instantiates"] == ["http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for inner in value:
            yield from references(inner)
    elif isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for inner in value.values():
            yield from references(inner)
