"""Resources and Bundles that clients write."""

from __future__ import annotations

from typing import Any

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "identifier": [{"system": "urn:oid:1.2.3", "value": "77"}],
    "name": [{"family": "Doe", "given": ["Jane"]}],
    "birthDate": "2019-02-12",
}


def procedure(patient: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Procedure",
        "status": "completed",
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "172735006"}]},
        "subject": {"reference": patient},
        "performedDateTime": "2025-04-01",
    } | more


def bundle_of(*entries: dict[str, Any], kind: str = "transaction") -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def post(resource: dict[str, Any], full_url: str = "", **request: str) -> dict[str, Any]:
    entry = {"resource": resource, "request": {"method": "POST", "url": resource["resourceType"]} | request}
    return entry | ({"fullUrl": full_url} if full_url else {})
