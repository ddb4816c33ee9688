"""Bulk Data export, asked by hand."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from reporting.fhir.read import export
from reporting.http.fhir_app import FhirApp
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


def test_a_large_export_is_planned_over_several_polls(
    client: Client, save_photograph: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        save_photograph(number)
    started = start(client, "$export?_type=Patient,Observation")
    location = started.headers["content-location"]
    monkeypatch.setattr(export, "PLAN_S", -1.0)
    monkeypatch.setattr(export, "ROWS_PER_FILE", 2)
    polls = []
    while (answer := client.get(location)).status == 202:
        polls.append((answer.headers["x-progress"], answer.headers["retry-after"]))
    assert polls == [
        ("1 files planned, at Observation", "1"),
        ("2 files planned, at Observation", "1"),
        ("3 files planned, at Observation", "1"),
    ]
    manifest = answer.json()
    assert [(o["type"], o["count"]) for o in manifest["output"]] == [
        ("Patient", 1), ("Observation", 2), ("Observation", 2), ("Observation", 1),
    ]  # fmt: skip
    assert len({row["id"] for row in lines(client, manifest)}) == 6
    assert client.get(location).json() == manifest


def test_an_export_cancelled_while_it_is_planned_is_gone(
    client: Client, save_photograph: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_photograph(1)
    location = start(client, "$export").headers["content-location"]
    monkeypatch.setattr(export, "PLAN_S", -1.0)
    assert client.get(location).status == 202
    assert client.ask("DELETE", location).status == 202
    assert client.get(location).status == 404


def test_refusals(client: Client) -> None:
    assert client.get("$export").status == 400
    for url in (
        "$export?_type=Banana", "$export?_since=soon", "$export?_outputFormat=csv", "$export?_banana=1",
        "$export?_type=Patient&_typeFilter=Observation%3Fcode%3Dx",
        "$export?_typeFilter=Patient%3Fbanana%3D1",
    ):  # fmt: skip
        assert client.get(url, Prefer="respond-async").status == 400, url
    assert client.get("$export-status/nothing").status == 404


def test_an_export_by_post(client: Client, save_photograph: Save) -> None:
    save_photograph(1)
    asked = [{"name": "_type", "valueString": "Patient"}, {"name": "_type", "valueString": "Device"}]
    body = {"resourceType": "Parameters", "parameter": asked}
    started = client.ask("POST", "$export", body, Prefer="respond-async")
    assert started.status == 202, started.content
    rows = lines(client, manifest_of(client, started))
    assert {r["resourceType"] for r in rows} == {"Patient", "Device"}
    patients = client.ask("POST", "Patient/$export", {"resourceType": "Parameters"}, Prefer="respond-async")
    assert patients.status == 202
    unknown = {"resourceType": "Parameters", "parameter": [{"name": "patient", "valueString": "x"}]}
    assert client.ask("POST", "Patient/$export", unknown, Prefer="respond-async").status == 400


def test_a_file_over_many_chunks_is_whole_and_in_order(
    client: Client, save_photograph: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        save_photograph(number)
    manifest = manifest_of(client, start(client, "$export?_type=Observation"))
    whole = client.get(manifest["output"][0]["url"]).content
    assert whole.count(b"\n") == 7
    monkeypatch.setattr(export, "ROWS_PER_CHUNK", 2)
    assert client.get(manifest["output"][0]["url"]).content == whole


def streamed(app: FhirApp, url: str, *headers: tuple[bytes, bytes], gone_after: int | None = None) -> Any:
    """What a server would send: (start message, body); the client goes after some chunks."""
    sent: list[Any] = []
    asked = False

    async def run() -> None:
        gone = asyncio.Event()

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": b""}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)
            if gone_after is not None and len(sent) > gone_after:
                gone.set()
            await asyncio.sleep(0)  # lets the other side notice

        path = urlsplit(url).path
        scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(),
                 "query_string": b"", "headers": list(headers), "client": ("127.0.0.1", 1)}  # fmt: skip
        await app(scope, receive, send)

    asyncio.run(run())
    return sent[0], [message["body"] for message in sent[1:]]


def test_files_are_gzipped_on_demand_and_end_with_their_client(
    client: Client, save_photograph: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        save_photograph(number)
    monkeypatch.setattr(export, "ROWS_PER_CHUNK", 1)
    url = manifest_of(client, start(client, "$export?_type=Observation"))["output"][0]["url"]
    plain, pieces = streamed(client.app, url)
    assert (b"content-type", b"application/fhir+ndjson; charset=utf-8") in plain["headers"]
    assert b"".join(pieces).count(b"\n") == 6
    packed, zipped = streamed(client.app, url, (b"accept-encoding", b"gzip"))
    assert (b"content-encoding", b"gzip") in packed["headers"]
    assert gzip.decompress(b"".join(zipped)) == b"".join(pieces)
    _, some = streamed(client.app, url, gone_after=2)
    assert b"".join(some).count(b"\n") < 6


def test_a_filtered_export_is_of_its_moment(client: Client) -> None:
    def patient(name: str, gender: str) -> None:
        body = {"resourceType": "Patient", "id": name, "gender": gender}
        assert client.ask("PUT", f"Patient/{name}", body).status in (200, 201)

    for name, gender in (("stays", "male"), ("leaves", "male"), ("comes", "female"), ("never", "female")):
        patient(name, gender)
    started = client.get("$export?_type=Patient&_typeFilter=Patient?gender=male", Prefer="Respond-Async")
    assert started.status == 202
    patient("leaves", "female")
    patient("leaves", "other")
    patient("comes", "male")
    patient("new", "male")
    manifest = client.get(started.headers["content-location"]).json()
    (file,) = manifest["output"]
    lines = [json.loads(line) for line in client.get(file["url"]).content.splitlines()]
    assert {(line["id"], line["gender"]) for line in lines} == {("stays", "male"), ("leaves", "male")}
    assert all(line["meta"]["versionId"] == "1" for line in lines)
    assert set(client.get("Patient?gender=male").ids()) == {"stays", "comes", "new"}  # nothing was changed
