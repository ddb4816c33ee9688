"""Results, and taking them back."""

from __future__ import annotations

from reporting.fhir.database.records import Saved
from tests.integration.reporting.fhir.conftest import Answer, Client


def observation_of(saved: list[Saved]) -> str:
    return next(s.resource.resource_id for s in saved if s.resource.resource_type == "Observation")


def withdraw(client: Client, observation_id: str, reason: str = "wrong patient") -> Answer:
    body = {"resourceType": "Parameters", "parameter": [{"name": "reason", "valueString": reason}]}
    return client.ask("POST", f"Observation/{observation_id}/$withdraw", body)
