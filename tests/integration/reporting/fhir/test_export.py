"""Bulk Data export, asked by hand."""

from __future__ import annotations

import json
from typing import Any

from tests.integration.reporting.fhir.conftest import Answer, Client, Save


def start(client: Client, url: str) -> Answer:
    answer = client.get(url, Accept="application/fhir+json", Prefer="respond-async")
    assert answer.status == 202, answer.content
    return answer


def lines(client: Client, manifest: dict[str, Any]) -> list[dict[str, Any]]:
    made = []
    for output in manifest["output"]:
        answer = client.get(output["url"], Accept="application/fhir+ndjson")
        assert answer.headers["content-type"] == "application/fhir+ndjson"
        rows = [json.loads(line) for line in answer.content.decode().splitlines()]
        assert all(row["resourceType"] == output["type"] for row in rows)
        assert output.get("count", len(rows)) == len(rows)
        made += rows
    return made


def manifest_of(client: Client, started: Answer) -> dict[str, Any]:
    answer = client.get(started.headers["content-location"], Accept="application/json")
    assert answer.status == 200
    manifest: dict[str, Any] = answer.json()
    return manifest


def test_a_system_export_is_everything(client: Client, save_photograph: Save) -> None:
    for number in range(3):
        save_photograph(number)
    manifest = manifest_of(client, start(client, "$export"))
    assert manifest["requiresAccessToken"] is False
    rows = lines(client, manifest)
    counted = {t: sum(r["resourceType"] == t for r in rows) for t in {r["resourceType"] for r in rows}}
    assert counted["Observation"] == 3
    assert counted["Patient"] == 1
    assert counted["CodeSystem"] == 1
    assert rows == lines(client, manifest)


def test_an_export_is_as_of_its_moment(client: Client, save_photograph: Save) -> None:
    save_photograph(1)
    patient = client.get("Patient").json()["entry"][0]["resource"]
    started = start(client, "$export?_type=Patient,Observation")
    save_photograph(2)
    client.ask("PUT", f"Patient/{patient['id']}", patient | {"gender": "other"})
    rows = lines(client, manifest_of(client, started))
    assert [r["resourceType"] for r in rows] == ["Patient", "Observation"]
    assert rows[0] == patient
    later = manifest_of(client, start(client, "$export?_type=Patient,Observation"))
    since = manifest_of(client, started)["transactionTime"]
    newer = lines(
        client, manifest_of(client, start(client, f"$export?_type=Patient,Observation&_since={since}"))
    )
    assert len(lines(client, later)) == 3
    assert sorted(r["resourceType"] for r in newer) == ["Observation", "Patient"]


def test_patient_export_leaves_out_what_is_no_patients(client: Client, save_photograph: Save) -> None:
    save_photograph(1)
    types = {o["type"] for o in manifest_of(client, start(client, "Patient/$export"))["output"]}
    assert "Observation" in types
    assert "CodeSystem" not in types


def test_type_filters(client: Client, save_photograph: Save) -> None:
    for number in range(4):
        save_photograph(number, score=float(number))
    filters = "Observation%3Fvalue-quantity%3Dlt1,Observation%3Fvalue-quantity%3Dgt2"
    url = f"$export?_type=Observation&_typeFilter={filters}"
    values = [r["valueQuantity"]["value"] for r in lines(client, manifest_of(client, start(client, url)))]
    assert sorted(values) == [0.0, 3.0]


def test_cancel(client: Client, save_photograph: Save) -> None:
    save_photograph(1)
    started = start(client, "$export")
    manifest = manifest_of(client, started)
    assert client.ask("DELETE", started.headers["content-location"]).status == 202
    assert client.get(started.headers["content-location"]).status == 404
    assert client.get(manifest["output"][0]["url"]).status == 404
    assert client.ask("DELETE", started.headers["content-location"]).status == 404


def test_refusals(client: Client) -> None:
    assert client.get("$export").status == 400
    for url in (
        "$export?_type=Banana", "$export?_since=soon", "$export?_outputFormat=csv", "$export?_banana=1",
        "$export?_type=Patient&_typeFilter=Observation%3Fcode%3Dx",
        "$export?_typeFilter=Patient%3Fbanana%3D1",
    ):  # fmt: skip
        assert client.get(url, Prefer="respond-async").status == 400, url
    assert client.get("$export-status/nothing").status == 404
