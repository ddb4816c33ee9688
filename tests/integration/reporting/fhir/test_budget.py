"""A request that keeps the database busy for too long: an answer, a record, and nothing half written."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from reporting.fhir.http import Api
from reporting.http.fhir_app import FhirApp
from reporting.http.server import make_api
from service.config import Settings
from service.database.budget import budget
from service.database.pool import transaction
from service.errors import StatementTimeoutError
from tests.integration.reporting.fhir.conftest import Client

PATIENT = {"resourceType": "Patient", "id": "late", "active": True}


@pytest.fixture
def hurried(settings: Settings) -> Iterator[Api]:
    """An API whose requests are over before their first statement."""
    made = make_api(settings.model_copy(update={"api_port": 8080, "api_request_timeout_s": 1e-9}))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "Observation?code=x", None),
        ("GET", "Patient/late", None),
        ("PUT", "Patient/late", PATIENT),
        (
            "POST",
            "",
            {
                "resourceType": "Bundle",
                "type": "transaction",
                "entry": [{"resource": PATIENT, "request": {"method": "PUT", "url": "Patient/late"}}],
            },
        ),
    ],
)
def test_a_request_after_its_time_is_told_to_ask_for_less(
    hurried: Api, client: Client, method: str, path: str, body: dict[str, object] | None
) -> None:
    answer = Client(FhirApp(hurried)).ask(method, path, body)
    assert answer.status == 503
    assert answer.json()["issue"][0]["code"] == "too-costly"
    assert client.get("Patient/late").status == 404
    assert client.get("AuditEvent?outcome=8&_summary=count").json()["total"] == 1


def ask_until_told(api: Api) -> None:
    began = time.monotonic()
    with transaction(api.pool) as connection:
        while time.monotonic() - began < 30:
            connection.execute("SELECT pg_sleep(.05)")


def test_the_statements_of_one_request_share_its_time(api: Api) -> None:
    with budget(0.2):
        with transaction(api.pool) as connection:
            connection.execute("SELECT 1")
        with pytest.raises(StatementTimeoutError):
            ask_until_told(api)
    with transaction(api.pool) as connection:
        connection.execute("SELECT 1")
