"""Metrics, probes, alerts and dashboard, on the whole product as it runs."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import promql_parser
import pytest
import yaml

from service.records import InstanceState
from tests.photographs import photograph
from tests.stack import RunningStack, run_stack
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "charts" / "semblance" / "files"
PROCESSES = ("node", "api", "relay", "worker-gpu", "worker-io")
_NAME = re.compile(r"\bsemblance_[a-z0-9_]+")


def _free_row(count: int) -> int:
    """First of so many free ports in a row."""
    for first in range(21000, 32000, count):
        held = []
        try:
            for port in range(first, first + count):
                held.append(socket.create_server(("127.0.0.1", port)))
        except OSError:
            continue
        else:
            return first
        finally:
            for each in held:
                each.close()
    raise AssertionError("no free ports")


@pytest.fixture(scope="module")
def doors() -> Iterator[tuple[RunningStack, dict[str, str]]]:
    first = _free_row(len(PROCESSES))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEMBLANCE_OPERATIONS_PORT", str(first))
        with run_stack(environment={"SEMBLANCE_DICOM_PROCESSES": "2"}) as running:
            urls = {name: f"http://127.0.0.1:{first + n}" for n, name in enumerate(PROCESSES)}
            yield running, urls


@pytest.fixture(scope="module")
def scraped(doors: tuple[RunningStack, dict[str, str]]) -> dict[str, str]:
    """Every process's metrics after a photograph has gone all the way, and an object was refused."""
    running, urls = doors
    sent = photograph()
    assert running.send(sent, "OPERATED") == 0
    running.wait_for(sent.SOPInstanceUID, InstanceState.DELIVERED)
    httpx.get(running.facts.fhir_url + "/Observation", timeout=20).raise_for_status()
    httpx.get(running.facts.fhir_url + "/Nonsense", timeout=20)
    return {name: httpx.get(url + "/metrics", timeout=20).text for name, url in urls.items()}


def value(metrics: str, sample: str) -> float:
    (found,) = [line for line in metrics.splitlines() if line.startswith(sample + " ")]
    return float(found.rpartition(" ")[2])


def test_every_process_is_alive_and_ready(doors: tuple[RunningStack, dict[str, str]]) -> None:
    for name, url in doors[1].items():
        assert httpx.get(url + "/healthz", timeout=20).json() == {"status": "ok"}, name
        said = httpx.get(url + "/readyz", timeout=20)
        assert said.status_code == 200, (name, said.text)
        assert said.json()["status"] == "ready"


def test_the_api_says_whether_it_is_ready_at_its_own_port_too(
    doors: tuple[RunningStack, dict[str, str]],
) -> None:
    root = doors[0].facts.fhir_url.removesuffix("/fhir")
    assert httpx.get(root + "/readyz", timeout=20).json() == {"status": "ready"}


def test_intake_is_counted_over_all_receiving_processes(scraped: dict[str, str]) -> None:
    counted = 'semblance_received_objects_total{sender="OPERATED",status="0x0000"}'
    assert value(scraped["node"], counted) == 1
    assert value(scraped["node"], "semblance_store_free_bytes") > 0


def test_each_step_and_the_way_to_the_appraisal_are_timed(scraped: dict[str, str]) -> None:
    gpu, io = scraped["worker-gpu"], scraped["worker-io"]
    assert value(gpu, 'semblance_step_seconds_count{outcome="done",step="appraise"}') == 1
    assert value(gpu, "semblance_appraised_after_seconds_count") == 1
    assert value(gpu, "semblance_batch_faces_count") >= 1
    assert value(io, 'semblance_step_seconds_count{outcome="done",step="report"}') == 1
    assert value(io, 'semblance_step_seconds_count{outcome="done",step="deliver"}') >= 1


def test_requests_are_counted_by_door_and_status(scraped: dict[str, str]) -> None:
    asked = 'semblance_http_request_seconds_count{door="fhir",method="GET",status="%s"}'
    assert value(scraped["api"], asked % "2xx") >= 1
    assert value(scraped["api"], asked % "4xx") >= 1


def test_the_relay_tells_how_the_installation_stands(scraped: dict[str, str]) -> None:
    relay = scraped["relay"]
    assert value(relay, "semblance_database_up") == 1
    assert value(relay, 'semblance_waiting{queue="gpu"}') == 0
    assert value(relay, 'semblance_pending_deliveries{destination="demo-pacs"}') == 0
    assert value(relay, 'semblance_breaker_open{destination="demo-pacs"}') == 0
    assert value(relay, 'semblance_resting{kind="dead"}') == 0
    (method,) = re.findall(r'semblance_newest_photographs\{method="([^"]+)"\} 1\.0', relay)
    assert method.startswith("default ")


def test_no_metric_tells_of_a_patient(
    doors: tuple[RunningStack, dict[str, str]], scraped: dict[str, str]
) -> None:
    running = doors[0]
    sent = photograph()
    for of_patient in (sent.SOPInstanceUID, str(sent.PatientID), str(sent.PatientName)):
        assert of_patient
        assert all(of_patient not in text for text in scraped.values())
    assert running.facts.dicom_port


def _expressions() -> dict[str, list[str]]:
    rules = yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"][0]["rules"]
    panels = json.loads((FILES / "dashboard.json").read_text())["panels"]
    return {
        **{rule["alert"]: [rule["expr"]] for rule in rules},
        **{panel["title"]: [target["expr"] for target in panel["targets"]] for panel in panels},
    }


# Told only when there is something to tell: two of them need fifty photographs on either side.
_LATER = {
    "semblance_drift_distance",
    "semblance_drift_limit",
    "semblance_below_p5_share",
    "semblance_rejected_reason_share",
}


def test_alerts_and_dashboard_ask_for_what_there_is(scraped: dict[str, str]) -> None:
    told = {
        line.split()[2]
        for text in scraped.values()
        for line in text.splitlines()
        if line.startswith("# TYPE semblance_")
    }
    for where, expressions in _expressions().items():
        for expression in expressions:
            promql_parser.parse(expression)
            for name in _NAME.findall(expression):
                family = re.sub(r"_(bucket|sum|count)$", "", name)
                assert {name, family} & (told | _LATER), f"{where}: nobody tells {name}"


def test_the_parser_of_expressions_can_fail() -> None:
    with pytest.raises(ValueError, match=r"unexpected|unclosed|expected"):
        promql_parser.parse("sum by (queue semblance_waiting")


def test_every_metric_and_every_alert_is_explained(scraped: dict[str, str]) -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    for metrics in scraped.values():
        for line in metrics.splitlines():
            if line.startswith("# TYPE semblance_"):
                name = line.split()[2]
                assert f"`{name}`" in text, name
    for rule in yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"][0]["rules"]:
        assert f"### {rule['alert']}\n" in text


def test_without_the_database_nobody_is_ready_and_all_live(
    doors: tuple[RunningStack, dict[str, str]], scraped: dict[str, str]
) -> None:
    running, urls = doors
    assert scraped
    running.stack.postgres.stop()
    try:
        for name, url in urls.items():

            def is_not_ready(url: str = url) -> bool:
                return httpx.get(url + "/readyz", timeout=30).status_code == 503

            wait_until(is_not_ready, timeout_s=30, what=f"{name} to be not ready")
            assert "database" in httpx.get(url + "/readyz", timeout=30).json()["failed"], name
            assert httpx.get(url + "/healthz", timeout=20).status_code == 200, name
        relay = httpx.get(urls["relay"] + "/metrics", timeout=30).text
        assert value(relay, "semblance_database_up") == 0
        root = running.facts.fhir_url.removesuffix("/fhir")
        assert httpx.get(root + "/readyz", timeout=30).status_code == 503
    finally:
        running.stack.postgres.start()
    for name, url in urls.items():

        def is_ready(url: str = url) -> bool:
            return httpx.get(url + "/readyz", timeout=30).status_code == 200

        wait_until(is_ready, timeout_s=60, what=f"{name} to be ready again")
