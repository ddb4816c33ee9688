"""schemathesis against our OpenAPI document: no 5xx, no undocumented status, whatever is sent."""

from __future__ import annotations

import hypothesis
import schemathesis

from reporting.fhir.http import Api
from reporting.fhir.search_table import RESOURCE_TYPES
from reporting.http.fhir_app import FhirApp
from reporting.http.fhir_routes import ROUTES
from tests.integration.reporting.fhir.conftest import Client, Save

EXAMPLES = 6  # of each operation
HOST = {"Host": "127.0.0.1"}  # the client's own, "testserver", is not a name the API answers to


def test_every_route_is_documented(client: Client) -> None:
    paths = client.get("openapi.json", Accept="application/json").json()["paths"]
    undocumented = {("openapi.json",), (".well-known", "smart-configuration"), ("auth", "token")}
    for route in ROUTES:
        if route.pattern in undocumented or route.pattern[:2] == ("Patient", "$export"):
            continue
        names = RESOURCE_TYPES if "{type}" in route.pattern else ["-"]
        matching = [
            name
            for name in names
            if route.method.lower() in paths.get("/" + "/".join(route.pattern).replace("{type}", name), {})
        ]
        assert matching or route.pattern == ("{type}", "{id}", "$validate"), route


def test_whatever_is_sent_the_answer_is_documented(api: Api, client: Client, save: Save) -> None:
    save()
    schema = schemathesis.openapi.from_asgi("/fhir/openapi.json", FhirApp(api), headers=HOST)
    asked = 0
    for result in schema.get_all_operations():
        operation = result.ok()

        @hypothesis.settings(
            max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )  # fmt: skip
        @hypothesis.given(case=operation.as_strategy())
        def ask(case: schemathesis.Case) -> None:
            nonlocal asked
            asked += 1
            response = case.call(headers=HOST)
            documented = {int(status) for status in case.operation.definition.raw["responses"]}
            assert response.status_code in documented, (case.method, case.formatted_path, response.text)
            assert response.status_code < 500, (case.method, case.formatted_path, response.text)

        ask()
    assert asked > 300
