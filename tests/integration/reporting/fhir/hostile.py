"""What hostile requests are made of, and what a refusal is."""

from __future__ import annotations

from typing import Any

from tests.integration.reporting.fhir.conftest import Client


def patient(**more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "name": [{"family": "Weiß"}], **more}


def procedure(**more: Any) -> dict[str, Any]:
    subject = {"reference": "Patient/p1"}
    return {"resourceType": "Procedure", "status": "completed", "subject": subject, **more}


def entry(resource: Any = None, method: Any = "POST", url: Any = "Patient", **asked: Any) -> dict[str, Any]:
    return {"request": {"method": method, "url": url, **asked}, "resource": resource or patient()}


def bundle(*entries: Any, kind: str = "transaction") -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def put(client: Client, **more: Any) -> None:
    assert client.ask("PUT", "Patient/p1", patient(id="p1", **more)).status in (200, 201)


def refused(answer: Any, status: int, expression: str, asked: object) -> None:
    assert answer.status == status, (asked, answer.content[:300])
    issue = answer.json()["issue"][0]
    assert (issue["severity"], issue.get("expression")) == ("error", [expression]), (asked, issue)
