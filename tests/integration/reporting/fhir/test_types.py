"""JSON of wrong types is refused where it is wrong, and no body whatever gives a 5xx."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.integration.reporting.fhir.conftest import Client
from tests.integration.reporting.fhir.fuzz import send

XHTML = "xmlns='http://www.w3.org/1999/xhtml'"
BODIES = int(os.environ.get("FHIR_FUZZ_BODIES", "400"))  # a long run: 20000


def test_no_body_gives_a_server_error(client: Client) -> None:
    statuses, failed = send(client, BODIES, seed=BODIES)
    assert failed == [], [
        (each.method, each.url, each.body, each.answer.content[:300]) for each in failed[:5]
    ]
    assert sum(statuses.values()) >= BODIES
    assert {200, 400, 422} <= set(statuses)


@pytest.mark.parametrize(
    ("wrong", "expression"),
    [
        ({"active": "yes"}, "Patient.active"),
        ({"active": 1}, "Patient.active"),
        ({"multipleBirthInteger": "2"}, "Patient.multipleBirthInteger"),
        ({"multipleBirthInteger": 2.5}, "Patient.multipleBirthInteger"),
        ({"extension": [{"url": "u", "valueDecimal": "3.5"}]}, "Patient.extension[0].valueDecimal"),
        ({"birthDate": 0}, "Patient.birthDate"),
        ({"contact": None}, "Patient.contact"),
        ({"contained": None}, "Patient.contained"),
        ({"contained": [3]}, "Patient.contained[0]"),
        ({"name": {"family": "Doe"}}, "Patient.name"),
        ({"name": [{"family": 5}]}, "Patient.name[0].family"),
        ({"name": [{"given": ["a", None]}]}, "Patient.name[0].given"),
        ({"gender": ["female"]}, "Patient.gender"),
        ({"fhir_comments": "a"}, "Patient.fhir_comments"),
        ({"active__ext": {"id": "a"}}, "Patient.active__ext"),
        ({"telecom": [{"value": "1"}]}, "Patient.telecom[0]"),
        ({"text": {"status": "generated", "div": "<script/>"}}, "Patient.text.div"),
        (
            {
                "text": {
                    "status": "generated",
                    "div": f"<div {XHTML}>a<script/></div>",
                }
            },
            "Patient.text.div",
        ),
        (
            {
                "text": {
                    "status": "generated",
                    "div": f"<div {XHTML} onclick='x'>a</div>",
                }
            },
            "Patient.text.div",
        ),
    ],
)
def test_what_is_of_a_wrong_type_is_refused_where_it_is(
    client: Client, wrong: dict[str, Any], expression: str
) -> None:
    body = {"resourceType": "Patient", **wrong}
    for method, url in (("POST", "Patient"), ("POST", "Patient/$validate")):
        answer = client.ask(method, url, body)
        assert answer.status == (200 if "$" in url else 422)
        assert expression in [x for issue in answer.json()["issue"] for x in issue.get("expression", [])]


@pytest.mark.parametrize(
    "wrong",
    [
        {"referenceRange": [{"type": {"text": "normal"}}]},
        {"valueQuantity": {"value": 1, "code": "mm"}},
        {"valueQuantity": {"value": 1, "comparator": "~"}},
        {"valueQuantity": {"value": "1"}},
        {"referenceRange": [{"low": {"value": 1, "comparator": "<"}}]},
        {"subject": {"reference": "Procedure/1"}},
    ],
)
def test_validate_refuses_what_r4_forbids(client: Client, wrong: dict[str, Any]) -> None:
    body = {"resourceType": "Observation", "status": "final", "code": {"text": "a"}, **wrong}
    issues = client.ask("POST", "Observation/$validate", body).json()["issue"]
    assert [issue["severity"] for issue in issues] == ["error"]


def test_a_part_of_a_resource_is_not_written(client: Client) -> None:
    whole = {"resourceType": "Patient", "id": "p", "gender": "female", "birthDate": "2019-02-12"}
    client.ask("PUT", "Patient/p", whole)
    part = client.get("Patient/p?_elements=gender").json()
    assert client.ask("PUT", "Patient/p", part).status == 422
    assert client.get("Patient/p").json()["birthDate"] == "2019-02-12"
    assert "deceasedBoolean" not in client.get("Patient/p?_elements=deceased").json()
